"""Features of images: those beside a manifest of candidates, and a user's own.

``NAME.npz`` beside the manifest ``NAME.csv`` has the arrays ``sha256`` (N,), hashes of
image files as bytes in sorted order, and ``features`` (N, D), float16. It is not
compressed, so that it can be read in blocks.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmwood.fileio.files import atomic_write
from mmwood.fileio.mining_results import FEATURE_TYPE

#: Images whose features are read at a time.
BLOCK = 8192
_HASH = np.dtype("S64")


def features_path(manifest: str | os.PathLike) -> Path:
    """Where the features of a manifest's images are, if there are any."""
    return Path(os.path.realpath(manifest)).with_suffix(".npz")


@dataclass
class FeatureFile:
    """The features beside a manifest; they are read from the disk in blocks.

    Attributes:
        path: The file.
        sha256: Hashes of the image files, sorted. Shape: (N,), ``S64``.
        dim: D, the length of a feature.
    """

    path: Path
    sha256: np.ndarray
    dim: int

    def blocks(self) -> Iterator[np.ndarray]:
        """All features, in the order of the hashes. Shapes: (n, D), float16."""
        with (
            zipfile.ZipFile(self.path) as archive,
            archive.open("features.npy") as file,
        ):
            _header(file)
            for start in range(0, len(self.sha256), BLOCK):
                count = min(BLOCK, len(self.sha256) - start)
                content = file.read(count * self.dim * FEATURE_TYPE.itemsize)
                yield np.frombuffer(content, FEATURE_TYPE).reshape(count, self.dim)


def read_features(path: str | os.PathLike) -> FeatureFile:
    """The file of features beside a manifest.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of features {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("sha256.npy") as file:
                hashes = np.lib.format.read_array(file, allow_pickle=False)
            with archive.open("features.npy") as file:
                shape, fortran, dtype = _header(file)
        if hashes.dtype != _HASH or (dtype, fortran) != (FEATURE_TYPE, False):
            raise ValueError(f"its types are {hashes.dtype} and {dtype}")
        if len(shape) != 2 or hashes.shape != shape[:1]:
            raise ValueError(f"its shapes are {hashes.shape} and {shape}")
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is not what mining leaves beside a manifest, with the arrays "
            f"sha256 and features: {error}"
        ) from error
    return FeatureFile(path, hashes, shape[1])


def write_features(
    path: str | os.PathLike, count: int, dim: int, rows: Iterable[tuple[str, bytes]]
) -> None:
    """Write the features of a manifest's images, atomically, one at a time.

    Args:
        path: The file.
        count: N, the number of images.
        dim: D.
        rows: Hash and bytes of float16 of each image, sorted by the hash.

    Raises:
        ValueError: The features of an image have another length.
        OSError: It cannot be written.
    """
    hashes = np.zeros(count, dtype=_HASH)
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        with archive.open(_entry("features"), "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(
                file,
                dict(descr=FEATURE_TYPE.str, fortran_order=False, shape=(count, dim)),
            )
            for number, (sha256, content) in enumerate(rows):
                if len(content) != dim * FEATURE_TYPE.itemsize:
                    raise ValueError(
                        f"features of images have different lengths, {dim} and "
                        f"{len(content) // FEATURE_TYPE.itemsize}: a model must give "
                        "all images features of one length"
                    )
                hashes[number] = sha256
                file.write(content)
        with archive.open(_entry("sha256"), "w", force_zip64=True) as file:
            np.lib.format.write_array(file, hashes, allow_pickle=False)


def read_own_features(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """What a user's own model makes of images.

    Returns:
        Names of images as the file has them, and their features. Shape: (N, D).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no arrays ``image``, a list of texts, and ``features``, a
            row of finite numbers for each; or names an image twice.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"--features: there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as content:
            images, features = content["image"], content["features"]
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"--features: {path} must be an .npz with the arrays image, names of "
            "images, and features, a row for each, as np.savez(file, image=names, "
            "features=rows) writes"
        ) from error
    if images.ndim != 1 or images.dtype.kind != "U":
        raise ValueError(
            f"--features: {path}: image must be a list of texts, it is "
            f"{images.dtype} of the shape {images.shape}"
        )
    if features.ndim != 2 or len(features) != len(images) or not features.shape[1]:
        raise ValueError(
            f"--features: {path}: features must have a row for each of the "
            f"{len(images)} images, their shape is {features.shape}"
        )
    if features.dtype.kind not in "fiu":
        raise ValueError(f"--features: {path}: features are {features.dtype}")
    names, first = np.unique(images, return_index=True)
    if len(names) < len(images):
        double = np.setdiff1d(np.arange(len(images)), first)[0]
        raise ValueError(f"--features: {path} names {str(images[double])!r} twice")
    for name, row in zip(images, features):
        if not np.isfinite(row).all():
            raise ValueError(
                f"--features: {path}: those of {str(name)!r} are not all finite numbers"
            )
    return images.tolist(), features


def _entry(name: str) -> zipfile.ZipInfo:
    """Of an array; without the time of day, so that equal arrays give equal files."""
    return zipfile.ZipInfo(f"{name}.npy")


def _header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array, whose numbers are then read next."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array is of version {version} of NumPy's format")
    return np.lib.format.read_array_header_1_0(file)
