"""Out-of-distribution images as images of nothing but background."""

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import Compose

from mmwood.datasets.ood import OoDDataset
from mmwood.datasets.transforms.uniform_label import with_uniform_label
from mmwood.registry import DATASETS
from mmwood.utils.check import one_of


@DATASETS.register_module()
class OoDBackgroundDataset(OoDDataset):
    """Reviewed OoD images for a segmentation network: every pixel is background.

    A reviewed image shows none of the classes, so its label map is 0 everywhere. No
    file holds that map: the data set takes any mmseg pipeline and puts
    :class:`mmwood.UniformLabel` in the place of its ``LoadAnnotations``, within
    ``TestTimeAug`` and its like too. :class:`mmwood.OoDMixDataset` joins it with the
    training images, :class:`mmwood.OoDFractionSampler` says how many images of a batch
    it gives.

    In a test beside images with masks, ``label=255`` keeps these images out of mIoU;
    :class:`mmwood.FalsePositiveMetric` looks at them alone.

    Where OoD images are smaller or softer than the others, the network can learn "soft
    = background": put :class:`mmwood.RandomSoften` into the pipeline of both.

    Args:
        *args: As in :class:`mmwood.OoDDataset`.
        label: 0, or 255 for images that no loss and no mIoU looks at.
        background: What the other images' data set calls its class 0. Where this is
            an object (Cityscapes: road), OoD images have no label.
        **kwargs: As in :class:`mmwood.OoDDataset`. Names of classes, which the metric
            of a test of these images alone needs, are ``metainfo.classes``.

    Raises:
        ValueError: As :class:`mmwood.OoDDataset`; ``label`` is another one; class 0 has
            another name; the pipeline has no ``LoadAnnotations`` (at the first image).

    Data info:
        Of :class:`mmwood.OoDDataset`, with what mmseg's transforms expect:
        ``seg_fields``, ``label_map`` and ``reduce_zero_label``.

    Example:
        >>> dict(type='mmwood.OoDMixDataset', pipeline=train_pipeline,
        ...      in_distribution=dict(type='PascalVOCDataset', ...),
        ...      ood=dict(type='mmwood.OoDBackgroundDataset', part='train',
        ...               ann_file='data/ood/ood.csv'))
    """

    def __init__(
        self,
        *args: Any,
        label: int = 0,
        background: str = "background",
        **kwargs: Any,
    ) -> None:
        one_of("mmwood.OoDBackgroundDataset: label", label, (0, 255))
        self.label = label
        self.background = background
        super().__init__(*args, **kwargs)

    @property
    def pipeline(self) -> Compose:
        """The transforms; what is set gives every pixel :attr:`label`."""
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Compose) -> None:
        self._pipeline, self._replaced = with_uniform_label(pipeline, self.label)

    def load_data_list(self) -> list[dict]:
        """As of OoD images, with what mmseg's transforms expect."""
        own = dict(label_map=None, reduce_zero_label=False)
        return [dict(info, **own, seg_fields=[]) for info in super().load_data_list()]

    def prepare_data(self, idx: int) -> Any:
        """An image through the pipeline."""
        if not self._replaced and self.pipeline.transforms:
            raise ValueError(
                "mmwood.OoDBackgroundDataset: its pipeline has no LoadAnnotations, in "
                "whose place the images get their label map: give it the pipeline of "
                "the other images, or add dict(type='mmwood.UniformLabel')"
            )
        return super().prepare_data(idx)

    def check_classes(self, classes: Sequence[str]) -> None:
        """As of OoD images; and class 0 must be the background."""
        if classes[0] != self.background:
            raise ValueError(
                f"mmwood.OoDBackgroundDataset: label 0 is {classes[0]!r}, not "
                f"{self.background!r}, and OoD images show no class: a network needs a "
                "class for that, the first one; if it has another name, set background"
            )
        super().check_classes(classes)
