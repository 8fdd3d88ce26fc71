"""Class activation maps of images that climb towards their class.

AdvCAM: Lee et al., Anti-Adversarially Manipulated Attributions for Weakly and
Semi-Supervised Semantic Segmentation, CVPR 2021. The program that the authors released
makes the maps by Grad-CAM; for a linear classifier on pooled features that is the class
activation map times a number, which is computed here from the map itself, so that one
pass back through the network serves a step instead of two.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmwood.utils.check import at_least, check_shapes

from .cam import class_activation_maps


def climbed_activation_maps(
    images: Tensor,
    class_ids: Tensor,
    extract: Callable[[Tensor], Tensor],
    weight: Tensor,
    flipped: Sequence[bool] = (False,),
    steps: int = 27,
    step_size: float = 0.08,
    regularisation_weight: float = 7.0,
    threshold: float = 0.5,
    other_classes: Tensor | None = None,
) -> Tensor:
    r"""Sum of a class's maps while the image climbs towards the class.

    An example is one image, seen in V views (itself and its flip), and one class c of
    it. With :math:`A_j = \max(0, \sum_d W_{jd} f_d)` the map of class j in one view,
    :math:`s_j` the mean of :math:`A_j` over space, added over the views, and R the sum
    over the views of :math:`A_c` times its Grad-CAM factor, flips turned back, each of
    the steps adds R to the result and then moves all views by

    .. math:: x \leftarrow x + \xi\, g / \max|g|, \quad
        g = \nabla_x \Bigl( s_c - \sum_{j \neq c} s_j
            - \lambda \sum_p m_p |R_p - R^0_p| \Bigr)

    cut to the range of the example's values before the step; the maximum is that of all
    its views. :math:`R^0` is the first step's R, and m marks where R exceeds
    ``threshold`` times its maximum: what is salient already shall not grow.

    The Grad-CAM factor of view v is :math:`n_v / (D^+ \sum_u n_u)`, with :math:`n_v`
    the cells where :math:`A_c` is positive and :math:`D^+` the number of positive
    weights of the class.

    Args:
        images: The examples, normalised as the network takes them.
        class_ids: The class of each.
        extract: From N x V images (B, 3, H, W) to features (B, D, h, w).
        weight: W of the linear classifier.
        flipped: Of each view, whether it is mirrored horizontally.
        steps: How many maps are added up; one less than that moves the image.
        step_size: ξ, in units of the normalised image.
        regularisation_weight: λ.
        threshold: Fraction of R's maximum from which on a cell is salient.
        other_classes: Which classes j are climbed away from; None is all. The class
            itself is never one.

    Returns:
        Non-negative maps, not normalised, without gradient.

    Shape:
        - images: (N, V, 3, H, W); class_ids: (N,); weight: (C, D)
        - other_classes: (N, C) bool; output: (N, h, w)

    Raises:
        ValueError: ``flipped`` has not V entries, or there are no steps.
    """
    views = check_shapes(images=(images, "N V 3 H W"))["V"]
    if len(flipped) != views:
        raise ValueError(f"flipped must be of {views} views, but is of {len(flipped)}")
    at_least("steps", steps, 1)
    examples = torch.arange(len(images), device=images.device)
    # +1 for the class itself, -1 for those that are climbed away from.
    sign = -torch.ones_like(weight[:, 0]).expand(len(images), -1).clone()
    if other_classes is not None:
        sign = sign * other_classes
    sign[examples, class_ids] = 1
    positive = (weight[class_ids] > 0).sum(dim=1, keepdim=True)

    def look(images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, V, C, h, w) and R (N, h, w)."""
        maps = class_activation_maps(extract(images.flatten(0, 1)), weight)
        # Sums of half-precision maps would overflow.
        maps = maps.unflatten(0, images.shape[:2])
        maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
        return maps, _regions(maps[examples, :, class_ids], positive, flipped)

    first = total = None
    for _ in range(steps - 1):
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            maps, regions = look(images)
            now = regions.detach()
            first = now if first is None else first
            salient = now > threshold * now.amax(dim=(1, 2), keepdim=True)
            regularisation = ((regions - first).abs() * salient).sum()
            scores = maps.mean(dim=(3, 4)).sum(dim=1)
            goal = (scores * sign).sum() - regularisation_weight * regularisation
            # Only the direction counts: in units that half precision can hold.
            (gradient,) = torch.autograd.grad(goal * now[0].numel(), images)
        total = now if total is None else total + now
        images = _move(images.detach(), gradient, step_size)
    with torch.no_grad():
        _, regions = look(images)
    return regions if total is None else total + regions


def _regions(own: Tensor, positive: Tensor, flipped: Sequence[bool]) -> Tensor:
    """R of each example. Shapes: (N, V, h, w), (N, 1), V -> (N, h, w)."""
    active = (own.detach() > 0).sum(dim=(2, 3), dtype=own.dtype)
    factor = active / (positive * active.sum(dim=1, keepdim=True)).clamp(min=1)
    scaled = own * factor[:, :, None, None]
    turned = [
        view.flip(-1) if mirrored else view
        for view, mirrored in zip(scaled.unbind(dim=1), flipped)
    ]
    return torch.stack(turned).sum(dim=0)


def _move(images: Tensor, gradient: Tensor, step_size: float) -> Tensor:
    """One step of each example within the range of its values."""
    dims = tuple(range(1, images.ndim))
    length = gradient.abs().amax(dim=dims, keepdim=True).clamp(min=1e-12)
    moved = images + step_size * gradient / length
    low, high = images.amin(dim=dims, keepdim=True), images.amax(dim=dims, keepdim=True)
    return moved.clamp(low, high)
