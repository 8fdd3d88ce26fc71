"""The classification head whose weights make class activation maps."""

from typing import Any

from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmwood.functional.axes import is_channels_last
from mmwood.functional.cam import class_activation_maps
from mmwood.models.utils import refuse_left_behind
from mmwood.registry import MODELS

__all__ = ["CAMHead"]


@MODELS.register_module()
class CAMHead(MultiLabelClsHead):
    r"""Multi-label head on a spatial feature map: mean pooling, 1×1 conv, no bias.

    With f the last feature map of the backbone, z its mean over space and W the
    weight of the convolution, the scores are s = W z and the class activation maps
    relu(W f). Training minimises the multi-label soft margin loss

    .. math:: L = -\frac{1}{C} \sum_c y_c \log\sigma(s_c)
                  + (1 - y_c) \log(1 - \sigma(s_c))

    averaged over the batch. It is made of mmpretrain's binary cross-entropy, which
    sums over the classes: hence its loss weight 1/C. Published learning rates belong
    to the mean.

    The layer is new while the backbone is pretrained, so it usually gets ten times
    the learning rate: ``paramwise_cfg=dict(custom_keys={'head.classifier':
    dict(lr_mult=10)})``. (The key 'head' would also match timm's ``conv_head``.)

    Args:
        num_classes: C, the number of foreground classes.
        in_channels: D, the channels of the backbone's last feature map.
        loss: Config of another loss on (scores, targets). None is the loss above.
        thr: Score from which a class counts as predicted in ``pred_label``.
        topk: Predict this many classes instead. See ``MultiLabelClsHead``.
        init_cfg: As in every OpenMMLab module.

    Raises:
        ValueError: There is no such field, or ``topk`` is no number; in training and
            tests: the features are no map (B, D, h, w).

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

    @property
    def weight(self) -> Tensor:
        """The classifier's weight W. Shape: (C, D)."""
        return self.classifier.weight[:, :, 0, 0]

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The pooled feature z. Shape: (B, D)."""
        return self._last_map(feats).mean(dim=(2, 3))

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The scores s, before the sigmoid. Shape: (B, C)."""
        return self.pre_logits(feats) @ self.weight.T

    def loss(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """As in ``MultiLabelClsHead``: ``loss``."""
        self.check_axes(feats, data_samples)
        return super().loss(feats, data_samples, **kwargs)

    def predict(
        self,
        feats: tuple[Tensor, ...],
        data_samples: list[DataSample] | None = None,
    ) -> list[DataSample]:
        """Scores, predicted labels and class activation maps.

        Returns:
            One sample per image with ``pred_score`` (C,), the sigmoid of the scores,
            ``pred_label`` (n,) and ``activation`` (C, h, w), the class activation
            maps on the grid of the features, not normalised.
        """
        self.check_axes(feats, data_samples)
        samples = super().predict(feats, data_samples)
        activations = class_activation_maps(self._last_map(feats), self.weight)
        for sample, activation in zip(samples, activations):
            sample.set_field(activation, "activation", dtype=Tensor)
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

    def _last_map(self, feats: tuple[Tensor, ...]) -> Tensor:
        features = feats[-1]
        if not isinstance(features, Tensor) or features.ndim != 4:
            shape = getattr(features, "shape", type(features).__name__)
            raise ValueError(
                "mmwood.CAMHead needs a spatial feature map (B, D, h, w), got "
                f"{shape}: set model.neck=None, and for transformers "
                "model.backbone.out_type='featmap'"
            )
        if features.shape[1] != self.in_channels:
            raise ValueError(
                f"model.head.in_channels is {self.in_channels}, but the backbone's "
                f"last feature map has {features.shape[1]} channels: it is "
                f"{tuple(features.shape)}, and the order of the axes must be "
                "(B, D, h, w)"
            )
        return features
