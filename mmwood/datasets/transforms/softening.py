"""Make sharp images as soft as small ones are."""

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmwood.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomSoften(BaseTransform):
    """Take the detail out of an image that a smaller one does not have.

    Where in-distribution and OoD images come from sources of different resolution, a
    classifier can learn "soft = OoD" instead of what the images show. In the pipelines
    of both, this transform makes them equally soft: the image is resized so that its
    long side has a random number of pixels (mean over areas), and back to its own size
    (bilinear). An image that is not larger than that is left as it is.

    Args:
        scale: Smallest and largest number of pixels of the long side, drawn uniformly.
            The upper one should be the long side of the smallest source.
        prob: Probability that an image is softened.

    Raises:
        ValueError: ``scale`` or ``prob`` has no such value.

    Required and modified key:
        - img: (H, W) or (H, W, channels) uint8

    Example:
        >>> dict(type='mmwood.RandomSoften', scale=(96, 128))
    """

    def __init__(self, scale: tuple[int, int], prob: float = 1.0) -> None:
        if (
            len(scale) != 2
            or not all(isinstance(side, int) for side in scale)
            or not 1 <= scale[0] <= scale[1]
        ):
            raise ValueError(
                "mmwood.RandomSoften: scale must be two whole numbers of pixels, the "
                f"smaller one first, got {scale!r}"
            )
        if not 0 <= prob <= 1:
            raise ValueError(f"mmwood.RandomSoften: prob must be in [0, 1], got {prob}")
        self.scale = tuple(scale)
        self.prob = prob

    @cache_randomness
    def _draw(self) -> tuple[bool, int]:
        low, high = self.scale
        return np.random.rand() < self.prob, np.random.randint(low, high + 1)

    def transform(self, results: dict) -> dict:
        """Replace ``img`` by a softer one of the same shape and dtype."""
        is_chosen, long_side = self._draw()
        image = results["img"]
        height, width = image.shape[:2]
        if is_chosen and long_side < max(height, width):
            factor = long_side / max(height, width)
            size = [max(1, round(side * factor)) for side in (width, height)]
            small = mmcv.imresize(image, size, interpolation="area")
            soft = mmcv.imresize(small, (width, height), interpolation="bilinear")
            # OpenCV drops a last axis of length 1.
            results["img"] = soft.reshape(image.shape)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(scale={self.scale}, prob={self.prob})"
