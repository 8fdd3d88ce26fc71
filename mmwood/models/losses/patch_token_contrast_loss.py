"""Patch token contrast as a feature loss.

Ru et al., Token Contrast for Weakly-Supervised Semantic Segmentation (ToCo), CVPR 2023.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwood.functional.patch_token_contrast import (
    IGNORED,
    auxiliary_maps,
    contrast_loss,
    inside_image,
    pair_cosines,
    token_labels,
)
from mmwood.functional.pooling import max_pooling
from mmwood.registry import MODELS
from mmwood.utils.check import at_least

#: How messages begin.
_FIELD = "mmwood.PatchTokenContrastLoss: "


@MODELS.register_module()
class PatchTokenContrastLoss(nn.Module):
    r"""PTC: keep the last tokens of a vision transformer from becoming all alike.

    For ``feature_losses`` of :class:`mmwood.CAMHead` and of :class:`mmwood.WOoDHead`,
    over a backbone that gives an inner map of the last one's grid, as
    ``dict(type='VisionTransformer', out_type='featmap', out_indices=[9, 11])``.

    A classifier of its own, a 1×1 convolution without bias whose scores are the largest
    value of each map, learns from the inner map. Its maps label the last tokens
    (:func:`mmwood.functional.patch_token_contrast.token_labels`). The loss is the sum
    of

    - ``loss_ptc_aux``: the inner classifier's multi-label soft margin loss;
    - ``loss_ptc``: :func:`.contrast_loss` of the last tokens, of all pairs of tokens of
      one image (:func:`.pair_cosines`).

    Each is logged with its weight. Beside them the mean cosines of pairs of the same
    and of different labels are logged, ``ptc_cos_same`` and ``ptc_cos_different``: the
    second should stay below the first. Have it on from the first step: tokens that are
    equal already are not parted.

    The maps are those of the training pass itself. The authors' program adds up maps
    of the scales 0.5, 1 and 1.5 with flips, about seven more passes a step. Its class
    token contrast is :class:`mmwood.TokenContrastLoss`; its decoder is not here.

    Padding takes no part in ``loss_ptc`` where ``img_shape`` of the data samples tells
    it: that of a backbone to whole patches, and that of a data preprocessor which
    batches images of different sizes (``collate_fn=dict(type='pseudo_collate')``, and
    ``RandomCrop`` without ``pad_if_needed``, which pads without a note).

    The inner classifier is new: give it the classifier's learning rate, see
    :class:`mmwood.CAMHead`. Nothing of it takes part in a test.

    Args:
        num_classes: C, as of the head.
        in_channels: Channels of the inner map.
        level: Which of the backbone's maps the inner one is, as an index.
        stride: Pixels from one token to the next, the patch size.
        ptc_weight: Weight of ``loss_ptc``; 0 leaves it out, the rest stays.
        aux_weight: Weight of ``loss_ptc_aux``.
        foreground: See :func:`.token_labels`. Published: 0.7 on VOC, 0.65 on COCO.
        background: See there.
        ood_background: Whether OoD images take part, as background everywhere: without
            a class in ``loss_ptc_aux``, to which their mean is added, and with tokens
            of one label in ``loss_ptc``; ours. False leaves them out of both.

    Raises:
        ValueError: A field is out of its range; in training: the backbone gives no such
            map, or its shape, ``stride`` or the labels do not fit.

    Shape:
        - features: (B, D, h, w); maps: (B, C, h, w); labels: (B, C); is_ood: (B,),
          bool; feats: each (B, D_i, h_i, w_i), that of ``level`` (B, in_channels, h,
          w); sizes: (B, 2)

    Example:
        >>> head = dict(
        ...     type='mmwood.CAMHead', num_classes=20, in_channels=768, pooling='max',
        ...     feature_losses=dict(ptc=dict(
        ...         type='mmwood.PatchTokenContrastLoss', num_classes=20,
        ...         in_channels=768)))
        >>> optim_wrapper = dict(paramwise_cfg=dict(custom_keys={
        ...     'head.feature_losses': dict(lr_mult=10)}))
    """

    #: What the head gives it beside features, maps, labels and is_ood.
    takes: tuple[str, ...] = ("feats", "sizes")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        level: int = -2,
        stride: int = 16,
        ptc_weight: float = 0.2,
        aux_weight: float = 1.0,
        foreground: float = 0.7,
        background: float = 0.25,
        ood_background: bool = False,
    ) -> None:
        super().__init__()
        at_least(f"{_FIELD}stride", stride, 1, integer=True)
        at_least(f"{_FIELD}ptc_weight", ptc_weight, 0)
        if not aux_weight > 0:
            raise ValueError(
                f"{_FIELD}aux_weight must be positive, but is {aux_weight!r}: maps of "
                "the inner classifier label the tokens"
            )
        if not 0 <= background <= foreground <= 1:
            raise ValueError(
                f"{_FIELD}0 <= background <= foreground <= 1 must hold, but they are "
                f"{background!r} and {foreground!r}"
            )
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.level = level
        self.stride = stride
        self.ptc_weight = ptc_weight
        self.aux_weight = aux_weight
        self.foreground = foreground
        self.background = background
        self.ood_background = ood_background
        self.classifier = nn.Conv2d(in_channels, num_classes, 1, bias=False)

    def forward(
        self,
        features: Tensor,
        maps: Tensor,
        labels: Tensor,
        is_ood: Tensor,
        feats: Sequence[Tensor],
        sizes: Tensor,
    ) -> dict[str, Tensor]:
        """The terms, and the mean cosines, by name."""
        own_maps, scores = self._inner_maps(feats, features, labels)
        return self._patch_terms(features, labels, is_ood, sizes, own_maps, scores)

    def _patch_terms(
        self,
        features: Tensor,
        labels: Tensor,
        is_ood: Tensor,
        sizes: Tensor,
        own_maps: Tensor,
        scores: Tensor,
    ) -> dict[str, Tensor]:
        """The terms, of what :meth:`_inner_maps` gives."""
        self._check_stride(features.shape[2:], sizes)
        # Small differences of cosines count: not in half precision.
        with torch.autocast(features.device.type, enabled=False):
            dtype = self.classifier.weight.dtype
            places = token_labels(own_maps, self.foreground, self.background)
            inside = inside_image(sizes, places.shape[1:], self.stride)
            places = places.masked_fill(~inside, IGNORED)
            if not self.ood_background:
                places = places.masked_fill(is_ood[:, None, None], IGNORED)
            auxiliary = self._classification(max_pooling(scores), labels, is_ood)
            losses = dict(loss_ptc_aux=self.aux_weight * auxiliary)
            same, different = pair_cosines(features.to(dtype), places)
            if self.ptc_weight:
                losses["loss_ptc"] = self.ptc_weight * contrast_loss(same, different)
        return losses | dict(
            ptc_cos_same=same.detach(), ptc_cos_different=different.detach()
        )

    def _classification(self, scores: Tensor, labels: Tensor, is_ood: Tensor) -> Tensor:
        """The mean over the images with tags, and that over OoD images. Shape: ()."""
        each = F.multilabel_soft_margin_loss(
            scores, labels.to(scores), reduction="none"
        )
        groups = [~is_ood, is_ood] if self.ood_background else [~is_ood]
        means = [each[group].mean() for group in groups if group.any()]
        # Every step has every loss.
        return sum(means, 0 * each.sum())

    def _check_stride(self, grid: Sequence[int], sizes: Tensor) -> None:
        """Refuse a stride by which images would end elsewhere than the grid does."""
        largest = sizes.amax(dim=0).tolist()
        for count, side in zip(grid, largest):
            if not 0 <= count * self.stride - side < 2 * self.stride:
                raise ValueError(
                    f"{_FIELD}stride is {self.stride}, but images of up to "
                    f"{tuple(largest)} pixels have {tuple(grid)} tokens: set it to the "
                    "patch size of the backbone"
                )

    def _inner_maps(
        self, feats: Sequence[Tensor], features: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The auxiliary maps, and the scores in space. Shape: each (B, C, h, w)."""
        inner = self._inner_map(feats, features, labels)
        with torch.autocast(features.device.type, enabled=False):
            scores = self.classifier(inner.to(self.classifier.weight.dtype))
        return auxiliary_maps(scores, labels), scores

    def _inner_map(
        self, feats: Sequence[Tensor], features: Tensor, labels: Tensor
    ) -> Tensor:
        """The map of ``level``, checked."""
        if not -len(feats) <= self.level < len(feats):
            raise ValueError(
                f"{_FIELD}level is {self.level}, but the head got {len(feats)} feature "
                "map(s). Let the backbone give an inner one before the last, as "
                "model.backbone.out_indices=[9, 11] does"
            )
        inner = feats[self.level]
        expected = (len(features), self.in_channels, *features.shape[2:])
        if tuple(inner.shape) != expected:
            raise ValueError(
                f"{_FIELD}the feature map of level {self.level} must be {expected}, of "
                "in_channels channels on the grid of the last map, but is "
                f"{tuple(inner.shape)}"
            )
        if labels.shape[1] != self.num_classes:
            raise ValueError(
                f"{_FIELD}num_classes is {self.num_classes}, but the head has "
                f"{labels.shape[1]} classes"
            )
        return inner
