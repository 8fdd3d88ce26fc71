"""Loading that names the file when it fails."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine import fileio
from mmengine.structures import PixelData

from mmwood.fileio.bands import need_rasterio
from mmwood.fileio.decoding import PICTURE, Decoding, check_decoding, shown_channels
from mmwood.fileio.images import UNREADABLE, read_channels, why_unreadable
from mmwood.fileio.label_folder import load_score_maps
from mmwood.fileio.labels import read_label_png
from mmwood.fileio.stores import is_stored, read_stored
from mmwood.functional.cam import strided_size
from mmwood.registry import TRANSFORMS
from mmwood.utils.config import leaf_datasets


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that refuses a damaged image and names it.

    OpenCV decodes a truncated JPEG without a word and fills the missing part with
    grey; Pillow, used here, raises an error. Images of 16 bits become ones of 8
    (:func:`mmwood.fileio.images.read_channels`). An image that is there already, as
    inferencers hand it over, stays as it is. ``img_path`` may be a locator of
    :mod:`mmwood.fileio.stores`, unless ``backend_args`` say how files are read.

    Args:
        levels: The values that are black and white where an image has more than 8 bits
            a channel (:data:`mmwood.fileio.decoding.Levels`); with ``bands`` a pair for
            each is possible.
        bands: Numbers of the bands to load, from 1, in the network's order
            (:class:`mmwood.fileio.decoding.Decoding`). The model's ``in_channels``,
            ``mean`` and ``std`` must be as many. None loads a picture's three colours.
        **kwargs: As in ``LoadImageFromFile``.

    Raises:
        ImportError: ``bands`` need rasterio, which is not installed.
        ValueError: The image cannot be decoded whole, lacks a band, or, without
            ``levels``, holds floats; ``levels`` or ``bands`` are none, or beside a way
            of decoding that knows none.
        FileNotFoundError: There is no such file.

    Example:
        >>> LoadImage(levels=(0, 4095)).decoding
        Decoding(levels=(0, 4095), bands=None)
    """

    def __init__(
        self,
        imdecode_backend: str = "pillow",
        levels: Sequence | None = None,
        bands: Sequence[int] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(imdecode_backend=imdecode_backend, **kwargs)
        self.decoding = check_decoding(levels, bands, "mmwood.LoadImage: ")
        self._plain = (imdecode_backend, self.color_type) == ("pillow", "color")
        self._plain &= self.file_client_args is None
        if self.decoding != PICTURE and not self._plain:
            raise ValueError(
                "mmwood.LoadImage: levels and bands need imdecode_backend='pillow', "
                "color_type='color' and no file_client_args"
            )
        #: Whether it takes locators of :mod:`mmwood.fileio.stores` for paths.
        self.reads_stores = self._plain and self.backend_args is None
        if bands is not None:
            need_rasterio()

    def transform(self, results: dict) -> dict | None:
        """Add ``img`` (H, W, channels) uint8, ``img_shape`` and ``ori_shape``.

        Three channels are in the order blue, green, red; others in that of the bands.
        """
        if "img" in results and "img_path" not in results:
            return results
        path = results["img_path"]
        try:
            if not self._plain:
                return super().transform(results)
            content = (
                read_stored(path)
                if self.reads_stores and is_stored(path)
                else fileio.get(path, self.backend_args)
            )
            image = read_channels(io.BytesIO(content), self.decoding)
        except (*UNREADABLE, AssertionError) as error:
            if self.ignore_empty:
                return None
            if isinstance(error, FileNotFoundError):
                raise
            reason = why_unreadable(error)
            raise ValueError(f"{path} is not a whole image: {reason}") from error
        image = np.ascontiguousarray(reversed_colours(image))
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


def reversed_colours(image: np.ndarray) -> np.ndarray:
    """RGB of BGR and the reverse; images of other channels as they are.

    Shape:
        - image: (H, W, channels); output: the same
    """
    return image[..., ::-1] if image.shape[2] == 3 else image


def loaded_rgb(image: np.ndarray) -> np.ndarray:
    """What people see of an image that a pipeline has loaded.

    Shape:
        - image: (H, W, channels); output: (H, W, 3), red, green and blue
    """
    return np.ascontiguousarray(shown_channels(reversed_colours(image)))


def decoding_of(dataset: object) -> Decoding:
    """How a pipeline reads images, or that of a data set or of the first in it."""
    leaf = next(leaf_datasets(dataset), None)
    pipeline = getattr(leaf, "pipeline", leaf)
    for transform in getattr(pipeline, "transforms", ()):
        if isinstance(transform, LoadImage):
            return transform.decoding
    return PICTURE


@TRANSFORMS.register_module()
class LoadSemanticMask(BaseTransform):
    """Load an evaluation mask that no transform resizes and no loss looks at.

    The mask goes to ``gt_sem_seg`` at the size of the original image; resizing,
    flipping and cropping know ``gt_seg_map`` only. Pack it with
    ``PackInputs(algorithm_keys=('gt_sem_seg',))``. An image without
    ``seg_map_path`` is left as it is when ``optional``.

    Raises:
        ValueError: The mask is not a single-channel image, or not of its image's
            size, or there is none.
    """

    def __init__(self, optional: bool = False) -> None:
        self.optional = optional

    def transform(self, results: dict) -> dict:
        """Add ``gt_sem_seg``, a ``PixelData`` with ``data`` (1, H, W) uint8."""
        path = results.get("seg_map_path")
        if path is None:
            if self.optional:
                return results
            raise ValueError(
                f"{results['img_path']} has no mask to evaluate with: set "
                "data_prefix.seg_map_path in the data set"
            )
        mask = read_label_png(path, "mask")
        if mask.shape != tuple(results["ori_shape"][:2]):
            raise ValueError(
                f"mask {path} has (H, W) = {mask.shape}, its image "
                f"{results['img_path']} has {tuple(results['ori_shape'][:2])}"
            )
        results["gt_sem_seg"] = PixelData(data=torch.from_numpy(mask)[None])
        return results


@TRANSFORMS.register_module()
class LoadScoreMaps(BaseTransform):
    """Load the score maps that a classifier left of the image, for :class:`mmwood.IRN`.

    The data set names their file (``score_dir``). Pack them with
    ``PackInputs(algorithm_keys=('score_maps', 'score_classes', 'pred_score'))``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The data set names none; the file is damaged, holds no maps on the
            stride-4 grid, or maps of another size than the image's.
    """

    def transform(self, results: dict) -> dict:
        """Add ``score_maps`` (n, h, w), ``score_classes`` (n,), ``pred_score`` (C,)."""
        path = results.get("score_path")
        if path is None:
            raise ValueError(
                f"{results['img_path']} has no score maps: set score_dir in the data "
                "set"
            )
        maps = load_score_maps(path, needs=("strided",))
        assert maps.strided is not None
        size = strided_size(results["ori_shape"][:2])
        if maps.strided.shape[1:] != size:
            raise ValueError(
                f"{path} holds maps of (h, w) = {maps.strided.shape[1:]}; the stride-4 "
                f"grid of {results['img_path']} is {size}"
            )
        results["score_maps"] = torch.from_numpy(maps.strided)
        results["score_classes"] = torch.from_numpy(maps.classes)
        results["pred_score"] = torch.from_numpy(maps.scores)
        return results
