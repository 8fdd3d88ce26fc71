"""Patch and class token contrast as a feature loss.

Ru et al., Token Contrast for Weakly-Supervised Semantic Segmentation (ToCo), CVPR 2023.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from mmwood.functional.class_token_contrast import (
    certainty_regions,
    class_token_loss,
    draw_corners,
    may_show_objects,
    take_crops,
)
from mmwood.models.utils.class_tokens import Views
from mmwood.registry import MODELS
from mmwood.utils.check import at_least

from .patch_token_contrast_loss import PatchTokenContrastLoss

#: How messages begin.
_FIELD = "mmwood.TokenContrastLoss: "


@MODELS.register_module()
class TokenContrastLoss(PatchTokenContrastLoss):
    r"""ToCo's both contrasts: of patch tokens, and of class tokens (CTC).

    :class:`mmwood.PatchTokenContrastLoss` with one more term, ``loss_ctc``. Crops are
    drawn where the inner maps are not sure of an object
    (:func:`mmwood.functional.class_token_contrast.draw_corners`). Class tokens of those
    that may show one are drawn to that of the whole image, and those of the others
    driven from it (:func:`.class_token_loss`), by way of a projection of three layers.
    The teacher is a moving average of the projection, taken in every training pass, on
    class tokens of the same backbone without gradient.

    For a :class:`mmwood.CAMClassifier`. The images of a training step go through the
    backbone once more, mirrored, and so do their crops. In the authors' program both
    whole views and the crops also differ in colour; here they are the training images.
    OoD images have no part in ``loss_ctc``.

    Beside it the fraction of crops that may show objects is logged, ``ctc_positive``.
    Where it is 1, maps are so wide that nothing is driven away. Crops are drawn by
    torch's random numbers.

    Args:
        *args: Of :class:`mmwood.PatchTokenContrastLoss`.
        ctc_weight: Weight of ``loss_ctc``.
        tokens_of: Name of the backbone's module that gives all tokens (B, N, D), that
            of the class first: its last normalisation. ``'ln1'`` in mmpretrain's ViT.
        local_size: Side of a crop in pixels. Published: 96 of 448.
        local_crops: Crops of an image.
        object_share: See :func:`.may_show_objects`.
        temperature: τ.
        momentum: Of the average, as in mmengine: the weight of the newest projection.
        hidden_channels: Of the projection.
        **kwargs: As ``args``.

    Raises:
        ValueError: As there; ``local_size`` is less than a patch; the model is no
            :class:`mmwood.CAMClassifier`, or its backbone has no class token.

    Shape:
        - As there; views.images: (B, 3, H, W); views.tokens: (B, in_channels)

    Example:
        >>> head = dict(
        ...     type='mmwood.CAMHead', num_classes=20, in_channels=768, pooling='max',
        ...     feature_losses=dict(ptc=dict(
        ...         type='mmwood.TokenContrastLoss', num_classes=20, in_channels=768)))
    """

    takes = ("feats", "sizes", "views")

    def __init__(
        self,
        *args: Any,
        ctc_weight: float = 0.5,
        tokens_of: str = "ln1",
        local_size: int = 96,
        local_crops: int = 8,
        object_share: float = 0.2,
        temperature: float = 0.5,
        momentum: float = 0.1,
        hidden_channels: int = 2048,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not ctc_weight > 0:
            raise ValueError(
                f"{_FIELD}ctc_weight must be positive, but is {ctc_weight!r}: without "
                "the contrast of class tokens it is mmwood.PatchTokenContrastLoss"
            )
        at_least(f"{_FIELD}local_size", local_size, self.stride, integer=True)
        at_least(f"{_FIELD}local_crops", local_crops, 1, integer=True)
        at_least(f"{_FIELD}object_share", object_share, 0, below=2)
        if not temperature > 0:
            raise ValueError(f"{_FIELD}temperature must be positive: {temperature!r}")
        if not 0 < momentum < 1:
            raise ValueError(f"{_FIELD}momentum must be in (0, 1), got {momentum!r}")
        self.ctc_weight = ctc_weight
        self.tokens_of = tokens_of
        self.local_size = local_size
        self.local_crops = local_crops
        self.object_share = object_share
        self.temperature = temperature
        self.projection = _Projection(self.in_channels, hidden_channels)
        self.teacher = ExponentialMovingAverage(self.projection, momentum)

    def forward(  # type: ignore[override]
        self,
        features: Tensor,
        maps: Tensor,
        labels: Tensor,
        is_ood: Tensor,
        feats: Sequence[Tensor],
        sizes: Tensor,
        views: Views,
    ) -> dict[str, Tensor]:
        """The terms, and what is only logged, by name."""
        own_maps, scores = self._inner_maps(feats, features, labels)
        losses = self._patch_terms(features, labels, is_ood, sizes, own_maps, scores)
        inside = ~is_ood
        self.teacher.update_parameters(self.projection)
        # Every step has every loss.
        parameters = [own.sum() for own in self.projection.parameters()]
        zero = 0 * torch.stack(parameters).sum()
        if not inside.any():
            return losses | dict(loss_ctc=zero)
        grid = [count * self.stride for count in features.shape[2:]]
        regions = certainty_regions(
            own_maps[inside], (grid[0], grid[1]), self.foreground, self.background
        )
        images, own_sizes = views.images[inside], sizes[inside]
        corners = draw_corners(regions, own_sizes, self.local_size, self.local_crops)
        positive = may_show_objects(
            regions, corners, self.local_size, self.object_share
        )
        crops = take_crops(images, corners, self.local_size)
        local = views.encode(crops.flatten(0, 1)).unflatten(0, positive.shape)
        mirrored = views.encode(images.flip(-1))
        tokens = torch.stack([views.tokens[inside], mirrored], dim=1)
        tokens = torch.cat([tokens, local], dim=1)
        # Exponentials of sums of a thousand products: not in half precision.
        with torch.autocast(features.device.type, enabled=False):
            tokens = tokens.to(self.classifier.weight.dtype)
            student = self.projection(tokens)
            with torch.no_grad():
                teacher = self.teacher(tokens[:, :2])
            known = F.pad(positive, (2, 0), value=True)
            loss = class_token_loss(teacher, student, known, self.temperature)
        return losses | dict(
            loss_ctc=self.ctc_weight * loss + zero,
            ctc_positive=positive.to(loss).mean(),
        )


class _Projection(nn.Module):
    """DINO's: three layers, unit length, then a layer of unit weights."""

    def __init__(self, channels: int, hidden: int, out: int = 1024) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 256),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.directions = nn.Linear(256, out, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        units = F.normalize(self.layers(tokens), dim=-1)
        return F.linear(units, F.normalize(self.directions.weight, dim=1))
