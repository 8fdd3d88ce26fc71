"""The classification head whose weights make class activation maps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.structures import DataSample, label_to_onehot
from torch import Tensor, nn

from mmwood.functional.axes import is_channels_last
from mmwood.functional.cam import class_activation_maps, own_class_maps
from mmwood.functional.pooling import POOLINGS
from mmwood.models.utils import Views, refuse_left_behind, with_defaults
from mmwood.registry import MODELS
from mmwood.utils.check import one_of
from mmwood.utils.config import without_names


@MODELS.register_module()
class CAMHead(MultiLabelClsHead):
    r"""Multi-label head on a spatial feature map: mean pooling, 1×1 conv, no bias.

    With f the last feature map of the backbone, z its mean over space and W the
    weight of the convolution, the scores are s = W z and the class activation maps
    relu(W f). Other rules for the scores are chosen with ``pooling``; z, of which
    W-OoD takes distances, stays the mean, and :class:`mmwood.AdvCAM` climbs the
    mean. Training minimises the multi-label soft margin loss

    .. math:: L = -\frac{1}{C} \sum_c y_c \log\sigma(s_c)
                  + (1 - y_c) \log(1 - \sigma(s_c))

    averaged over the batch. It is made of mmpretrain's binary cross-entropy, which
    sums over the classes: hence its loss weight 1/C. Published learning rates belong
    to the mean.

    The layer is new while the backbone is pretrained, so it usually gets ten times
    the learning rate: ``paramwise_cfg=dict(custom_keys={'head.classifier':
    dict(lr_mult=10)})``. (The key 'head' would also match timm's ``conv_head``.)

    Feature losses take part in the training alone. Each is a module that is called as
    ``loss(features, maps, labels, is_ood)`` with

    - features (B, D, h, w), the last map f;
    - maps (B, C, h, w), from 0 to 1, :func:`mmwood.functional.cam.own_class_maps`;
    - labels (B, C), 0 or 1, zero for OoD images;
    - is_ood (B,), bool,

    and gives scalars by name: those whose name contains ``loss`` are added to the
    loss, others are only logged. What its attribute ``takes`` names it is given beside
    these four, by keyword:

    - ``'feats'``: all maps of the backbone, the last one among them;
    - ``'sizes'`` (B, 2): height and width of each image by ``img_shape`` of its data
      sample; what a batch has below and right of it is padding;
    - ``'scores'`` (B, C, h, w): W f, with gradient;
    - ``'teacher_scores'`` (B, C, h, w): those of :class:`mmwood.TeacherMapHook`;
    - ``'views'``: :class:`mmwood.models.utils.class_tokens.Views`, of a
      :class:`mmwood.CAMClassifier`. The loss's attribute ``tokens_of`` names the module
      of the backbone that gives all tokens.

    Beside them the head's own loss is called ``loss_cls``. Parameters of a feature loss
    learn at the rate of the backbone, unless ``custom_keys`` has
    ``'head.feature_losses': dict(lr_mult=10)`` as well.

    Args:
        num_classes: C, the number of foreground classes.
        in_channels: D, the channels of the backbone's last feature map.
        loss: Config of another loss on (scores, targets). None is the loss above.
        thr: Score from which a class counts as predicted in ``pred_label``.
        topk: Predict this many classes instead. See ``MultiLabelClsHead``.
        init_cfg: As in every OpenMMLab module.
        pooling: How the map W f of a class becomes its score: ``'mean'``, ``'max'``,
            ``'softmax'``, ``'threshold'`` or ``'rank'`` of
            :mod:`mmwood.functional.pooling`, or ``dict(type='softmax',
            temperature=2.0)`` to set what its function takes; or the config of a
            module that takes maps (B, C, h, w) and gives scores (B, C).
        feature_losses: Configs of feature losses: a list, or a dict by name, so that
            ``--cfg-options`` reaches each (None leaves one out).

    Raises:
        ValueError: There is no such field, ``topk`` is no number, ``pooling`` has
            another value, or a feature loss takes what there is not; in training and
            tests: the features are no map (B, D, h, w), or two losses have one name.

    Shape:
        - features: tuple of which the last is (B, D, h, w); scores: (B, C)

    Example:
        >>> model = dict(
        ...     type='mmpretrain.ImageClassifier',
        ...     backbone=dict(type='ResNet', depth=50, strides=(1, 2, 2, 1)),
        ...     neck=None,
        ...     head=dict(type='mmwood.CAMHead', num_classes=20, in_channels=2048))
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: dict | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: dict | None = None,
        pooling: str | dict = "mean",
        feature_losses: Sequence[dict] | Mapping[str, dict | None] = (),
        **others: Any,
    ) -> None:
        if topk is not None and not isinstance(topk, int):
            # mmpretrain's heads for one label an image have numbers to score at.
            others["topk"] = topk
        refuse_left_behind(type(self).__name__, "model.head", others)
        if loss is None:
            loss = dict(
                type="mmpretrain.CrossEntropyLoss",
                use_sigmoid=True,
                loss_weight=1.0 / num_classes,
            )
        super().__init__(loss=loss, thr=thr, topk=topk, init_cfg=init_cfg)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.classifier = nn.Conv2d(in_channels, num_classes, 1, bias=False)
        self.pooling = _make_pooling(pooling)
        # Last, so that the classifier's random weights do not depend on them.
        self.feature_losses = nn.ModuleList(
            MODELS.build(config)
            for config in without_names(feature_losses, "model.head.feature_losses")
        )
        for module in self.feature_losses:
            for name in getattr(module, "takes", ()):
                one_of(f"{type(module).__name__}.takes", name, _TAKEN)

    @property
    def weight(self) -> Tensor:
        """The classifier's weight W. Shape: (C, D)."""
        return self.classifier.weight[:, :, 0, 0]

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The pooled feature z. Shape: (B, D)."""
        return self._last_map(feats).mean(dim=(2, 3))

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The scores s, before the sigmoid. Shape: (B, C)."""
        if self.pooling is None:
            return self.pre_logits(feats) @ self.weight.T
        return self.pooling(self.scores_in_space(feats))

    def scores_in_space(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The map W f of each class. Shape: (B, C, h, w)."""
        return F.conv2d(self._last_map(feats), self.classifier.weight)

    def loss(
        self,
        feats: tuple[Tensor, ...],
        data_samples: list[DataSample],
        views: Views | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """As in ``MultiLabelClsHead``: ``loss``; with feature losses see above."""
        self.check_axes(feats, data_samples)
        losses = super().loss(feats, data_samples, **kwargs)
        if self.feature_losses:
            # In the log, ``loss`` is the sum of all.
            losses = dict(loss_cls=losses.pop("loss"), **losses)
        return losses | self.losses_of_features(feats, data_samples, losses, views)

    def losses_of_features(
        self,
        feats: tuple[Tensor, ...],
        data_samples: list[DataSample],
        others: Mapping[str, Tensor],
        views: Views | None = None,
    ) -> dict[str, Tensor]:
        """What the feature losses give; the names of ``others`` are taken.

        Raises:
            ValueError: Two losses have one name, or one takes what there is not.
        """
        found: dict[str, Tensor] = {}
        if not self.feature_losses:
            return found
        features = self._last_map(feats)
        labels = self._labels(data_samples).to(features.device)
        maps = own_class_maps(features, self.weight, labels)
        is_ood = torch.tensor(which_are_ood(data_samples), device=features.device)
        for loss in self.feature_losses:
            more = {
                name: _TAKEN[name](self, feats, data_samples, views)
                for name in getattr(loss, "takes", ())
            }
            own = loss(features, maps, labels, is_ood, **more)
            taken = sorted(own.keys() & {*found, *others})
            if taken:
                raise ValueError(
                    f"model.head.feature_losses: {type(loss).__name__} gives {taken}, "
                    "as another loss of the head does: every loss needs a name of "
                    "its own"
                )
            found |= own
        return found

    def predict(
        self,
        feats: tuple[Tensor, ...],
        data_samples: list[DataSample] | None = None,
    ) -> list[DataSample]:
        """Scores, predicted labels and class activation maps.

        Returns:
            One sample per image with ``pred_score`` (C,), the sigmoid of the scores,
            ``pred_label`` (n,), ``activation`` (C, h, w), the class activation maps
            on the grid of the features, not normalised, and ``features`` (D,), the
            pooled feature z.
        """
        self.check_axes(feats, data_samples)
        samples = super().predict(feats, data_samples)
        activations = class_activation_maps(self._last_map(feats), self.weight)
        pooled = self.pre_logits(feats)
        for sample, activation, z in zip(samples, activations, pooled):
            sample.set_field(activation, "activation", dtype=Tensor)
            sample.set_field(z, "features", dtype=Tensor)
        return samples

    def check_axes(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample] | None
    ) -> None:
        """Refuse a last map (B, h, w, D), as far as the image's size tells.

        :class:`mmwood.CAMClassifier` turns such maps, mmpretrain's ``ImageClassifier``
        does not.

        Raises:
            ValueError: The channels are behind the rows and columns.
        """
        size = data_samples[0].get("img_shape") if data_samples else None
        shape = getattr(feats[-1], "shape", ())
        if size is not None and len(shape) == 4 and is_channels_last(shape, size[:2]):
            raise ValueError(
                "the order of the axes of the backbone's last feature map is (B, h, w, "
                f"D): it is {tuple(shape)} for an image of {tuple(size[:2])}. With "
                "model.type='mmwood.CAMClassifier' either order serves"
            )

    def _labels(self, data_samples: list[DataSample]) -> Tensor:
        """Which classes the images show. Shape: (B, C)."""
        if "gt_score" in data_samples[0]:
            # Batch augments have mixed the images.
            return torch.stack([(s.gt_score > 0).long() for s in data_samples])
        return torch.stack(
            [label_to_onehot(s.gt_label, self.num_classes) for s in data_samples]
        )

    def _last_map(self, feats: tuple[Tensor, ...]) -> Tensor:
        features = feats[-1]
        if not isinstance(features, Tensor) or features.ndim != 4:
            shape = getattr(features, "shape", type(features).__name__)
            raise ValueError(
                "mmwood.CAMHead needs a spatial feature map (B, D, h, w), got "
                f"{shape}: set model.neck=None, and for transformers "
                "model.backbone.out_type='featmap', for those of timm "
                "features_only=True, for ConvNeXt gap_before_final_norm=False "
                "(docs/backbones.md)"
            )
        if features.shape[1] != self.in_channels:
            raise ValueError(
                f"model.head.in_channels is {self.in_channels}, but the backbone's "
                f"last feature map has {features.shape[1]} channels: it is "
                f"{tuple(features.shape)}, and the order of the axes must be "
                "(B, D, h, w)"
            )
        return features


def which_are_ood(data_samples: list[DataSample]) -> list[bool]:
    """Which images are out of distribution, by ``is_ood`` of their data samples."""
    return [bool(sample.get("is_ood", False)) for sample in data_samples]


def _image_sizes(feats: tuple[Tensor, ...], data_samples: list[DataSample]) -> Tensor:
    """Height and width of each image without padding. Shape: (B, 2)."""
    if any("img_shape" not in sample for sample in data_samples):
        raise ValueError(
            "a data sample has no img_shape, which a feature loss needs: name it in "
            "PackInputs.meta_keys of the training pipeline"
        )
    sizes = [sample.img_shape[:2] for sample in data_samples]
    return torch.tensor(sizes, device=feats[-1].device)


def _teacher_scores(data_samples: list[DataSample]) -> Tensor:
    """What :class:`mmwood.TeacherMapHook` gave the images. Shape: (B, C, h, w)."""
    if any("teacher_scores" not in sample for sample in data_samples):
        raise ValueError(
            "a feature loss takes the maps of a teacher: add "
            "default_hooks.teacher.type=mmwood.TeacherMapHook"
        )
    return torch.stack([sample.teacher_scores for sample in data_samples])


def _given_views(views: Views | None) -> Views:
    if views is None:
        raise ValueError(
            "a feature loss looks at images again, for which model.type must be "
            "mmwood.CAMClassifier"
        )
    return views


_Taken = Callable[[CAMHead, Any, list[DataSample], Views | None], Any]
#: What feature losses may take, by name, of the head, features, data samples and views.
_TAKEN: dict[str, _Taken] = dict(
    feats=lambda head, feats, samples, views: feats,
    sizes=lambda head, feats, samples, views: _image_sizes(feats, samples),
    scores=lambda head, feats, samples, views: head.scores_in_space(feats),
    teacher_scores=lambda head, feats, samples, views: _teacher_scores(samples),
    views=lambda head, feats, samples, views: _given_views(views),
)


def _make_pooling(config: str | dict) -> Callable[[Tensor], Tensor] | None:
    """The rule of ``pooling``; None is the mean, which is taken of the features."""
    options = dict(type=config) if isinstance(config, str) else dict(config)
    name = options.get("type")
    if name not in POOLINGS:
        if isinstance(config, str) or name is None:
            one_of("model.head.pooling", name, POOLINGS)
        return MODELS.build(config)
    function = POOLINGS[options.pop("type")]
    fields = list(signature(function).parameters.values())[1:]
    defaults = {field.name: field.default for field in fields}
    pool = partial(function, **with_defaults("model.head.pooling", options, defaults))
    # A wrong value must be seen now, not at the first step.
    try:
        pool(torch.zeros(1, 1, 1, 1))
    except ValueError as error:
        raise ValueError(f"model.head.pooling: {error}") from error
    return None if name == "mean" else pool
