"""Candidate images in any number: a list on disk, and a data set that reads it."""

import os
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset

from mmwood.fileio.files import atomic_write, file_sha256
from mmwood.fileio.images import IMAGE_SUFFIXES, UNREADABLE, image_paths, why_unreadable
from mmwood.registry import DATASETS
from mmwood.utils.progress import progress

__all__ = ["CandidateDataset", "write_candidate_list"]

#: What Pillow, OpenCV and mmcv raise at files that are not whole images.
FAULTS = (*UNREADABLE, AssertionError, cv2.error)


def write_candidate_list(
    candidates: str | os.PathLike,
    path: str | os.PathLike,
    root: str | os.PathLike | None = None,
    frozen: bool = False,
) -> int:
    """Write the paths of candidate images, one a line, and where each line starts.

    The offsets, int64, go beside the list, to ``NAME.npy``. Both are for
    :class:`CandidateDataset`.

    Args:
        candidates: A folder: all images below it, in sorted order. Or a list with one
            path a line; blank lines are skipped.
        path: The file to write.
        root: Folder that the names of a list are relative to. None: the list's own.
        frozen: Whether results belong to the file that is there, so that it may not
            change.

    Returns:
        The number of images.

    Raises:
        FileNotFoundError: There is no such folder or list.
        ValueError: There is no image; one is listed twice; a name cannot stand on a
            line of UTF-8; the images differ from those of a ``frozen`` file.
    """
    source, path = Path(candidates), Path(path)
    base = Path(source.parent if root is None else root)
    if source.is_dir():
        if root is not None:
            raise ValueError(
                f"--root is for lists, and --candidates {source} is a folder"
            )
    elif not source.is_file():
        raise FileNotFoundError(f"--candidates: there is no folder or list {source}")
    elif not base.is_dir():
        raise FileNotFoundError(f"--root: there is no folder {base}")

    offsets, digests = array("q", [0]), array("Q")
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            images = _images(source, base)
            for where, image in progress(images, "list candidates", delay=1):
                line = _line(where, image)
                file.write(line)
                offsets.append(offsets[-1] + len(line))
                digest = blake2b(line, digest_size=8).digest()
                digests.append(int.from_bytes(digest, "little"))
        if not digests:
            kind = ", ".join(IMAGE_SUFFIXES)
            raise ValueError(
                f"--candidates: the folder {source} holds no image ({kind})"
                if source.is_dir()
                else f"--candidates: the list {source} names no image"
            )
        _refuse_duplicates(source, base, np.frombuffer(digests, dtype=np.uint64))
        if frozen and path.is_file() and file_sha256(path) != file_sha256(temporary):
            raise ValueError(
                f"--candidates: {source} gives other images than those of {path}, "
                "which the results there belong to: give the same again, or name "
                "another --work-dir"
            )
    with atomic_write(_offset_path(path)) as temporary:
        np.save(temporary, np.frombuffer(offsets, dtype=np.int64))
    return len(digests)


@DATASETS.register_module()
class CandidateDataset(BaseDataset):
    """Images without labels from a list of any length.

    The list and the offsets of its lines stay on disk, mapped into memory. An image
    that cannot be read does not end the run and no other takes its place: a black one
    of 32×32 pixels goes through the pipeline's other transforms instead.

    The metainfo of each sample says ``candidate``, the image's number, and ``fault``,
    why it could not be read, or None.

    Args:
        ann_file: What :func:`write_candidate_list` wrote.
        pipeline: Transforms; they end with ``PackInputs``. Truncated files are found
            where ``mmwood.LoadImage`` loads: OpenCV takes them for whole.
        metainfo: ``classes``, the names of the classifier's classes.

    Raises:
        FileNotFoundError: There is no list, or none made for this class.
        ValueError: List and offsets do not belong together.

    Example:
        >>> dict(type='mmwood.CandidateDataset', ann_file='mining/candidates.txt',
        ...      pipeline=[dict(type='mmwood.LoadImage'), dict(type='PackInputs')])
    """

    def __init__(
        self, ann_file: str, pipeline: list, metainfo: dict | None = None
    ) -> None:
        super().__init__(
            ann_file=ann_file, pipeline=pipeline, metainfo=metainfo, test_mode=True
        )

    def full_init(self) -> None:
        """Map the list into memory."""
        if self._fully_initialized:
            return
        offset_path = _offset_path(self.ann_file)
        for path in (self.ann_file, offset_path):
            if not Path(path).is_file():
                raise FileNotFoundError(
                    f"ann_file: there is no file {path}; make it with "
                    "mmwood.datasets.write_candidate_list"
                )
        self._offsets = np.load(offset_path, mmap_mode="r", allow_pickle=False)
        if self._offsets[-1] != Path(self.ann_file).stat().st_size:
            raise ValueError(
                f"ann_file: {offset_path} was made for another list than "
                f"{self.ann_file}: make both with mmwood.datasets.write_candidate_list"
            )
        self._lines = np.memmap(self.ann_file, dtype=np.uint8, mode="r")
        self._fully_initialized = True

    def __len__(self) -> int:
        self.full_init()
        return len(self._offsets) - 1

    def get_data_info(self, idx: int) -> dict:
        """``img_path`` and ``sample_idx`` of an image."""
        self.full_init()
        start, stop = self._offsets[idx], self._offsets[idx + 1]
        line = self._lines[start:stop].tobytes()
        return dict(img_path=line.decode("utf-8").rstrip("\n"), sample_idx=idx)

    def prepare_data(self, idx: int) -> dict:
        """The packed image, or a stand-in where it cannot be read."""
        fault = None
        try:
            data = self.pipeline(self.get_data_info(idx))
        except FAULTS as error:
            fault = why_unreadable(error)
            # A fault of the pipeline itself shows here too, and ends the run.
            data = self._stand_in(idx)
        data["data_samples"].set_metainfo(
            dict(
                candidate=idx,
                fault=fault,
                img_path=self.get_data_info(idx)["img_path"],
            )
        )
        return data

    def _stand_in(self, idx: int) -> dict:
        results = dict(
            self.get_data_info(idx),
            img=np.zeros((32, 32, 3), dtype=np.uint8),
            img_shape=(32, 32),
            ori_shape=(32, 32),
        )
        for transform in self.pipeline.transforms:
            if not isinstance(transform, LoadImageFromFile):
                results = transform(results)
        return results


def _images(source: Path, base: Path) -> Iterator[tuple[str, str]]:
    """Where each candidate was found, for messages, and its path."""
    if source.is_dir():
        for image in image_paths(source):
            yield str(source), str(image)
        return
    with source.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if name := line.strip():
                yield f"{source}:{number}", str(base / name)


def _line(where: str, image: str) -> bytes:
    try:
        line = image.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: the name {image!r} is not UTF-8") from error
    if b"\n" in line:
        raise ValueError(f"{where}: the name {image!r} has a line break")
    return line + b"\n"


def _refuse_duplicates(source: Path, base: Path, digests: np.ndarray) -> None:
    # Eight bytes an image instead of a set of names; the few whose digests occur
    # twice are then compared by name.
    values, counts = np.unique(digests, return_counts=True)
    repeated = set(values[counts > 1].tolist())
    if not repeated:
        return
    first: dict[str, str] = {}
    for digest, (where, image) in zip(digests.tolist(), _images(source, base)):
        if digest in repeated and first.setdefault(image, where) != where:
            raise ValueError(
                f"{where}: image {image!r} was listed before, at {first[image]}"
            )


def _offset_path(path: str | os.PathLike) -> Path:
    return Path(path).with_suffix(".npy")
