"""Pseudo-label folders: a manifest, label maps, and their score maps and instances.

Predictions and features are kept in such folders, too. :class:`mmwood.PseudoLabelHook`
writes those of tests. ``grep -rl label_folder mmwood tools`` finds what writes and
reads manifests and score maps; data sets read the label PNGs alone (``seg_map_path``).
"""

import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mmwood.fileio.files import (
    atomic_write,
    compare_description,
    file_sha256,
    read_json,
    remove_leftovers,
    write_json,
)
from mmwood.fileio.images import UNREADABLE
from mmwood.fileio.labels import read_label_png
from mmwood.fileio.lists import (
    TaggedImage,
    check_id,
    refuse_shared_files,
    without_suffix,
)

#: What manifests say that the folder holds.
PSEUDO_LABELS = "mmwood pseudo labels 1"
AFFINITY_LABELS = "mmwood affinity labels 1"
PREDICTIONS = "mmwood predictions 1"
FEATURES = "mmwood features 1"
#: A kind of map that can be kept: on the stride-4 grid, or at the image's size.
MapKind = Literal["strided", "full"]
MAPS: tuple[MapKind, ...] = get_args(MapKind)


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


def save_arrays(path: str | os.PathLike, **arrays: Any) -> None:
    """Write arrays by name, atomically; equal arrays give equal bytes."""
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)


def load_arrays(path: str | os.PathLike, what: str) -> dict[str, np.ndarray]:
    """Read what :func:`save_arrays` wrote; the archive's checksums are verified.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged; the error says ``what`` it should hold.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not hold {what}: {error}") from error


def save_score_maps(path: str | os.PathLike, maps: ScoreMaps) -> None:
    """Write score maps, atomically; equal maps give equal bytes."""
    arrays = {key: value for key, value in vars(maps).items() if value is not None}
    save_arrays(path, **arrays)


def load_score_maps(
    path: str | os.PathLike, needs: Iterable[MapKind] = ()
) -> ScoreMaps:
    """Read score maps, which must hold those that ``needs`` names.

    The archive's checksums are verified.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or lacks what is needed.
    """
    arrays = load_arrays(path, "score maps")
    try:
        maps = ScoreMaps(**arrays)
    except TypeError as error:
        raise ValueError(f"{path} does not hold score maps: {error}") from error
    for key in needs:
        if getattr(maps, key) is None:
            raise ValueError(f"{path} holds no {key!r} maps")
    return maps


class LabelFolder:
    """A folder of files that are named after images, and of what made them.

    ::

        root/
          manifest.json          what made the files, and whether all are there
          labels/IMAGE_ID.png    label maps
          scores/IMAGE_ID.npz    score maps, see :class:`ScoreMaps`
          instances/IMAGE_ID.json, instances.json
          tables/IMAGE_ID.json   what a prediction shows, see mmwood.engine.predict
          overlays/IMAGE_ID.png  drawings of the labels on their images
          features/IMAGE_ID.npz, centers/IMAGE_ID.npz  see mmwood.engine.label_filter

    An id may hold slashes; whatever would lead out of the folder is refused.

    Args:
        root: The folder; it need not exist.
        field: What names it in a config or on a command line, for errors.

    Example:
        >>> folder = LabelFolder('work_dirs/cam/pseudo_labels')
        >>> folder.label('train/a')
        PosixPath('work_dirs/cam/pseudo_labels/labels/train/a.png')
    """

    def __init__(self, root: str | os.PathLike, field: str = "out_dir") -> None:
        self.root = Path(root)
        self.field = field

    @property
    def manifest_path(self) -> Path:
        """Where it stands what made the files."""
        return self.root / "manifest.json"

    @property
    def instance_file(self) -> Path:
        """COCO annotations of all images' instances."""
        return self.root / "instances.json"

    def label(self, image_id: str) -> Path:
        """Where the label map of an image is.

        Raises:
            ValueError: The id leads out of the folder.
        """
        return self._path("labels", image_id, ".png")

    def scores(self, image_id: str) -> Path:
        """Where the score maps of an image are; as :meth:`label`."""
        return self._path("scores", image_id, ".npz")

    def instances(self, image_id: str) -> Path:
        """Where the instances of an image are; as :meth:`label`."""
        return self._path("instances", image_id, ".json")

    def table(self, image_id: str) -> Path:
        """Where it stands what an image's label map shows; as :meth:`label`."""
        return self._path("tables", image_id, ".json")

    def overlay(self, image_id: str) -> Path:
        """Where a drawing of an image's label map is; as :meth:`label`."""
        return self._path("overlays", image_id, ".png")

    def features(self, image_id: str) -> Path:
        """Where the features of an image are; as :meth:`label`."""
        return self._path("features", image_id, ".npz")

    def centers(self, image_id: str) -> Path:
        """Where the centres of an image's regions are; as :meth:`label`."""
        return self._path("centers", image_id, ".npz")

    def picture(self, image_id: str) -> Path:
        """Where a drawing of an image is: right in the folder; as :meth:`label`."""
        return self._path("", image_id, ".png")

    def _path(self, kind: str, image_id: str, suffix: str) -> Path:
        name = check_id(image_id, f"{self.field}: {self.root}", "image id")
        return Path(self.root, kind, f"{name}{suffix}")

    def manifest(self) -> dict:
        """What made the files.

        Raises:
            FileNotFoundError: There is no manifest.
            ValueError: It is damaged.
        """
        try:
            found = read_json(self.manifest_path, "manifest")
        except ValueError as error:
            raise ValueError(f"{self.manifest_path} is damaged: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{self.manifest_path} is damaged: it is no JSON object")
        return found

    @property
    def holds_biased(self) -> bool:
        """Whether its labels have pixels that the label filter removed (BIASED)."""
        return self.manifest_path.is_file() and "biased" in self.manifest()

    def compare(
        self, description: Mapping[str, Any], remedy: str, overwrite: bool = False
    ) -> None:
        """Refuse a folder that holds something else than what is to be made.

        Args:
            description: What determines the files, ``format`` among it.
            remedy: How to have all made anew, for the error.
            overwrite: Whether files of the same format may be replaced, whatever made
                them.

        Raises:
            ValueError: It holds files without a manifest, of another format or of
                another description.
        """
        if not self.manifest_path.is_file():
            items = self.root.iterdir() if self.root.is_dir() else ()
            if any(not item.name.startswith(".") for item in items):
                raise ValueError(
                    f"{self.field}: {self.root} holds files but no manifest.json, so "
                    "they are not mmwood's: name another folder"
                )
            return
        found = self.manifest()
        if found.get("format") != description["format"]:
            raise ValueError(
                f"{self.field}: {self.manifest_path} is none of "
                f"{description['format']!r}: name another folder"
            )
        if not overwrite:
            remedy = f"name another folder, or {remedy}"
            compare_description(found, description, self.root, remedy, self.field)

    def begin(self, description: Mapping[str, Any], overwrite: bool = False) -> None:
        """Write a manifest of files to come; ``overwrite`` removes those of before."""
        if overwrite:
            # Before the new manifest: it must never describe old files.
            files = ["labels/**/*.png", "scores/**/*.npz", "instances/**/*.json"]
            files += ["centers/**/*.npz", "features/**/*.npz"]
            if description["format"] == PREDICTIONS:
                files = [files[0], "tables/**/*.json", "overlays/**/*.png"]
            for pattern in (*files, self.instance_file.name):
                for path in self.root.glob(pattern):
                    path.unlink()
        remove_leftovers(self.root)
        write_json(self.manifest_path, dict(description, complete=False))

    def finish(self, description: Mapping[str, Any], images: int) -> None:
        """Say in the manifest that the files of all images are there."""
        write_json(self.manifest_path, dict(description, complete=True, images=images))

    def is_whole(
        self, image_id: str, maps: Iterable[MapKind] = (), instances: bool = False
    ) -> bool:
        """Whether an image's label, score maps and perhaps instances are whole."""
        try:
            read_label_png(self.label(image_id))
            if maps:
                load_score_maps(self.scores(image_id), needs=maps)
            if instances:
                read_json(self.instances(image_id))
        except (*UNREADABLE, ValueError):
            return False
        return True

    def require(
        self, description: Mapping[str, Any], maker: str, overwrite: str
    ) -> dict:
        """The manifest of files that are all there and were made as described.

        Raises:
            FileNotFoundError: There is no manifest.
            ValueError: It is damaged, of another format or description, or of a run
                that did not finish.
        """
        if not self.manifest_path.is_file():
            raise FileNotFoundError(
                f"{self.field}: there is no {self.manifest_path}; {maker} writes it"
            )
        self.compare(description, f"make all anew with {maker} and {overwrite}")
        found = self.manifest()
        if not found.get("complete"):
            raise ValueError(
                f"{self.field}: {self.root} is not complete: run {maker} again, which "
                "continues where it was"
            )
        return found

    def require_scores(
        self, classes: Sequence[str], checkpoint: str | os.PathLike | None = None
    ) -> dict:
        """The manifest of score maps of some classes, and perhaps of a checkpoint.

        Raises:
            FileNotFoundError: There is no manifest, or no such checkpoint.
            ValueError: As :meth:`require`, or no maps were kept.
        """
        description: dict[str, Any] = dict(format=PSEUDO_LABELS, classes=list(classes))
        if checkpoint is not None:
            if not Path(checkpoint).is_file():
                raise FileNotFoundError(
                    f"score_checkpoint: there is no file {checkpoint}"
                )
            description["checkpoint_sha256"] = file_sha256(checkpoint)
        hook = "default_hooks.pseudo_label"
        maker = f"tools/test.py with {hook}.save_scores=[strided]"
        found = self.require(description, maker, f"{hook}.overwrite=True")
        if not found.get("scores"):
            raise ValueError(
                f"{self.field}: {self.root} holds labels but no score maps: run {maker}"
            )
        return found


