"""The Siamese classifier whose maps do not change with the image's size."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample, label_to_onehot
from torch import Tensor, nn

from mmwood.functional.seam import (
    cross_regularization_loss,
    min_pooling_loss,
    normalized_maps,
    pixel_correlation,
    strongest_only,
    with_background,
)
from mmwood.models.utils.named_features import NamedFeatures, check_named_features
from mmwood.registry import MODELS

from .cam_classifier import CAMClassifier


@MODELS.register_module()
class SEAM(CAMClassifier):
    """SEAM (Wang et al., CVPR 2020) over any backbone of several levels.

    The network sees each image twice, as it is and smaller. Beside the head's own
    losses, of which both views' mean is taken, it learns that

    - the smaller image's maps are the image's maps, resized: ``loss_er``, equivariant
      regularisation, the mean absolute difference;
    - the maps that the pixel correlation module (PCM) refines are the other view's
      maps: ``loss_ecr``, equivariant cross regularisation
      (:func:`mmwood.functional.seam.cross_regularization_loss`);
    - a quarter of the pixels show no object: ``loss_min``, both views' mean of
      :func:`mmwood.functional.seam.min_pooling_loss`.

    All maps are those of the image's own classes, the first two's between 0 and 1. PCM
    looks at the image's pixels and at the backbone's earlier levels; neither these nor
    the maps that it refines learn from it. In a test the refined maps are the class
    activation maps.

    The released program pools the scores after it has enlarged the maps to the image's
    size, which gives the outermost cells half the weight; here the head pools as ever.

    With a :class:`mmwood.WOoDHead`, OoD images take part in the head's losses only.

    Args:
        backbone: Gives the levels that PCM looks at and, last, the head's features.
        pcm_in_channels: Channels of those levels: [512, 1024] for
            ``dict(type='mmwood.WideResNet38', out_indices=(2, 3, 5))``.
        levels: Names of the backbone's modules whose outputs are the levels, where the
            backbone does not give them itself.
        pcm_channels: Channels that each level is brought to. PCM's features have their
            sum. Published for the backbone above.
        dropout: Probability of a channel of the head's features to be left out in
            training.
        view_scale: Size of the smaller view.
        er_weight: Weight of ``loss_er``; 0 leaves it out.
        ecr_weight: Weight of ``loss_ecr``; 0 leaves it out.
        min_weight: Weight of ``loss_min``; 0 leaves it out.
        **kwargs: Of :class:`mmwood.CAMClassifier`, ``head`` among them; no ``neck``.

    Raises:
        ValueError: The channels or the levels do not fit, or ``view_scale`` is not
            between 0 and 1.

    Example:
        >>> model = dict(
        ...     type='mmwood.SEAM',
        ...     backbone=dict(type='mmwood.WideResNet38', out_indices=(2, 3, 5)),
        ...     pcm_in_channels=[512, 1024],
        ...     head=dict(type='mmwood.CAMHead', num_classes=20, in_channels=4096))
    """

    def __init__(
        self,
        backbone: dict,
        pcm_in_channels: Sequence[int],
        pcm_channels: Sequence[int] = (64, 128),
        levels: Sequence[str] | None = None,
        dropout: float = 0.5,
        view_scale: float = 0.3,
        er_weight: float = 1.0,
        ecr_weight: float = 1.0,
        min_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, **kwargs)
        if len(pcm_in_channels) != len(pcm_channels) or not pcm_channels:
            raise ValueError(
                "model.pcm_in_channels and model.pcm_channels need one number for each "
                f"level, got {list(pcm_in_channels)} and {list(pcm_channels)}"
            )
        if not 0 < view_scale < 1:
            raise ValueError(f"model.view_scale must be in (0, 1), got {view_scale}")
        self.view_scale = view_scale
        self._levels: NamedFeatures | None = None
        if levels is not None:
            self._levels = NamedFeatures(self.backbone, levels, "model.levels")
        self.weights = dict(loss_er=er_weight, loss_ecr=ecr_weight, loss_min=min_weight)
        self.dropout = nn.Dropout2d(dropout)
        self.pcm_in_channels = pcm_in_channels
        levels_of_pcm = [
            nn.Conv2d(own, out, 1, bias=False)
            for own, out in zip(pcm_in_channels, pcm_channels)
        ]
        self.pcm_levels = nn.ModuleList(levels_of_pcm)
        total = sum(pcm_channels)
        self.pcm_merge = nn.Conv2d(total + 3, total, 1, bias=False)
        for convolution in levels_of_pcm:
            nn.init.kaiming_normal_(convolution.weight)
        nn.init.xavier_uniform_(self.pcm_merge.weight, gain=4)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """The head's losses and SEAM's by name; their sum is the loss."""
        inputs = self.perturbed(inputs, data_samples)
        small = F.interpolate(
            inputs, scale_factor=self.view_scale, mode="bilinear", align_corners=True
        )
        ours, maps, refined = self._look(inputs, data_samples)
        theirs, small_maps, small_refined = self._look(small, data_samples)
        # What is only logged may be of one view.
        losses = {n: (ours[n] + theirs[n]) / 2 for n in ours if n in theirs}
        inside = [not sample.get("is_ood", False) for sample in data_samples]
        labels = [
            label_to_onehot(sample.gt_label, len(self.head.weight))
            for sample, kept in zip(data_samples, inside)
            if kept
        ]
        present = torch.stack(labels).to(maps)[:, :, None, None]
        views = maps[inside], refined[inside], small_maps[inside], small_refined[inside]
        extra = self._consistency(*views, present)
        return losses | {
            name: weight * extra[name]
            for name, weight in self.weights.items()
            if weight
        }

    def _look(
        self, images: Tensor, data_samples: list[DataSample]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The head's losses; maps (B, C, H, W); refined maps (B, C + 1, H, W)."""
        levels, last = self._features(images)
        last = self.dropout(last)
        losses = self.head.loss((last,), data_samples)
        maps = self._maps(last)
        refined = self.refine(images, levels, maps)
        size = images.shape[2:]
        return losses, _resize(maps.float(), size), _resize(refined.float(), size)

    def _maps(self, last: Tensor) -> Tensor:
        """The head's class scores in space. Shape: (B, D, h, w) -> (B, C, h, w)."""
        return F.conv2d(last, self.head.weight[:, :, None, None])

    def _features(self, images: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """What PCM looks at, and the head's features."""
        *levels, last = self.extract_feat(images)
        return (levels if self._levels is None else self._levels.take()), last

    @staticmethod
    def _consistency(
        maps: Tensor,
        refined: Tensor,
        small_maps: Tensor,
        small_refined: Tensor,
        present: Tensor,
    ) -> dict[str, Tensor]:
        """SEAM's own losses. ``present``: (B, C, 1, 1), an image's own classes."""
        size = small_maps.shape[2:]
        with_ground = F.pad(present, (0, 0, 0, 0, 1, 0), value=1.0)
        one = _resize(normalized_maps(maps), size) * present
        other = normalized_maps(small_maps) * present
        fine = _resize(normalized_maps(refined), size) * with_ground
        small_fine = normalized_maps(small_refined) * with_ground
        targets = [strongest_only(with_background(m.detach())) for m in (one, other)]
        return dict(
            loss_er=F.l1_loss(one, other),
            loss_ecr=cross_regularization_loss(fine, targets[1])
            + cross_regularization_loss(small_fine, targets[0]),
            loss_min=(
                min_pooling_loss(refined[:, 1:] * present)
                + min_pooling_loss(small_refined[:, 1:] * present)
            )
            / 2,
        )

    def refine(self, images: Tensor, levels: Sequence[Tensor], maps: Tensor) -> Tensor:
        """PCM: maps that follow the image.

        Returns:
            The maps of background and the classes, without gradient to the arguments.

        Shape:
            - images: (B, 3, H, W); maps: (B, C, h, w); output: (B, C + 1, h, w)

        Raises:
            ValueError: The levels are not those of ``pcm_in_channels``.
        """
        check_named_features(
            levels,
            self.pcm_in_channels,
            "model.pcm_in_channels",
            "they come before its last map: set its out_indices, or name modules in "
            "model.levels",
        )
        size = maps.shape[2:]
        seen = [
            _resize(module(level.detach()).relu(), size)
            for module, level in zip(self.pcm_levels, levels)
        ]
        pixels = _resize(images.detach(), size)
        features = self.pcm_merge(torch.cat([pixels, *seen], dim=1))
        known = maps.detach().relu()
        highest = known.amax(dim=(2, 3), keepdim=True) + 1e-5
        known = with_background(F.relu(known - 1e-5) / highest)
        return pixel_correlation(strongest_only(known), features)

    def predict(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        **kwargs: Any,
    ) -> list[DataSample]:
        """As the head's, with the refined maps of the classes as ``activation``."""
        levels, last = self._features(inputs)
        samples = self.head.predict((last,), data_samples, **kwargs)
        refined = self.refine(inputs, levels, self._maps(last))[:, 1:]
        for sample, activation in zip(samples, refined):
            sample.set_field(activation.float(), "activation", dtype=Tensor)
        return samples


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, C, h, w) at another size, as in SEAM's program."""
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)
