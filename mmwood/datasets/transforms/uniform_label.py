"""A label map of one value, for images of which one knows what they show."""

from copy import copy
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, LoadAnnotations

from mmwood.registry import TRANSFORMS
from mmwood.utils.check import at_least


@TRANSFORMS.register_module()
class UniformLabel(BaseTransform):
    """Give every pixel one label, where mmseg's ``LoadAnnotations`` reads a file.

    :class:`mmwood.OoDBackgroundDataset` puts it into its pipeline.

    Args:
        label: 0 is the background of most data sets, 255 is ignored.

    Raises:
        ValueError: ``label`` is not in 0..255.

    Required key:
        - ori_shape: (H, W) of the loaded image

    Added keys:
        - gt_seg_map: (H, W) uint8
        - seg_fields: names it

    Example:
        >>> dict(type='mmwood.UniformLabel', label=0)
    """

    def __init__(self, label: int = 0) -> None:
        at_least("mmwood.UniformLabel: label", label, 0, below=256, integer=True)
        self.label = label

    def transform(self, results: dict) -> dict:
        """Add the map: as a file's, it has the size of the original image."""
        size = results["ori_shape"][:2]
        results["gt_seg_map"] = np.full(size, self.label, dtype=np.uint8)
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(label={self.label})"


def with_uniform_label(step: Any, label: int) -> tuple[Any, int]:
    """A pipeline with :class:`UniformLabel` in place of each ``LoadAnnotations``.

    Args:
        step: A built transform, a list of them, or one that holds others:
            ``Compose``, ``RandomApply``, ``TestTimeAug``, .... It stays as it is.
        label: For every pixel.

    Returns:
        The changed copy, and how many transforms were replaced.
    """
    if isinstance(step, (LoadAnnotations, UniformLabel)):
        return UniformLabel(label), 1
    if isinstance(step, (list, tuple)):
        pairs = [with_uniform_label(part, label) for part in step]
        return [part for part, _ in pairs], sum(count for _, count in pairs)
    total = 0
    for name in ("transforms", "subroutines"):
        held = getattr(step, name, None)
        if held is not None:
            changed, count = with_uniform_label(held, label)
            if count:
                step = copy(step)
                setattr(step, name, changed)
                total += count
    return step, total
