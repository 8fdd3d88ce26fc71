"""Fine-grained background (FBR): background regions that foreground is driven from.

Yin et al., Fine-grained Background Representation for Weakly Supervised Semantic
Segmentation, TCSVT 2024. Maps M are those of
:func:`mmwood.functional.cam.own_class_maps`: between 0 and 1, zero for classes that an
image has no tag of. Pixels are those of the feature map.

This is the text's method. In the program that the authors released the contrast with
background regions has no gradient, and its cosines are taken along another axis than
the channels, so that it trains nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwood.utils.check import check_shapes


def pixel_labels(maps: Tensor, background: float = 0.1) -> Tensor:
    """The class of the largest map, c + 1, or 0 where none exceeds ``background``.

    Shape:
        - maps: (B, C, h, w); output: (B, h, w), int64
    """
    score, index = maps.max(dim=1)
    return torch.where(score > background, index + 1, 0)


def class_prototypes(features: Tensor, maps: Tensor, count: int) -> Tensor:
    """The mean feature of each class, weighted by its map.

    Args:
        features: Foreground features u.
        maps: The maps M of the same images.
        count: How many pixels of the batch count: those where the class's map is
            strongest.

    Returns:
        The prototypes, without gradient; zero for a class that no image shows.

    Shape:
        - features: (B, D, h, w); maps: (B, C, h, w); output: (C, D)
    """
    check_shapes(features=(features, "B D h w"), maps=(maps, "B C h w"))
    vectors = features.detach().permute(0, 2, 3, 1).flatten(0, 2)
    values = maps.detach().transpose(0, 1).flatten(1).to(vectors)
    weights, places = values.topk(min(count, values.shape[1]), dim=1)
    total = (weights[:, :, None] * vectors[places]).sum(dim=1)
    return total / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)


def query_pixels(
    maps: Tensor,
    background: float = 0.1,
    unsure: float = 0.6,
    entropy_quantile: float = 0.1,
    floor: float = 0.05,
) -> Tensor:
    r"""Which foreground pixels are contrasted: those that are unsure.

    A pixel of class c (:func:`pixel_labels`) is a query if both hold:

    - Its map is low among its class's. Of the image's n pixels of class c whose map
      exceeds ``floor``, in ascending order of the map and numbered from 0, it does not
      exceed number :math:`\lfloor \text{unsure} \cdot n \rfloor`.
    - Its entropy, that of the softmax over [background, M], exceeds the image's
      ``entropy_quantile``.

    Args:
        maps: The maps M.
        background: The score of the background.
        unsure: See above; 1 takes all.
        entropy_quantile: See above.
        floor: See above; it matters below ``background`` only.

    Shape:
        - maps: (B, C, h, w); output: (B, h, w), bool
    """
    maps = maps.detach()
    labels = pixel_labels(maps, background)
    classes = torch.arange(1, maps.shape[1] + 1, device=maps.device)
    own = labels[:, None] == classes[:, None, None]
    values = maps.masked_fill(~own | (maps <= floor), torch.inf).flatten(2)
    values = values.sort(dim=2).values
    count = values.isfinite().sum(dim=2, keepdim=True)
    # In double precision, as a loop in Python would compute it.
    rank = (count.double() * unsure).long().minimum(count - 1).clamp(min=0)
    limit = values.gather(2, rank)[..., None]
    ground = torch.full_like(maps[:, :1], background)
    likelihood = torch.cat([ground, maps], dim=1).log_softmax(dim=1)
    entropy = -(likelihood.exp() * likelihood).sum(dim=1)
    high = entropy.flatten(1).quantile(entropy_quantile, dim=1)[:, None, None]
    return (own & (maps <= limit)).any(dim=1) & (entropy > high)


def background_regions(
    features: Tensor, is_background: Tensor, regions: int = 8, steps: int = 10
) -> Tensor:
    """Centres of each image's background pixels (NROI), by K-means.

    Lloyd's steps of all images together. They start at pixels evenly apart in the order
    of rows and columns, so that nothing is random; a centre that loses all its pixels
    stays where it is.

    Args:
        features: Background features v.
        is_background: Which pixels are background.
        regions: How many centres an image has. One of fewer background pixels has
            these pixels.
        steps: Of Lloyd's iteration.

    Returns:
        The centres of all images in their order, without gradient.

    Shape:
        - features: (B, D, h, w); is_background: (B, h, w); output: (N, D) with N at
          most B times ``regions``
    """
    check_shapes(features=(features, "B D h w"), is_background=(is_background, "B h w"))
    vectors = features.detach().flatten(2).transpose(1, 2)
    inside = is_background.flatten(1)
    count = inside.sum(dim=1, keepdim=True)
    held = count.clamp(max=regions)
    number = torch.arange(regions, device=features.device)
    starts = number * count // held.clamp(min=1)
    background_first = inside.int().sort(dim=1, descending=True, stable=True).indices
    places = background_first.gather(1, starts.clamp(max=inside.shape[1] - 1))
    used = number < held
    centers = vectors.gather(1, places[..., None].expand(-1, -1, vectors.shape[2]))
    for _ in range(steps):
        distances = torch.cdist(vectors, centers)
        nearest = distances.masked_fill(~used[:, None], torch.inf).argmin(dim=2)
        members = F.one_hot(nearest, regions).to(vectors) * inside[..., None]
        sizes = members.sum(dim=1)[..., None]
        means = members.transpose(1, 2) @ vectors / sizes.clamp(min=1)
        centers = torch.where(sizes > 0, means, centers)
    return centers[used]


def draw_other_classes(
    labels: Tensor,
    prototypes: Tensor,
    label: int,
    count: int,
    temperature: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw pixels of other classes, of those that look like the class more.

    The class of each is drawn from the softmax of :math:`\cos(P_c, P_j) / \tau` over
    the other classes j that have pixels, then one of its pixels uniformly, both with
    replacement.

    Args:
        labels: The pixels' labels, 0 for background.
        prototypes: P, one for each class; of class c, which has the label c + 1.
        label: That of the class whose negatives are drawn.
        count: How many.
        temperature: τ.
        generator: Of random numbers, on the device of ``labels``.

    Returns:
        Numbers of pixels; none if no other class has any.

    Shape:
        - labels: (N,); prototypes: (C, D); output: (count,) or (0,)
    """
    device = labels.device
    counts = torch.bincount(labels, minlength=len(prototypes) + 1)
    allowed = counts > 0
    allowed[0] = allowed[label] = False
    if not allowed.any():
        return labels.new_zeros(0)
    units = F.normalize(prototypes, dim=1)
    logits = units @ units[label - 1] / temperature
    odds = logits.masked_fill(~allowed[1:], -torch.inf).softmax(dim=0)
    drawn = 1 + torch.multinomial(odds, count, replacement=True, generator=generator)
    sizes = counts[drawn]
    within = torch.rand(count, device=device, generator=generator, dtype=torch.float64)
    # A product may round up to the size itself.
    within = (within * sizes).long().minimum(sizes - 1)
    begins = counts.cumsum(dim=0) - counts
    return labels.sort(stable=True).indices[begins[drawn] + within]


