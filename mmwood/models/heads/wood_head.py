"""The classification head that learns from hard out-of-distribution images."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from mmpretrain.structures import DataSample, label_to_onehot
from torch import Tensor, nn

from mmwood.functional.ood_distance import Per, ood_distance_loss
from mmwood.models.utils import Views
from mmwood.registry import MODELS
from mmwood.utils.check import at_least, one_of

from .cam_head import CAMHead, which_are_ood

#: What OoD images are trained to be in the classification loss.
OoDLabels = Literal["zeros", "uniform", "background"]
#: When the unit of distances is measured.
DistanceScale = Literal["start"]

#: Why images of a batch must not be mixed.
BATCH_AUGMENTS = (
    "model.train_cfg.augments (or model.data_preprocessor.batch_augments) mixes images "
    "of a batch, and with a mmwood.WOoDHead labelled images with out-of-distribution "
    "ones, of which neither then is either: take it out of the config"
)


class WOoDMixin(nn.Module):
    r"""W-OoD (Lee et al., CVPR 2022) for any multi-label head like mmpretrain's.

    .. math:: L = L_{cls}(x_{in}, y) + \alpha L_{cls}(x_{ood}, 0)
                  + \lambda L_d(x_{in}, y)

    with :math:`L_{cls}` the head's own loss, averaged over the in-distribution and over
    the OoD images of the batch, and :math:`L_d` that of
    :func:`mmwood.functional.ood_distance.ood_distance_loss`, which draws images to the
    centres of their classes and away from the near OoD centres.

    The head comes second among the bases and has, as mmpretrain's multi-label heads do,
    ``pre_logits(feats)``, the features z (B, D) that distances are taken of,
    ``forward(feats)``, the scores (B, C), ``loss_module``, ``_get_loss``,
    ``num_classes``, C, and ``in_channels``, D.

    Which images are out of distribution says ``is_ood`` of their data samples, set by
    :class:`mmwood.OoDMixDataset`. The centres come from :class:`mmwood.OoDClusterHook`
    and are buffers: they are part of the checkpoint.

    Each term that is switched on is logged by a name of its own: ``loss_cls``,
    ``loss_cls_ood``, ``loss_cls_background``, ``loss_in_distance`` and
    ``loss_ood_distance``, weights included.

    Args:
        *args: Of the head.
        alpha: Weight of the OoD images in the classification loss; 0 leaves it out.
            1 in the paper, 0.25 in the released program.
        distance_weight: λ; 0 leaves :math:`L_d` out.
        nearest: Fraction of the OoD centres that count as near in :math:`L_d`.
        per: Of what the nearest are taken: each ``'image'``, as in the paper, or the
            whole ``'batch'``, as in the released program.
        normalize: Whether :math:`L_d` is divided by the number of OoD centres.
        use_in: Whether images are drawn to the centres of their classes.
        use_ood: Whether images are driven from the near OoD centres.
        margin: Distance beyond which an OoD centre repels no more, in the unit of
            ``distance_scale``; None: none, as published.
        adversarial_step: Length of one step that makes the OoD images harder before
            they are classified (0.07 in the released program), in units of the
            normalised image: along the gradient of their summed largest scores,
            divided by its largest absolute value in the batch. None: no step. It costs
            a second pass and needs ``model.type='mmwood.CAMClassifier'``.
        excluded_classes: OoD images whose largest score is that of one of these
            classes (numbers from 0) do not count in the classification loss. The
            released program leaves out VOC's bottle, 4.
        ood_labels: Labels of the OoD images in the classification loss: ``'zeros'``, no
            class, as published. Two naive ones to compare with: ``'uniform'``, 1/C for
            each class; ``'background'``, no class but one more, the background, which
            in-distribution images do not show. Its score is a linear function of z of
            its own, ``classifier_background``, for training alone; its binary
            cross-entropy is added to those of the C classes.
        distance_scale: The unit of distances. None: that of z, as published, so that λ
            belongs to one backbone. ``'start'``: the mean distance of the
            in-distribution images to the centres of their classes
            (:func:`mmwood.functional.ood_distance.mean_in_distance`), which
            :class:`mmwood.OoDClusterHook` measures at the start of a training. It is a
            buffer, ``measured_scale``, and later centres leave it as it is. λ is then
            that of None times this distance, which the log says.
        **kwargs: Of the head.

    Raises:
        ValueError: A weight is negative, a step, ``nearest``, ``per``, ``margin``,
            ``ood_labels`` or ``distance_scale`` has another value, or there is no such
            class; ``ood_labels`` without ``alpha``; at the first step: no centres or no
            scale, a batch without in-distribution or OoD images where they are needed,
            or images that batch augments have mixed.

    Shape:
        - in-distribution and OoD images in any order; in_centers: (C, D); ood_centers:
          (K, D)

    Example:
        >>> @MODELS.register_module()
        ... class MyHead(WOoDMixin, MultiLabelLinearClsHead):
        ...     pass
    """

    # What the head has.
    num_classes: int
    in_channels: int
    pre_logits: Callable[..., Tensor]
    loss_module: Callable[..., Tensor]
    _get_loss: Callable[..., dict[str, Tensor]]

    in_centers: Tensor
    ood_centers: Tensor
    measured_scale: Tensor | None

    def __init__(
        self,
        *args: Any,
        alpha: float = 1.0,
        distance_weight: float = 0.007,
        nearest: float = 0.2,
        per: Per = "image",
        normalize: bool = True,
        use_in: bool = True,
        use_ood: bool = True,
        margin: float | None = None,
        adversarial_step: float | None = None,
        excluded_classes: Sequence[int] = (),
        ood_labels: OoDLabels = "zeros",
        distance_scale: DistanceScale | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        at_least("model.head.alpha", alpha, 0)
        at_least("model.head.distance_weight", distance_weight, 0)
        if adversarial_step is not None and adversarial_step <= 0:
            raise ValueError(
                "model.head.adversarial_step must be positive or None, got "
                f"{adversarial_step}"
            )
        wrong = [c for c in excluded_classes if c not in range(self.num_classes)]
        if wrong:
            raise ValueError(
                f"model.head.excluded_classes: {wrong} are no classes; they are "
                f"numbered 0 to {self.num_classes - 1}"
            )
        one_of("model.head.ood_labels", ood_labels, get_args(OoDLabels))
        if ood_labels != "zeros" and not alpha:
            raise ValueError(
                f"model.head.ood_labels is {ood_labels!r}, but with model.head.alpha=0 "
                "OoD images are not classified"
            )
        one_of("model.head.distance_scale", distance_scale, (None, "start"))
        self.ood_labels = ood_labels
        if ood_labels == "background":
            # Named so that learning rates of head.classifier are its own, too.
            self.classifier_background = nn.Linear(self.in_channels, 1, bias=False)
        self.alpha = alpha
        self.distance_weight = distance_weight
        self.use_in = use_in
        self.use_ood = use_ood
        self._distance = partial(
            ood_distance_loss,
            nearest=nearest,
            per=per,
            normalize=normalize,
            margin=margin,
        )
        # A wrong value must be seen now, not at the first step.
        try:
            self._distance(*torch.zeros(4, 1, 1))
        except ValueError as error:
            raise ValueError(f"model.head.{error}") from error
        self.adversarial_step = adversarial_step
        self.excluded_classes = tuple(excluded_classes)
        self._is_perturbed = False
        self._is_scaled = distance_scale is None
        self.register_buffer("in_centers", torch.zeros(0, self.in_channels))
        self.register_buffer("ood_centers", torch.zeros(0, self.in_channels))
        # Not in the checkpoint unless it is used. 0 is not measured yet.
        scale = None if distance_scale is None else torch.zeros(())
        self.register_buffer("measured_scale", scale)

    def set_centers(
        self, in_centers: Tensor, ood_centers: Tensor, scale: Tensor | None = None
    ) -> None:
        """Set the centres of the classes (C, D) and of the OoD clusters (K, D).

        Args:
            in_centers: The centres of the classes.
            ood_centers: Those of the OoD clusters.
            scale: The unit of distances (), for ``distance_scale='start'``; None: as
                it was.

        Raises:
            ValueError: The shapes do not fit the head, or the scale is no positive
                number.
        """
        if scale is not None and not 0 < scale < torch.inf:
            raise ValueError(
                "model.head.distance_scale: the mean distance of images to the centres "
                f"of their classes must be positive and finite, but is {scale:g}: all "
                "images of a class have the same features, or features overflow"
            )
        expected = (self.num_classes, self.in_channels)
        fits = ood_centers.ndim == 2 and ood_centers.shape[1] == self.in_channels
        if tuple(in_centers.shape) != expected or not fits or not len(ood_centers):
            raise ValueError(
                f"the head needs in_centers {expected} and ood_centers "
                f"(K, {self.in_channels}), got {tuple(in_centers.shape)} and "
                f"{tuple(ood_centers.shape)}"
            )
        for name, centers in (("in_centers", in_centers), ("ood_centers", ood_centers)):
            # In place: others may hold the buffers, see _save_to_state_dict. Storage
            # that was handed to NumPy cannot be resized.
            buffer = getattr(self, name)
            buffer.data = centers.detach().to(buffer, copy=True)
        if scale is not None and self.measured_scale is not None:
            self.measured_scale.copy_(scale)

    def loss(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """The terms of the loss by name; their sum is the loss."""
        ood = which_are_ood(data_samples)
        self._check_batch(ood)
        self._check_unmixed(data_samples, ood)
        z, scores = self.pre_logits(feats), self(feats)
        is_ood = torch.tensor(ood, device=z.device)
        samples = [s for s, out in zip(data_samples, ood) if not out]
        loss = self._get_loss(scores[~is_ood], samples, **kwargs)["loss"]
        losses = dict(loss_cls=loss)
        if self.alpha:
            ood_loss = self._ood_loss(scores[is_ood], z[is_ood])
            losses["loss_cls_ood"] = self.alpha * ood_loss
        if self.ood_labels == "background":
            score = self.classifier_background(z[~is_ood])
            losses["loss_cls_background"] = self.loss_module(
                score, torch.zeros_like(score), avg_factor=len(score)
            )
        if self.distance_weight:
            labels = [label_to_onehot(s.gt_label, self.num_classes) for s in samples]
            losses |= self._distance_losses(z[~is_ood], torch.stack(labels))
        return losses

    @staticmethod
    def check_preprocessor(data_preprocessor: nn.Module) -> None:
        """Refuse Mixup, CutMix and the like, with which OoD images would be mixed.

        Raises:
            ValueError: The data preprocessor has such; names the field.
        """
        if getattr(data_preprocessor, "batch_augments", None) is not None:
            raise ValueError(BATCH_AUGMENTS)

    def perturb(
        self,
        images: Tensor,
        data_samples: list[DataSample],
        extract_feat: Callable[[Tensor], tuple[Tensor, ...]],
    ) -> Tensor:
        """Make the OoD images harder; see ``adversarial_step``.

        Returns:
            The batch, its OoD images moved and cut to the range that they had.

        Shape:
            - images: (B, 3, H, W); output: the same
        """
        ood = which_are_ood(data_samples)
        if self.adversarial_step is None or not any(ood):
            return images
        is_ood = torch.tensor(ood, device=images.device)
        climbing = images[is_ood].detach().requires_grad_()
        top = self(extract_feat(climbing)).max(dim=1).values.sum()
        (gradient,) = torch.autograd.grad(top, climbing)
        gradient = gradient / gradient.abs().amax().clamp(min=1e-12)
        moved = climbing.detach() + self.adversarial_step * gradient
        images = images.clone()
        images[is_ood] = moved.clamp(climbing.min(), climbing.max()).detach()
        self._is_perturbed = True
        return images

    def _ood_loss(self, scores: Tensor, z: Tensor) -> Tensor:
        """OoD images have ``ood_labels``. Shape: (M, C), (M, D) -> ()."""
        counted = torch.ones(len(z), dtype=torch.bool, device=z.device)
        if self.excluded_classes:
            top = scores.argmax(dim=1, keepdim=True)
            excluded = torch.tensor(self.excluded_classes, device=scores.device)
            counted = (top != excluded).all(dim=1)
        value = 1 / self.num_classes if self.ood_labels == "uniform" else 0
        labels = torch.full_like(scores, value)
        if self.ood_labels == "background":
            score = self.classifier_background(z)
            scores = torch.cat([scores, score], dim=1)
            labels = torch.cat([labels, torch.ones_like(score)], dim=1)
        # Averaged over all OoD images of the batch, as the released program does.
        return self.loss_module(scores[counted], labels[counted], avg_factor=len(z))

    def _distance_losses(self, z: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The two terms of L_d that are switched on, each times λ."""
        # Distances of half-precision features would overflow.
        z, in_centers, ood_centers = z.float(), self.in_centers, self.ood_centers
        if self.measured_scale is not None:
            z, in_centers, ood_centers = (
                tensor / self.measured_scale for tensor in (z, in_centers, ood_centers)
            )
        tensors = z, labels, in_centers, ood_centers
        terms = {}
        # One call a term, so that each has its line in the log. It is right only while
        # L_d is the sum of what it is with either term alone.
        if self.use_in:
            terms["loss_in_distance"] = self._distance(*tensors, use_ood=False)
        if self.use_ood:
            terms["loss_ood_distance"] = self._distance(*tensors, use_in=False)
        return {name: self.distance_weight * term for name, term in terms.items()}

    def _check_batch(self, ood: list[bool]) -> None:
        if all(ood) or (self.alpha and not any(ood)):
            raise ValueError(
                f"a training batch has {ood.count(False)} in-distribution and "
                f"{ood.count(True)} OoD images: mmwood.WOoDHead needs both in every "
                "batch. Use mmwood.OoDMixDataset with mmwood.OoDRatioSampler and "
                "train_dataloader.batch_size = in_per_batch + ood_per_batch"
            )
        if self.distance_weight and not len(self.ood_centers):
            raise ValueError(
                "model.head.distance_weight is positive, but there are no cluster "
                "centres. Make them at the start of the training: python "
                "tools/train.py CONFIG --cfg-options load_from=CLASSIFIER.pth "
                "default_hooks.ood_clusters.type=mmwood.OoDClusterHook"
            )
        if self.measured_scale is not None and not self._is_scaled:
            # Asked once: a GPU has to wait for the answer.
            self._is_scaled = bool(self.measured_scale > 0)
        if self.distance_weight and not self._is_scaled:
            raise ValueError(
                "model.head.distance_scale is 'start', but no scale was measured: "
                "mmwood.OoDClusterHook does so at the start of a training. One that is "
                "resumed must have begun with it"
            )
        if self.adversarial_step is not None and self.alpha and not self._is_perturbed:
            raise ValueError(
                "model.head.adversarial_step needs model.type='mmwood.CAMClassifier', "
                "which can compute the gradient of an image"
            )

    def _check_unmixed(self, data_samples: list[DataSample], ood: list[bool]) -> None:
        if "gt_score" not in data_samples[0]:
            return
        scores = torch.stack([sample.gt_score for sample in data_samples])
        expected = torch.zeros_like(scores)
        for row, sample, out in zip(expected, data_samples, ood):
            if not out:
                row[:] = label_to_onehot(sample.gt_label, self.num_classes)
        if not torch.equal(scores, expected):
            raise ValueError(f"gt_score is not that of the labels. {BATCH_AUGMENTS}")

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # How many clusters there are, and whether any, the checkpoint knows.
        for name in ("in_centers", "ood_centers"):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                buffer = getattr(self, name)
                buffer.data = buffer.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _save_to_state_dict(self, destination: dict, prefix: str, *args: Any) -> None:
        super()._save_to_state_dict(destination, prefix, *args)
        # The buffers themselves, which grow in place: mmengine's
        # EMAHook(update_buffers=True) keeps the state_dict of a head without centres.
        for name in ("in_centers", "ood_centers"):
            destination[prefix + name] = getattr(self, name)


@MODELS.register_module()
class WOoDHead(WOoDMixin, CAMHead):
    """:class:`mmwood.CAMHead` that learns from hard out-of-distribution images.

    Its fields are those of both; :class:`.WOoDMixin` says what is computed.

    Example:
        >>> head = dict(type='mmwood.WOoDHead', num_classes=20, in_channels=2048)
    """

    def loss(
        self,
        feats: tuple[Tensor, ...],
        data_samples: list[DataSample],
        views: Views | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """The terms of the loss by name; their sum is the loss."""
        self.check_axes(feats, data_samples)
        losses = super().loss(feats, data_samples, **kwargs)
        return losses | self.losses_of_features(feats, data_samples, losses, views)
