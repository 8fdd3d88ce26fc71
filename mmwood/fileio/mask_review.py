"""What tells a review of masks from one of OoD candidates: a JSON beside its manifest.

Both manifests have the same form (:mod:`mmwood.fileio.candidates`) and opposite
meanings: of masks, ``kept`` says that a class is right.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mmwood.fileio.files import bytes_sha256, read_json, write_json

FORMAT = "mmwood mask review 1"


@dataclass(frozen=True)
class AboutMasks:
    """What a review of masks is of.

    Attributes:
        labels: Folder of the label PNGs, as it was named.
        images: Folder of their images, from which the manifest's paths begin.
        classes: Their names, in the order of their labels.
        confidence: What the manifest's ``probability`` is, for people.
    """

    labels: str
    images: str
    classes: Sequence[str]
    confidence: str


def about_path(manifest: str | os.PathLike) -> Path:
    """Where the JSON beside a manifest is."""
    return Path(manifest).with_suffix(".json")


def write_about(manifest: str | os.PathLike, about: AboutMasks) -> None:
    """Write the JSON beside a manifest, atomically."""
    write_json(about_path(manifest), dict(format=FORMAT, **asdict(about)))


def is_mask_review(manifest: str | os.PathLike) -> bool:
    """Whether a manifest is of masks, by the JSON beside it."""
    try:
        found = read_json(about_path(manifest))
    except (FileNotFoundError, ValueError):
        # There is none, or it is of something else.
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def read_about(manifest: str | os.PathLike, field: str) -> AboutMasks:
    """What a review of masks is of.

    Args:
        manifest: Its manifest.
        field: The option that names it, for errors.

    Raises:
        FileNotFoundError: There is no manifest.
        ValueError: It is none of masks, or the JSON is damaged.
    """
    if not Path(manifest).is_file():
        raise FileNotFoundError(f"{field}: there is no file {manifest}")
    path = about_path(manifest)
    if not is_mask_review(manifest):
        raise ValueError(
            f"{field}: {manifest} is no review of masks: tools/review_masks.py leaves "
            f"{path} beside one"
        )
    found = read_json(path)
    del found["format"]
    try:
        return AboutMasks(**found)
    except TypeError as error:
        raise ValueError(f"{field}: {path} is damaged: {error}") from error


def refuse_mask_review(manifest: str | os.PathLike, field: str = "") -> None:
    """Refuse a review of masks where one of OoD candidates is meant.

    Raises:
        ValueError: It is one.
    """
    if is_mask_review(manifest):
        place = f"{field}: " if field else ""
        raise ValueError(
            f"{place}{manifest} is a review of masks, in which kept images show their "
            "class: tools/review_masks.py opens it, and tools/exclude_masks.py takes it"
        )


def region_sha256(region: np.ndarray) -> str:
    """SHA-256 of the pixels of a class, by which a mask is known that has changed.

    Shape:
        - region: (H, W) bool
    """
    height, width = region.shape
    bits = np.packbits(np.ascontiguousarray(region)).tobytes()
    return bytes_sha256(f"{height} {width}\n".encode() + bits)