def image_ids(infos: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The id that names the files of each image of a data set, by the image's path.

    It is what the data set says (``img_id``), or else the image's path without suffix
    from the deepest folder that holds all such images.

    Raises:
        ValueError: An image occurs twice, or two would share a file; names both. Or
            an image has no path.

    Example:
        >>> image_ids([dict(img_path='jpg/x/a.jpg'), dict(img_path='jpg/y/a.jpg')])
        {'jpg/x/a.jpg': 'x/a', 'jpg/y/a.jpg': 'y/a'}
    """
    named = [(info.get("img_path"), info.get("img_id")) for info in infos]
    if any(path is None for path, _ in named):
        raise ValueError(
            "the data set does not say where its images are (img_path), after which "
            "their files are named"
        )
    # Absolute, since a data set may name its images so and the next one not.
    unnamed = [os.path.abspath(str(path)) for path, name in named if name is None]
    root = os.path.commonpath(map(os.path.dirname, unnamed)) if unnamed else ""
    items = []
    for path, name in named:
        if name is None:
            name = without_suffix(os.path.relpath(str(path), root))
        items.append(TaggedImage(str(name), None, source=str(path)))
    refuse_shared_files(items)
    ids: dict[str, str] = {}
    for item in items:
        # A prediction says its image's path alone.
        if ids.setdefault(item.source, item.image) != item.image:
            raise ValueError(
                f"{item.source}: one image has two ids, {ids[item.source]!r} and "
                f"{item.image!r}: list it once"
            )
    return ids
