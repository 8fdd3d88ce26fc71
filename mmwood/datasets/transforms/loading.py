"""Loading that names the file when it fails."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine import fileio
from mmengine.structures import PixelData

from mmwood.fileio.images import (
    UNREADABLE,
    Levels,
    check_levels,
    read_rgb,
    why_unreadable,
)
from mmwood.fileio.label_folder import load_score_maps
from mmwood.fileio.labels import read_label_png
from mmwood.functional.cam import strided_size
from mmwood.registry import TRANSFORMS

__all__ = ["LoadImage", "LoadScoreMaps", "LoadSemanticMask", "levels_of"]


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that refuses a damaged image and names it.

    OpenCV decodes a truncated JPEG without a word and fills the missing part with
    grey; Pillow, used here, raises an error. Images of 16 bits become ones of 8
    (:func:`mmwood.fileio.images.read_rgb`). An image that is there already, as
    inferencers hand it over, stays as it is.

    Args:
        levels: The values that are black and white where an image has more than 8 bits
            a channel (:data:`mmwood.fileio.images.Levels`).
        **kwargs: As in ``LoadImageFromFile``.

    Raises:
        ValueError: The image cannot be decoded whole, or, without ``levels``, holds
            floats; ``levels`` are none, or beside a way of decoding that knows none.
        FileNotFoundError: There is no such file.

    Example:
        >>> LoadImage(levels=(0, 4095)).levels
        (0, 4095)
    """

    def __init__(
        self,
        imdecode_backend: str = "pillow",
        levels: Sequence[float] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(imdecode_backend=imdecode_backend, **kwargs)
        self.levels = check_levels(levels, "levels")
        self._plain = (imdecode_backend, self.color_type) == ("pillow", "color")
        self._plain &= self.file_client_args is None
        if self.levels is not None and not self._plain:
            raise ValueError(
                "mmwood.LoadImage: levels need imdecode_backend='pillow', "
                "color_type='color' and no file_client_args"
            )

    def transform(self, results: dict) -> dict | None:
        """Add ``img`` (H, W, 3) uint8 BGR, ``img_shape`` and ``ori_shape``."""
        if "img" in results and "img_path" not in results:
            return results
        path = results["img_path"]
        try:
            if not self._plain:
                return super().transform(results)
            content = io.BytesIO(fileio.get(path, self.backend_args))
            image = read_rgb(content, self.levels)
        except (*UNREADABLE, AssertionError) as error:
            if self.ignore_empty:
                return None
            if isinstance(error, FileNotFoundError):
                raise
            reason = why_unreadable(error)
            raise ValueError(f"{path} is not a whole image: {reason}") from error
        image = np.ascontiguousarray(image[..., ::-1])
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


def levels_of(dataset: object) -> Levels | None:
    """What the pipeline of a data set takes for black and white, if it says so."""
    pipeline = getattr(dataset, "pipeline", None)
    loaders = (
        transform
        for transform in getattr(pipeline, "transforms", ())
        if isinstance(transform, LoadImage)
    )
    return next((loader.levels for loader in loaders), None)


@TRANSFORMS.register_module()
class LoadSemanticMask(BaseTransform):
    """Load an evaluation mask that no transform resizes and no loss looks at.

    The mask goes to ``gt_sem_seg`` at the size of the original image; resizing,
    flipping and cropping know ``gt_seg_map`` only. Pack it with
    ``PackInputs(algorithm_keys=('gt_sem_seg',))``. An image without
    ``seg_map_path`` is left as it is when ``optional``.

    Args:
        optional: Whether images without a mask are allowed.

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