def query_cosines(queries: Tensor, prototype: Tensor, negatives: Tensor) -> Tensor:
    """Cosines of queries with their prototype, first, and with negatives.

    Gradients flow through the queries alone.

    Shape:
        - queries: (Q, D); prototype: (D,); negatives: (N, D); output: (Q, 1 + N)
    """
    check_shapes(
        queries=(queries, "Q D"),
        prototype=(prototype, "D"),
        negatives=(negatives, "N D"),
    )
    candidates = torch.cat([prototype[None], negatives]).detach()
    return F.normalize(queries, dim=1) @ F.normalize(candidates, dim=1).T


def contrast_loss(cosines: Tensor, temperature: float = 0.5) -> Tensor:
    r"""Draw queries to their prototype, away from their negatives.

    .. math:: -\frac{1}{Q} \sum_q \log \frac{e^{\cos(q, P)/\tau}}
        {e^{\cos(q, P)/\tau} + \sum_n e^{\cos(q, N_n)/\tau}}

    Features behind a ReLU have cosines from 0 to 1. With τ = 0.5 and 256 negatives the
    loss then lies between 3.57 (best) and 5.55 (all are equal): watch the cosines
    rather than the loss.

    Args:
        cosines: Those of :func:`query_cosines`.
        temperature: τ.

    Shape:
        - cosines: (Q, 1 + N); output: ()
    """
    return -(cosines / temperature).log_softmax(dim=1)[:, 0].mean()
