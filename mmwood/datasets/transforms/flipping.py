"""Flips of images of any size."""

from mmcv.transforms import RandomFlip as MMCVRandomFlip

from mmwood.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomFlip(MMCVRandomFlip):
    """mmcv's ``RandomFlip``, also of images that are one pixel high or wide.

    A flip is a view that runs backwards. NumPy calls it contiguous where the flipped
    side has one pixel, so ``PackInputs`` and ``PackSegInputs`` do not copy it, and
    PyTorch refuses it. Fields are those of mmcv.

    Example:
        >>> dict(type='mmwood.RandomFlip', prob=0.5)
    """

    def transform(self, results: dict) -> dict:
        """Flip the image and what belongs to it."""
        results = super().transform(results)
        for key in ("img", "gt_seg_map"):
            array = results.get(key)
            if array is not None and 1 in array.shape[:2]:
                results[key] = array.copy()
        return results
