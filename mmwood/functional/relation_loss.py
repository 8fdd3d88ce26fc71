"""IRN's losses on edges and displacements, as sums and counts of pixel pairs.

Ahn et al., Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations (IRN), CVPR 2019.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmwood.functional.affinity import edge_to_affinity, pixel_pairs
from mmwood.utils.check import check_shapes

#: The terms of the loss, in the order of :class:`RelationTerms`.
TERMS = (
    "affinity_fg",
    "affinity_bg",
    "affinity_negative",
    "displacement_fg",
    "displacement_bg",
)
#: Keeps logarithms and divisions finite, as in IRN's program.
EPSILON = 1e-5


class RelationTerms(NamedTuple):
    """What each of :data:`TERMS` adds up to, and over how many values.

    Sums and counts of several processes can be added up before they are divided.

    Attributes:
        sums: Differentiable. Shape: (5,).
        counts: Shape: (5,).
    """

    sums: Tensor
    counts: Tensor


def pair_labels(
    label: Tensor, radius: int, ignore_index: int = 255
) -> tuple[Tensor, Tensor, Tensor]:
    """What a label map says of the pairs of :func:`.affinity.pixel_pairs`.

    Args:
        label: 0 background, from 1 on classes.
        radius: Pixels at least this far apart make no pair.
        ignore_index: Label of pixels whose pairs are left out.

    Returns:
        Whether both pixels have the same class, whether both are background, and
        whether they differ.

    Shape:
        - label: (B, h, w) integers; outputs: each (B, P) bool
    """
    pairs = pixel_pairs(*label.shape[1:], radius)
    flat = label.flatten(1)
    source = flat.index_select(1, pairs.source.to(label.device))
    target = flat.index_select(1, pairs.target.to(label.device))
    valid = (source != ignore_index) & (target != ignore_index)
    same = valid & (source == target)
    return same & (source > 0), same & (source == 0), valid & (source != target)


def relation_terms(
    edge: Tensor,
    displacement: Tensor,
    label: Tensor,
    radius: int,
    ignore_index: int = 255,
) -> RelationTerms:
    r"""The sums that IRN's loss is made of, over all labelled pairs of a batch.

    With the affinity a of :func:`.affinity.edge_to_affinity`, the displacement d in
    pixels of the grid, and the pair's offset o = target - source:

    - -log(a + 1e-5) over pairs of one class, and over pairs of background,
    - -log(1 + 1e-5 - a) over pairs that differ,
    - |d_source - d_target - o| over pairs of one class, |d_source - d_target| over
      pairs of background, each summed over both coordinates (two values a pair).

    A kind of pair that the batch does not have has sum and count 0.

    Args:
        edge: Edge probabilities.
        displacement: (rows, columns) to the centroid of the pixel's object.
        label: 0 background, from 1 on classes, ``ignore_index`` unknown.
        radius: As in :func:`pair_labels`.
        ignore_index: As there.

    Shape:
        - edge: (B, h, w); displacement: (B, 2, h, w); label: (B, h, w) integers
    """
    sizes = check_shapes(
        edge=(edge, "B h w"),
        displacement=(displacement, "B 2 h w"),
        label=(label, "B h w"),
    )
    height, width = sizes["h"], sizes["w"]
    pairs = pixel_pairs(height, width, radius)
    source, target, offset = (item.to(edge.device) for item in pairs[:3])
    affinity = edge_to_affinity(edge, radius)
    fg, bg, negative = pair_labels(label, radius, ignore_index)
    vectors = displacement.permute(0, 2, 3, 1).reshape(-1, 2)

    def difference(chosen: Tensor) -> tuple[Tensor, Tensor]:
        image, pair = chosen.nonzero(as_tuple=True)
        first = image * (height * width)
        moved = vectors.index_select(0, first + source[pair])
        moved = moved - vectors.index_select(0, first + target[pair])
        return moved, offset[pair]

    fg_moved, fg_offset = difference(fg)
    bg_moved, _ = difference(bg)
    sums = [
        -torch.log(affinity.masked_select(fg) + EPSILON).sum(),
        -torch.log(affinity.masked_select(bg) + EPSILON).sum(),
        -torch.log(1 + EPSILON - affinity.masked_select(negative)).sum(),
        (fg_moved - fg_offset).abs().sum(),
        bg_moved.abs().sum(),
    ]
    fg_pairs, bg_pairs = fg.count_nonzero(), bg.count_nonzero()
    negative_pairs = negative.count_nonzero()
    counts = [fg_pairs, bg_pairs, negative_pairs, 2 * fg_pairs, 2 * bg_pairs]
    return RelationTerms(torch.stack(sums), torch.stack(counts).to(edge.dtype))


def total_loss(terms: RelationTerms) -> dict[str, Tensor]:
    """IRN's loss from its sums.

    Each term is its mean; the affinity of pairs of a class and of background count
    half each; positive and negative affinity, and both displacements, count half each.
    A term without pairs is 0.

    Returns:
        ``loss_affinity`` and ``loss_displacement``, whose sum is the loss.
    """
    mean = terms.sums / (terms.counts + EPSILON)
    fg, bg, negative, fg_displacement, bg_displacement = mean.unbind()
    return dict(
        loss_affinity=((fg + bg) / 2 + negative) / 2,
        loss_displacement=(fg_displacement + bg_displacement) / 2,
    )
