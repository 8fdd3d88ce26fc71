"""The files in which images' score maps are kept, and the folder that holds them."""

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmwood.fileio.files import atomic_write, file_sha256

__all__ = [
    "MAPS",
    "ScoreMaps",
    "load_score_maps",
    "read_score_manifest",
    "save_score_maps",
    "score_path",
]

#: The maps that can be kept: on the stride-4 grid, and at the image's size.
MAPS = ("strided", "full")


@dataclass
class ScoreMaps:
    """What is kept of one image: an uncompressed ``.npz`` without pickled objects.

    Attributes:
        classes: Which class each map belongs to, from 0. Shape: (n,) int64.
        scores: The classifier's probability of every class. Shape: (C,) float32.
        strided: Maps on the stride-4 grid, or None.
            Shape: (n, (H-1)//4+1, (W-1)//4+1) float16.
        full: Maps at the image's size, or None. Shape: (n, H, W) float16.
    """

    classes: np.ndarray
    scores: np.ndarray
    strided: np.ndarray | None = None
    full: np.ndarray | None = None


def save_score_maps(path: str | os.PathLike, maps: ScoreMaps) -> None:
    """Write score maps, atomically; equal maps give equal bytes."""
    arrays = {key: value for key, value in vars(maps).items() if value is not None}
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)


def load_score_maps(path: str | os.PathLike, needs: Iterable[str] = ()) -> ScoreMaps:
    """Read score maps; the archive's checksums are verified.

    Args:
        path: The file.
        needs: Which of :data:`MAPS` must be there.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or lacks what is needed.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        maps = ScoreMaps(**arrays)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not hold score maps: {error}") from error
    for key in needs:
        if getattr(maps, key) is None:
            raise ValueError(f"{path} holds no {key!r} maps")
    return maps


def score_path(folder: str | os.PathLike, name: str) -> Path:
    """Where :class:`mmwood.PseudoLabelHook` keeps the score maps of an image.

    Args:
        folder: The hook's ``out_dir``.
        name: The image's id.
    """
    return Path(folder, "scores", f"{name}.npz")


def read_score_manifest(
    folder: str | os.PathLike,
    classes: Sequence[str],
    checkpoint: str | os.PathLike | None = None,
    field: str = "score_dir",
) -> dict:
    """What made the score maps of a folder; maps that do not fit are refused.

    Args:
        folder: The ``out_dir`` of a finished :class:`mmwood.PseudoLabelHook`.
        classes: The class names that its maps must be of, in this order.
        checkpoint: The file that they must have been made with, or None.
        field: What messages call the folder.

    Raises:
        FileNotFoundError: There is no manifest, or no such checkpoint.
        ValueError: The manifest is damaged, of an unfinished run, of other classes or
            of another checkpoint, or no maps were kept.
    """
    path = Path(folder, "manifest.json")
    if not path.is_file():
        raise FileNotFoundError(
            f"{field}: there is no {path}; tools/test.py writes score maps with "
            "default_hooks.pseudo_label.save_scores=[strided]"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not manifest.get("complete"):
        raise ValueError(
            f"{field}: the run that wrote {folder} did not finish: run the same "
            "command again, it goes on"
        )
    if not manifest["scores"]:
        raise ValueError(
            f"{field}: {folder} holds labels but no score maps: test again with "
            "default_hooks.pseudo_label.save_scores=[strided]"
        )
    if manifest["classes"] != list(classes):
        raise ValueError(
            f"{field}: {folder} holds maps of the classes {manifest['classes']}, the "
            f"data set has {list(classes)}"
        )
    if checkpoint is not None:
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"score_checkpoint: there is no file {checkpoint}")
        digest = file_sha256(checkpoint)
        if manifest["checkpoint_sha256"] != digest:
            raise ValueError(
                f"{field}: {folder} was made with another checkpoint "
                f"(SHA-256 {manifest['checkpoint_sha256']}) than {checkpoint} "
                f"({digest})"
            )
    return manifest
