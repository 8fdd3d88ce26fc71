"""Class activation maps from several scales and flips of an image."""

from itertools import islice

from mmengine.model import BaseTTAModel
from mmpretrain.structures import DataSample
from torch import nn

from mmwood.registry import MODELS

from .cam_classifier import CAMClassifier


@MODELS.register_module()
class MultiScaleCAM(BaseTTAModel):
    """Test-time augmentation for :class:`mmwood.CAMClassifier`.

    For every scale the map of the image and the flipped-back map of its flip are
    added; the sums are resized and added over the scales, and each class's map is
    divided by its maximum (IRN: scales 0.5, 1, 1.5 and 2). Inputs of equal size, an
    image and its flip among them, go through the network together, on a CPU as far as
    that is faster.

    Args:
        module: Config of a ``mmwood.CAMClassifier``; ``tools/test.py --tta`` fills it
            in.
        data_preprocessor: As in ``BaseTTAModel``.

    Raises:
        ValueError: The classifier is another.

    Example:
        >>> tta_model = dict(type='mmwood.MultiScaleCAM')
        >>> tta_pipeline = [
        ...     dict(type='mmwood.LoadImage'),
        ...     dict(type='TestTimeAug', transforms=[
        ...         [dict(type='Resize', scale_factor=s, keep_ratio=True,
        ...               backend='pillow', interpolation='bicubic')
        ...          for s in (0.5, 1.0, 1.5, 2.0)],
        ...         [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)],
        ...         [dict(type='PackInputs')]])]
    """

    def __init__(
        self,
        module: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        if not isinstance(self.module, CAMClassifier):
            raise ValueError(
                f"tta_model.type=mmwood.{type(self).__name__} merges the maps of a "
                "mmwood.CAMClassifier, but model.type is "
                f"{type(self.module).__name__}"
            )

    def test_step(self, data: dict) -> list[DataSample]:
        """Merged predictions of a batch from ``TestTimeAug`` and ``pseudo_collate``."""
        return self.merge_preds(self.views(data)[1])

    def views(self, data: dict) -> tuple[list[tuple], list[list[DataSample]]]:
        """The views of each image, and what the classifier predicts for each view."""
        inputs, samples = (list(zip(*data[key])) for key in ("inputs", "data_samples"))
        flat = dict(
            inputs=[view for own in inputs for view in own],
            data_samples=[view for own in samples for view in own],
        )
        results = iter(self.module.activations(flat))
        return inputs, [list(islice(results, len(own))) for own in inputs]

    def merge_preds(
        self, data_samples_list: list[list[DataSample]]
    ) -> list[DataSample]:
        """One prediction per image from the predictions of its views."""
        return [self.module.merge(views) for views in data_samples_list]
