"""An image classifier that also says where it saw each class."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmwood.functional.attention_affinity import AffinityMode, spread_maps
from mmwood.functional.cam import MapDtype, merge_scales, strided_size
from mmwood.models.utils import (
    AttentionReader,
    ClassTokens,
    count_extra_tokens,
    keep_channels_first,
    step_by_shape,
    weights_fixed,
    with_defaults,
)
from mmwood.registry import MODELS
from mmwood.utils.activations import without_checkpointing
from mmwood.utils.check import at_least, one_of

#: Whose maps are made: of the image's labels, of predicted ones, or none.
CamLabels = Literal["given", "predicted", "none"]
#: Pixels that go through a network together on a CPU: beyond it, what layers hand on
#: leaves the caches, and the system clears memory for it again and again.
CPU_PIXELS = 2**18
#: As published: MCTformer; CLIP-ES and ExCEL.
_REFINE: dict[str, dict[str, Any]] = dict(
    mean=dict(layers=None, box_threshold=None),
    sinkhorn=dict(layers=6, iterations=3, box_threshold=0.79),
)


@MODELS.register_module()
class CAMClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier`` with class activation maps in its predictions.

    Any backbone of mmpretrain, mmseg or timm serves that gives a spatial feature
    map, with the channels before or behind the rows and columns. Images of different
    sizes may share a test batch: they are batched by size instead of being padded,
    because padding changes scores and maps.

    A prediction is a ``DataSample`` with ``pred_score`` (C,), ``pred_label`` and

    - ``cam`` (n, H, W): the normalised maps of the image's classes at the original
      image's size,
    - ``cam_strided`` (n, (H-1)//4+1, (W-1)//4+1): the same on the stride-4 grid,
    - ``cam_classes`` (n,): which class each map belongs to, from 0.

    The maps are float16 by default, as they are stored: seeds and metrics made now
    and seeds made later from the files are then the same to the bit.

    Args:
        backbone: As in ``ImageClassifier``.
        neck: As there.
        head: A ``mmwood.CAMHead`` or one made like it: it has ``weight`` (C, D),
            ``thr`` and ``topk``, and its predictions have ``pred_score`` and
            ``activation``. With a ``mmwood.WOoDHead`` no batch augments.
        norm_eval: Keep the statistics of batch normalisation as they were
            pretrained, in any backbone.
        test_cfg: How maps are made.

            - ``cam_labels`` (str): 'given', the default, makes the maps of the image's
              own image-level labels (``gt_label``), as label-making does; 'predicted'
              those of ``pred_label``, for images without labels; 'none' makes no maps:
              a prediction is ``pred_score``, ``pred_label`` and, if the head gives it,
              the pooled feature ``features`` (D,).
            - ``cam_dtype`` (str): 'float16' or 'float32'.
            - ``round_up_to`` (int): See
              :func:`mmwood.functional.cam.merge_scales`.
            - ``refine`` (str or dict): None, or how the self-attention of a vision
              transformer spreads the maps of each scale
              (:func:`mmwood.functional.attention_affinity.spread_maps`): 'mean' of all
              layers, 'sinkhorn' of the last six, within boxes of 0.79 of a map's
              maximum. ``dict(type='sinkhorn', layers=8)`` sets what the mode has:
              ``layers``, how many of the last (None: all), and ``box_threshold``
              (None: no boxes); with 'sinkhorn' ``iterations`` as well.

        **kwargs: As in ``ImageClassifier``.

    Raises:
        ValueError: The head gives no maps, or images would be mixed with OoD images;
            ``test_cfg`` has another field, or another value of one; an image has no
            labels where given ones are needed; maps are to be refined, but the network
            has no self-attention of all their cells.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, neck=neck, head=head, **kwargs)
        self._check_head()
        # mmpretrain's ClassNumCheckHook compares this one, too.
        if getattr(self.data_preprocessor, "num_classes", 0) is None:
            self.data_preprocessor.num_classes = len(self.head.weight)
        keep_channels_first(self.backbone)
        defaults = dict(
            cam_labels="given", cam_dtype="float16", round_up_to=None, refine=None
        )
        options = with_defaults("model.test_cfg", test_cfg, defaults)
        for name, choices in (("cam_labels", CamLabels), ("cam_dtype", MapDtype)):
            one_of(f"model.test_cfg.{name}", options[name], get_args(choices))
        self.test_cfg = options
        self._refine = _refinement(options["refine"])
        self.norm_eval = norm_eval
        self._class_tokens: ClassTokens | None = None
        for loss in getattr(self.head, "feature_losses", ()):
            if "views" in getattr(loss, "takes", ()):
                self._class_tokens = ClassTokens(self.backbone, loss.tokens_of)
        # A queue of a feature loss is each process's own: DistributedDataParallel must
        # not hand out the first one's.
        self._ddp_params_and_buffers_to_ignore = [
            f"{name}.{buffer}"
            for name, module in self.named_modules()
            for buffer in getattr(module, "process_buffers", ())
        ]

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
        inputs = self.perturbed(inputs, data_samples)
        if self._class_tokens is None:
            return super().loss(inputs, data_samples)
        feats = self.extract_feat(inputs)
        views = self._class_tokens.views(inputs, self.extract_feat)
        return self.head.loss(feats, data_samples, views=views)

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
        step = super().test_step
        if self._refine is not None and self.test_cfg["cam_labels"] != "none":
            step = partial(self._refined, step, *self._refine)
        if isinstance(data["inputs"], Tensor):
            return step(data)
        return step_by_shape(step, data, self.pixels_together())

    def _refined(
        self,
        step: Callable[[dict], list[DataSample]],
        layers: int | None,
        options: dict[str, Any],
        data: dict,
    ) -> list[DataSample]:
        """What a step predicts for images of one size, the maps spread by attention."""
        with AttentionReader(layers) as reader:
            samples = step(data)
        maps = torch.stack([sample.activation for sample in samples])
        extra = count_extra_tokens(self.backbone)
        tokens = maps[0, 0].numel() + extra
        # Sums of hundreds of weights: not in half precision.
        with torch.autocast(maps.device.type, enabled=False):
            attention = reader.mean(len(maps), tokens)
        if attention is None:
            raise ValueError(
                f"model.test_cfg.refine: maps of {tuple(maps.shape[2:])} patches and "
                f"{extra} more tokens need self-attention {(len(maps), tokens, tokens)}"
                f"; that of {type(self.backbone).__name__} (images, queries, keys) is "
                f"{', '.join(map(str, reader.shapes())) or 'none'} (docs/backbones.md)"
            )
        with torch.autocast(maps.device.type, enabled=False):
            spread = spread_maps(maps, attention, **options)
        for sample, activation in zip(samples, spread):
            sample.set_field(activation, "activation", dtype=Tensor)
        return samples

    def pixels_together(self, elsewhere: int | None = None) -> int | None:
        """How many pixels go through the network at once: few on CPUs."""
        return CPU_PIXELS if self.head.weight.device.type == "cpu" else elsewhere

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
            if "features" in merged:
                z = torch.stack([view.features for view in views]).mean(dim=0)
                merged.set_field(z, "features", dtype=Tensor)
            return merged
        merged.pop("features", None)
        classes = self._cam_classes(merged)
        maps = [view.activation[classes].float() for view in views]
        maps = [m.flip(-1) if is_mirrored(v) else m for m, v in zip(maps, views)]
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


def _refinement(config: str | dict | None) -> tuple[int | None, dict[str, Any]] | None:
    """The layers of ``refine`` and the options of ``spread_maps``."""
    if config is None:
        return None
    field = "model.test_cfg.refine"
    given = dict(type=config) if isinstance(config, str) else dict(config)
    mode: Any = given.pop("type", None)
    one_of(f"{field}.type", mode, get_args(AffinityMode))
    options = with_defaults(field, given, _REFINE[mode])
    layers = options.pop("layers")
    if layers is not None:
        at_least(f"{field}.layers", layers, 1, integer=True)
    # A wrong value must be seen now, not at the first image.
    try:
        spread_maps(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1), mode, **options)
    except ValueError as error:
        raise ValueError(f"{field}.{error}") from error
    return layers, dict(options, mode=mode)


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
