"""Size-balanced cross-entropy.

Mun et al., Small Objects Matter in Weakly-supervised Semantic Segmentation, WACV 2024.
"""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwood.functional.components import (
    Connectivity,
    Reference,
    check_size_weight_fields,
    label_counts,
    size_weights,
)
from mmwood.models.utils import refuse_left_behind
from mmwood.registry import MODELS
from mmwood.utils.check import check_shapes, one_of

Form = Literal["program", "text"]
Average = Literal["weights", "pixels"]
Reduction = Literal["none", "mean", "sum"]


@MODELS.register_module()
class SizeBalancedCELoss(nn.Module):
    r"""Cross-entropy in which the pixels of small components weigh more.

    .. math::
        L_{sw} = \frac{1}{D} \sum_{i \in V} w_i \cdot
            -\log \mathrm{softmax}(s_i)_{t_i}, \qquad
        w_i = \min\Bigl(\tau, \frac{S}{S_{c,n}}\Bigr)

    with V the pixels that are not ignored and n the connected component of class c
    that pixel i lies in, of :math:`S_{c,n}` pixels; background weighs 1. The
    components are those of the label that reaches the loss, crop and scaling
    included. See :func:`mmwood.functional.components.size_weights`.

    The paper's text and its authors' program differ, and ``form`` chooses:

    - ``'program'``: S is all foreground, :math:`D = \sum_{i \in V} w_i`. What the
      published table belongs to.
    - ``'text'``: :math:`S = \sum_k S_{c,k}`, the class, and :math:`D = |V|`.

    It stands where mmseg's ``CrossEntropyLoss`` stands, in decode heads and
    auxiliary heads, with or without a pixel sampler, and equals it for
    ``limit=1``. It does not fit heads that sample single points (PointRend's
    ``PointHead``), as points have no components. No other package of OpenMMLab
    than mmengine is needed.

    Args:
        form: ``'program'`` or ``'text'``.
        limit: The upper limit tau of a weight, at least 1. The program's is 5; that of
            the text cannot be read.
        connectivity: 8 (sides and corners) or 4 (sides only).
        reference: S, ``'foreground'`` or ``'class'``; None: the form's.
        average: What a mean divides by, ``'weights'``, their sum, or ``'pixels'``;
            None: the form's.
        background: Label of the background, or None where every label is an object
            class: set None with ``reduce_zero_label=True``, where 0 is the first
            object class.
        class_weight: A factor for each class, or None. As in mmseg, what a mean
            divides by has these factors too. A file name is not accepted.
        ignore_index: Label of the pixels to ignore where the caller does not name
            one; mmseg's heads always do.
        avg_non_ignore: Whether a mean leaves ignored pixels out, as published, or
            each counts 1 in what it divides by, which is the default of mmseg's
            cross-entropy.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: Factor of the loss.
        loss_name: Name of the loss in the log; must contain 'loss', since mmengine
            adds up the entries that do.

    Attributes:
        size_balanced: Where it is set to False, every pixel weighs 1: plain
            cross-entropy, as in the first task of :class:`mmwood.EWCHook`. It is True
            at first, and no part of a checkpoint.

    Raises:
        ValueError: There is no such field, or ``form``, ``limit``, ``connectivity``,
            ``reference``, ``average``, ``class_weight``, ``reduction`` or ``loss_name``
            has another value.

    Example:
        >>> # in a config of mmseg, over a _base_ whose own loss leaves no field behind
        >>> decode_head = dict(loss_decode=dict(
        ...     _delete_=True, type='mmwood.SizeBalancedCELoss', limit=5.0))
    """

    def __init__(
        self,
        form: Form = "program",
        limit: float = 5.0,
        connectivity: Connectivity = 8,
        reference: Reference | None = None,
        average: Average | None = None,
        background: int | None = 0,
        class_weight: Sequence[float] | None = None,
        ignore_index: int = 255,
        avg_non_ignore: bool = True,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        loss_name: str = "loss_sbce",
        **others: Any,
    ) -> None:
        super().__init__()
        refuse_left_behind(
            "SizeBalancedCELoss",
            "loss_decode",
            others,
            "Its softmax is over all classes: there is no use_sigmoid and no use_mask",
        )
        owner = "mmwood.SizeBalancedCELoss: "
        one_of(f"{owner}form", form, get_args(Form))
        forms: dict[Form, tuple[Reference, Average]] = dict(
            program=("foreground", "weights"), text=("class", "pixels")
        )
        reference = forms[form][0] if reference is None else reference
        average = forms[form][1] if average is None else average
        check_size_weight_fields(limit, connectivity, reference, owner)
        one_of(f"{owner}average", average, get_args(Average))
        one_of(f"{owner}reduction", reduction, get_args(Reduction))
        if "loss" not in loss_name:
            raise ValueError(
                f"{owner}loss_name must contain 'loss' to be trained on, but is "
                f"{loss_name!r}"
            )
        self.limit = limit
        self.connectivity = connectivity
        self.reference = reference
        self.average = average
        self.background = background
        self.class_weight = _checked_class_weight(class_weight)
        self.ignore_index = ignore_index
        self.avg_non_ignore = avg_non_ignore
        self.reduction = reduction
        self.loss_weight = loss_weight
        self._loss_name = loss_name
        self.size_balanced = True

    @property
    def loss_name(self) -> str:
        """Name of the loss in the log."""
        return self._loss_name

    # Components are found outside of torch: torch.compile runs this as it is.
    @torch.compiler.disable
    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: Reduction | None = None,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Compute the loss; the interface of mmseg's losses.

        Args:
            cls_score: Logits, of any floating dtype. Half precision is computed
                in float32.
            label: Labels of an integer dtype, in [0, C) or ``ignore_index``.
            weight: Further factor of each pixel, as pixel samplers give it. It
                does not change what a mean divides by.
            avg_factor: What a mean divides by, in place of ``average``.
            reduction_override: Goes before the field ``reduction``.
            ignore_index: Goes before the field ``ignore_index``.
            **kwargs: Not used; accepted since mmseg's losses accept it.

        Returns:
            The loss; 0 with a gradient of 0 where every pixel is ignored.

        Raises:
            ValueError: ``label`` has a value outside the classes, ``class_weight`` or
                ``background`` do not fit the number of classes, or ``avg_factor``
                comes with a sum.

        Shape:
            - cls_score: (N, C, H, W); label, weight: (N, H, W)
            - output: () or, with reduction 'none', (N, H, W)
        """
        reduction = self.reduction if reduction_override is None else reduction_override
        one_of("reduction_override", reduction, get_args(Reduction))
        if avg_factor is not None and reduction == "sum":
            raise ValueError("avg_factor cannot be used with reduction 'sum'")
        if ignore_index is None:
            ignore_index = self.ignore_index
        if cls_score.dim() != 4:
            raise ValueError(
                "cls_score must have shape (N, C, H, W), since single points have no "
                f"connected components, but has {tuple(cls_score.shape)}"
            )
        if cls_score.shape[1] == 1:
            raise ValueError(
                "cls_score has one channel, whose softmax is always 1: take "
                "out_channels=1 out of the head, so that both classes have a channel"
            )
        given = dict(cls_score=(cls_score, "N C H W"), label=(label, "N H W"))
        if weight is not None:
            given["weight"] = (weight, "N H W")
        check_shapes(**given)
        # The one copy to the CPU, where OpenCV needs the label: whatever else must
        # be known of it is taken from there, without a further wait for a GPU.
        host_label = label.detach().cpu()
        totals = self._class_counts(host_label, cls_score.shape[1], ignore_index)
        ignored = label.numel() - totals.sum()
        loss = self._pixel_cross_entropy(cls_score, label, ignore_index)
        if self.size_balanced:
            sizes = size_weights(
                host_label,
                self.limit,
                ignore_index,
                self.background,
                connectivity=self.connectivity,
                reference=self.reference,
            )
            loss = loss * torch.as_tensor(sizes, device=loss.device)
            if self.average == "weights":
                valid = host_label != ignore_index
                totals = np.bincount(
                    host_label[valid].numpy(), sizes[valid].numpy(), len(totals)
                )
        if weight is not None:
            loss = loss * weight.to(loss.dtype)
        if reduction == "sum":
            loss = loss.sum()
        elif reduction == "mean":
            if avg_factor is None:
                avg_factor = self._average_factor(totals, ignored)
            # As mmseg: no division by zero where every pixel is ignored.
            loss = loss.sum() / (avg_factor + torch.finfo(torch.float32).eps)
        return self.loss_weight * loss

    def _class_counts(
        self, label: Tensor, num_classes: int, ignore_index: int
    ) -> np.ndarray:
        """Valid pixels of each class, (C,); refuses what does not fit C classes."""
        values, counts = label_counts(label)
        valid = values != ignore_index
        values, counts = values[valid], counts[valid]
        wrong = values[(values < 0) | (values >= num_classes)]
        if wrong.size:
            raise ValueError(
                f"label has the values {wrong[:10].tolist()}, but must lie in "
                f"[0, {num_classes}), the channels of cls_score, or be "
                f"ignore_index={ignore_index}"
            )
        if self.background is not None and not 0 <= self.background < num_classes:
            raise ValueError(
                f"background must be None or one of the {num_classes} classes, "
                f"but is {self.background!r}"
            )
        if self.class_weight is not None and len(self.class_weight) != num_classes:
            raise ValueError(
                f"class_weight has {len(self.class_weight)} factors for "
                f"{num_classes} classes"
            )
        by_class = np.zeros(num_classes, dtype=np.int64)
        by_class[values] = counts
        return by_class

    def _pixel_cross_entropy(
        self, cls_score: Tensor, label: Tensor, ignore_index: int
    ) -> Tensor:
        """Cross-entropy of each pixel, (N, H, W); 0 where ignored."""
        # Not left to autocast, which handles this loss on some devices only.
        if cls_score.dtype in (torch.float16, torch.bfloat16):
            cls_score = cls_score.float()
        class_weight = None
        if self.class_weight is not None:
            class_weight = cls_score.new_tensor(self.class_weight)
        return F.cross_entropy(
            cls_score,
            label.long(),
            weight=class_weight,
            ignore_index=ignore_index,
            reduction="none",
        )

    def _average_factor(self, totals: np.ndarray, ignored: int) -> float:
        """What a mean divides by, from each class's total: mmseg's rules."""
        if self.class_weight is not None:
            return float(totals @ np.asarray(self.class_weight))
        return float(totals.sum() + (0 if self.avg_non_ignore else ignored))

    def extra_repr(self) -> str:
        """The fields that tell two of these losses apart in a printed model."""
        return (
            f"limit={self.limit}, connectivity={self.connectivity}, "
            f"reference={self.reference!r}, average={self.average!r}, "
            f"background={self.background}, "
            f"avg_non_ignore={self.avg_non_ignore}, loss_weight={self.loss_weight}"
        )


def _checked_class_weight(
    class_weight: Sequence[float] | None,
) -> tuple[float, ...] | None:
    if class_weight is None:
        return None
    factors = tuple(class_weight) if isinstance(class_weight, Iterable) else ()
    # Written so that NaN, which compares False with everything, is refused too.
    if not factors or not all(isinstance(f, Real) and f >= 0 for f in factors):
        raise ValueError(
            "mmwood.SizeBalancedCELoss: class_weight must be a list of numbers of at "
            f"least 0, one for each class, and no file name, but is {class_weight!r}"
        )
    return tuple(float(factor) for factor in factors)
