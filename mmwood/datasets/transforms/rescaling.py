"""Scaled images of the sizes that released programs give them."""

from mmcv.transforms import BaseTransform, Resize

from mmwood.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Rescale(BaseTransform):
    """mmcv's ``Resize(scale_factor=...)`` with halves rounded to the even number.

    So do the programs of IRN, W-OoD, AdvCAM and SEAM. At scale 1.5, 375 rows become
    562; mmcv rounds up, to 563. A side has one pixel at least.

    Args:
        scale_factor: Of both sides.
        **kwargs: As in ``Resize``, ``backend`` and ``interpolation`` for instance.

    Raises:
        ValueError: ``scale_factor`` is not positive.

    Example:
        >>> dict(type='mmwood.Rescale', scale_factor=1.5, backend='pillow',
        ...      interpolation='bicubic')
    """

    def __init__(self, scale_factor: float, **kwargs) -> None:
        if not scale_factor > 0:
            raise ValueError(
                f"mmwood.Rescale: scale_factor must be positive, but is {scale_factor}"
            )
        self.scale_factor = scale_factor
        self.kwargs = kwargs

    def transform(self, results: dict) -> dict:
        """Resize the image and what belongs to it, as ``Resize`` does."""
        height, width = results["img"].shape[:2]
        # Python's round has this rule.
        sides = [max(1, round(side * self.scale_factor)) for side in (width, height)]
        return Resize(scale=tuple(sides), **self.kwargs).transform(results)
