"""An image classifier that also says where it saw each class."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmwood.functional.batching import group_by_shape
from mmwood.functional.cam import merge_scales, strided_size
from mmwood.models.classifiers.folding import Pair, find_pairs, folded
from mmwood.models.utils import keep_channels_first, weights_fixed
from mmwood.registry import MODELS
from mmwood.utils.activations import without_checkpointing

__all__ = ["CAMClassifier", "is_mirrored"]

#: Pixels that go through a network together on a CPU: beyond it, what layers hand on
#: leaves the caches, and the system clears memory for it again and again.
CPU_PIXELS = 2**18


@MODELS.register_module()
class CAMClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier`` with class activation maps in its predictions.

    Any backbone of mmpretrain, mmseg or timm serves that gives a spatial feature
    map, with the channels before or behind the rows and columns. Images of different
    sizes may share a test batch: they are grouped by size instead of being padded,
    because padding changes scores and maps.

    On a CPU a test folds batch normalisation into the convolutions before it and keeps
    tensors in channels-last order; results change by rounding only.

    A prediction is a ``DataSample`` with ``pred_score`` (C,), ``pred_label`` and

    - ``cam`` (n, H, W): the normalised maps of the image's classes at the original
      image's size,
    - ``cam_strided`` (n, (H-1)//4+1, (W-1)//4+1): the same on the stride-4 grid,
    - ``cam_classes`` (n,): which class each map belongs to, from 0.

    The maps are float16 by default, as they are stored: seeds and metrics made now
    and seeds made later from the files are then the same to the bit.

    Args:
        backbone, neck, head, **kwargs: As in ``ImageClassifier``. The head is a
            ``mmwood.CAMHead`` or made like it: it has ``weight`` (C, D), ``thr`` and
            ``topk``, and its predictions have ``pred_score`` and ``activation``. With
            a ``mmwood.WOoDHead`` no batch augments.
        norm_eval: Keep the statistics of batch normalisation as they were
            pretrained, in any backbone.
        test_cfg: How maps are made.

            - ``cam_labels`` (str): 'given', the default, makes the maps of the image's
              own image-level labels (``gt_label``), as label-making does; 'predicted'
              those of ``pred_label``, for images without labels; 'none' makes no maps:
              a prediction is ``pred_score`` and ``pred_label`` only.
            - ``cam_dtype`` (str): 'float16' or 'float32'.
            - ``round_up_to`` (int): See
              :func:`mmwood.functional.cam.merge_scales`.

    Raises:
        ValueError: The head gives no maps, or images would be mixed with OoD images; a
            field of ``test_cfg`` is unknown or has no such value; an image has no
            labels where given ones are needed.

    Example:
        >>> model = dict(
        ...     type='mmwood.CAMClassifier',
        ...     backbone=dict(type='ResNet', depth=50, strides=(1, 2, 2, 1)),
        ...     head=dict(type='mmwood.CAMHead', num_classes=20, in_channels=2048))
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        head: dict | None = None,
        norm_eval: bool = False,
        test_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(backbone=backbone, neck=neck, head=head, **kwargs)
        self._check_head()
        # mmpretrain's ClassNumCheckHook compares this one, too.
        if getattr(self.data_preprocessor, "num_classes", 0) is None:
            self.data_preprocessor.num_classes = len(self.head.weight)
        keep_channels_first(self.backbone)
        options = dict(cam_labels="given", cam_dtype="float16", round_up_to=None)
        unknown = set(test_cfg or ()) - set(options)
        if unknown:
            raise ValueError(
                f"model.test_cfg has no field {sorted(unknown)}; it has "
                f"{sorted(options)}"
            )
        options.update(test_cfg or {})
        if options["cam_labels"] not in ("given", "predicted", "none"):
            raise ValueError(
                "model.test_cfg.cam_labels must be 'given', 'predicted' or 'none', got "
                f"{options['cam_labels']!r}"
            )
        if options["cam_dtype"] not in ("float16", "float32"):
            raise ValueError(
                "model.test_cfg.cam_dtype must be 'float16' or 'float32', got "
                f"{options['cam_dtype']!r}"
            )
        self.test_cfg = options
        self.norm_eval = norm_eval
        self._pairs: list[Pair] | None = None

    def train(self, mode: bool = True) -> "CAMClassifier":
        """Set the mode; with ``norm_eval`` batch normalisation stays in evaluation."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """The head's losses; a head with ``perturb`` may change the images first."""
        return super().loss(self.perturbed(inputs, data_samples), data_samples)

    def perturbed(self, inputs: Tensor, data_samples: list[DataSample]) -> Tensor:
        """A batch as the head's ``perturb`` changes it, where it has one."""
        if not hasattr(self.head, "perturb"):
            return inputs
        with weights_fixed(self), without_checkpointing(self):
            return self.head.perturb(inputs, data_samples, self.extract_feat)

    def val_step(self, data: dict) -> list[DataSample]:
        """As :meth:`test_step`."""
        return self.test_step(data)

    def test_step(self, data: dict) -> list[DataSample]:
        """Predictions of a batch of images at one scale."""
        return [self.merge([sample]) for sample in self.activations(data)]

    def activations(self, data: dict) -> list[DataSample]:
        """Scores and unmerged maps of a batch of inputs of any sizes.

        Args:
            data: ``inputs``, a list of (3, h, w) tensors or one (B, 3, h, w) tensor,
                and ``data_samples``.

        Returns:
            What the head predicts, in the order of the inputs.
        """
        inputs, samples = data["inputs"], data["data_samples"]
        if isinstance(inputs, Tensor):
            return super().test_step(data)
        results: list[DataSample | None] = [None] * len(inputs)
        with self.fast_convolutions(inputs[0].shape) as order:
            for indices in group_by_shape(inputs):
                pixels = inputs[indices[0]][0].numel()
                step = max(CPU_PIXELS // pixels, 1) if self.on_cpu else len(indices)
                for start in range(0, len(indices), step):
                    part = indices[start : start + step]
                    batch = dict(
                        inputs=[inputs[i] for i in part],
                        data_samples=[samples[i] for i in part],
                    )
                    batch = self.data_preprocessor(batch, False)
                    batch["inputs"] = batch["inputs"].contiguous(memory_format=order)
                    for index, sample in zip(part, self(**batch, mode="predict")):
                        results[index] = sample
        return results

    @property
    def on_cpu(self) -> bool:
        return self.head.weight.device.type == "cpu"

    @contextmanager
    def fast_convolutions(self, shape: torch.Size) -> Iterator[torch.memory_format]:
        """Within, the backbone does the same in less time where it can, on CPUs.

        Not while it is trained or gradients are wanted. Gradients of images may be
        taken within, those of weights may not.

        Args:
            shape: (3, h, w) of an image.

        Yields:
            The memory format that images should have.
        """
        pairs = self._foldable(shape)
        with folded(pairs):
            yield torch.channels_last if pairs else torch.contiguous_format

    def _check_head(self) -> None:
        weight = getattr(self.head, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim != 2:
            raise ValueError(
                f"model.head: {type(self.head).__name__} gives no class activation "
                "maps. Use mmwood.CAMHead or mmwood.WOoDHead with model.neck=None, or "
                "give the head what they have: weight (C, D), and activation in its "
                "predictions. A classifier without maps is mmpretrain.ImageClassifier"
            )
        if hasattr(self.head, "check_preprocessor"):
            self.head.check_preprocessor(self.data_preprocessor)

    def _foldable(self, shape: torch.Size) -> list[Pair]:
        if self.training or torch.is_grad_enabled() or not self.on_cpu:
            return []
        if self._pairs is None:
            self._pairs = find_pairs(self.backbone, shape)
        return self._pairs

    def merge(self, views: list[DataSample]) -> DataSample:
        """One prediction from the views (scales and flips) of one image.

        Args:
            views: What :meth:`activations` gave for each view. The metainfo of a
                flipped one says so.

        Returns:
            The first view's sample with the mean of the scores and the merged maps.
        """
        merged = views[0].new()
        score = torch.stack([view.pred_score for view in views]).mean(dim=0)
        merged.set_pred_score(score)
        if self.head.thr is None:
            merged.set_pred_label(score.topk(self.head.topk).indices)
        else:
            merged.set_pred_label(torch.where(score >= self.head.thr)[0])
        del merged.activation
        if self.test_cfg["cam_labels"] == "none":
            return merged
        classes = self._cam_classes(merged)
        maps = []
        for view in views:
            activation = view.activation[classes].float()
            if is_mirrored(view):
                activation = activation.flip(-1)
            maps.append(activation)
        size = tuple(merged.ori_shape[:2])
        dtype = getattr(torch, self.test_cfg["cam_dtype"])
        full = merge_scales(maps, size, self.test_cfg["round_up_to"])
        strided = merge_scales(maps, strided_size(size))
        merged.set_field(full.to(dtype), "cam", dtype=Tensor)
        merged.set_field(strided.to(dtype), "cam_strided", dtype=Tensor)
        merged.set_field(classes, "cam_classes", dtype=Tensor)
        return merged

    def _cam_classes(self, sample: DataSample) -> Tensor:
        if self.test_cfg["cam_labels"] == "predicted":
            return sample.pred_label
        if "gt_label" not in sample:
            raise ValueError(
                f"{sample.get('img_path')} has no image-level labels, but "
                "model.test_cfg.cam_labels is 'given': give labels or set it to "
                "'predicted'"
            )
        return sample.gt_label.to(sample.pred_score.device)


def is_mirrored(view: DataSample) -> bool:
    """Whether a view of an image is its flip.

    Raises:
        ValueError: It is flipped in another direction than the horizontal one.
    """
    if not view.get("flip", False):
        return False
    if view.get("flip_direction") != "horizontal":
        raise ValueError(
            "class activation maps can be merged over horizontal flips only, "
            f"tta_pipeline flips {view.get('flip_direction')!r}"
        )
    return True
