"""From the map of a class to its score.

A linear classifier W on features f gives each class a map, :math:`a_c = W_c f`. Its
score is the mean of that map, unless another rule is chosen here. A rule decides what
the gradient of the score feeds: the mean all pixels alike, the largest value one pixel.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmwood.utils.check import check_shapes


def mean_pooling(maps: Tensor) -> Tensor:
    """The mean over space.

    Shape:
        - maps: (B, C, h, w), of any sign, as for all of these; output: (B, C)
    """
    return _values(maps).mean(dim=2)


def max_pooling(maps: Tensor) -> Tensor:
    """The largest value, as in ToCo (Ru et al., CVPR 2023).

    Shape:
        - maps: (B, C, h, w); output: (B, C)
    """
    return _values(maps).amax(dim=2)


def softmax_pooling(maps: Tensor, temperature: float = 1.0) -> Tensor:
    r"""The mean weighted by the softmax of the map, as in USAGE (ICCV 2023).

    .. math:: s = \sum_i \alpha_i a_i, \quad
        \alpha = \mathrm{softmax}(a / \tau)

    With :math:`\tau \to \infty` it is the mean, with a small positive :math:`\tau` the
    largest value, with a small negative one the least: the gradient,
    :math:`\partial s / \partial a_i = \alpha_i (1 + (a_i - s) / \tau)`, then feeds the
    weak pixels. The published temperature is not known.

    Shape:
        - maps: (B, C, h, w); output: (B, C)

    Raises:
        ValueError: ``temperature`` is 0 or no number.
    """
    if not abs(temperature) > 0:
        raise ValueError(f"temperature must not be 0, but is {temperature!r}")
    values = _values(maps)
    return ((values / temperature).softmax(dim=2) * values).sum(dim=2)


def threshold_pooling(maps: Tensor, threshold: float = 0.5) -> Tensor:
    """The mean of the strong pixels.

    Strong is what lies in the upper part of the map's own range: at least
    ``low + threshold (high - low)``, with its least and largest value. So every map,
    of whatever sign, has strong pixels. FBR on PPC (Yin et al., TCSVT 2024) pools by a
    thresholded mean, whose threshold is not known; this rule is ours.

    Args:
        maps: The maps.
        threshold: 0 is the mean of all pixels, 1 the largest value.

    Shape:
        - maps: (B, C, h, w); output: (B, C)

    Raises:
        ValueError: ``threshold`` is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], but is {threshold!r}")
    values = _values(maps)
    known = values.detach()
    low, high = known.amin(dim=2, keepdim=True), known.amax(dim=2, keepdim=True)
    # Not low + ..., which may round to more than high.
    strong = known - low >= threshold * (high - low)
    return (values * strong).sum(dim=2) / strong.sum(dim=2)


def rank_pooling(maps: Tensor, decay: float = 0.996) -> Tensor:
    r"""The mean weighted by rank, as in MCTformer+ (Xu et al., TPAMI 2024).

    .. math:: s = \sum_r d^r a_{(r)} / \sum_r d^r

    with :math:`a_{(0)}` the largest value, and so on.

    Args:
        maps: The maps a.
        decay: d; 1 is the mean. The published value belongs to a grid of about
            28 × 28 pixels.

    Shape:
        - maps: (B, C, h, w); output: (B, C)

    Raises:
        ValueError: ``decay`` is not in (0, 1].
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], but is {decay!r}")
    values = _values(maps).sort(dim=2, descending=True).values
    # Half precision does not count far.
    dtype = torch.promote_types(maps.dtype, torch.float32)
    ranks = torch.arange(values.shape[2], device=maps.device, dtype=dtype)
    weights = decay**ranks
    return values @ (weights / weights.sum()).to(values)


#: By the name that ``pooling`` of :class:`mmwood.CAMHead` has for them.
POOLINGS: dict[str, Callable[..., Tensor]] = dict(
    mean=mean_pooling,
    max=max_pooling,
    softmax=softmax_pooling,
    threshold=threshold_pooling,
    rank=rank_pooling,
)


def _values(maps: Tensor) -> Tensor:
    check_shapes(maps=(maps, "B C h w"))
    return maps.flatten(2)
