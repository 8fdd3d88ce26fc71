"""Loading that names the file when it fails."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.structures import PixelData
from PIL import Image

from mmwood.registry import TRANSFORMS

__all__ = ["LoadImage", "LoadSemanticMask"]


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that refuses a damaged image and names it.

    OpenCV decodes a truncated JPEG without a word and fills the missing part with
    grey; Pillow, used here, raises an error.

    Args:
        **kwargs: As in ``LoadImageFromFile``.

    Raises:
        ValueError: The image cannot be decoded whole.
        FileNotFoundError: There is no such file.
    """

    def __init__(self, imdecode_backend: str = "pillow", **kwargs) -> None:
        super().__init__(imdecode_backend=imdecode_backend, **kwargs)

    def transform(self, results: dict) -> dict | None:
        """Add ``img`` (H, W, 3) uint8 BGR, ``img_shape`` and ``ori_shape``."""
        try:
            return super().transform(results)
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError, AssertionError) as error:
            # Pillow reports broken PNG chunks as SyntaxError.
            raise ValueError(
                f"{results['img_path']} is not a whole image: {error}"
            ) from error


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
        with Image.open(path) as image:
            mask = np.array(image)
        if mask.ndim != 2:
            raise ValueError(
                f"{path} is not a mask: it has shape {mask.shape} instead of (H, W)"
            )
        if mask.shape != tuple(results["ori_shape"][:2]):
            raise ValueError(
                f"mask {path} has (H, W) = {mask.shape}, its image "
                f"{results['img_path']} has {tuple(results['ori_shape'][:2])}"
            )
        results["gt_sem_seg"] = PixelData(data=torch.from_numpy(mask)[None])
        return results
