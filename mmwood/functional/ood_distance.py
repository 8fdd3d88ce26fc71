"""Cluster centres in feature space and the distance loss of W-OoD.

Source: Lee et al., Weakly Supervised Semantic Segmentation using Out-of-Distribution
Data, CVPR 2022. Features z are the spatial means of the backbone's last feature map.

To try another distance than the Euclidean one, change ``_distances`` at the end.
K-means (:func:`ood_centers`), and to which cluster :class:`mmwood.OoDClusterHook` says
that an image belongs, stay Euclidean.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mmwood.utils.check import check_shapes, one_of

#: Where K-means starts.
Init = Literal["k-means++", "first"]
#: Of what the nearest OoD centres are taken.
Per = Literal["image", "batch"]
# Made once: torch.compile of torch 2.1 cannot trace get_args.
PERS: tuple[Per, ...] = get_args(Per)


def in_distribution_centers(z: Tensor, labels: Tensor) -> Tensor:
    """The mean feature of the images that show each class.

    An image with several classes counts in each of them.

    Returns:
        One centre per class, of the dtype of ``z``.

    Shape:
        - z: (N, D); labels: (N, C); output: (C, D)

    Raises:
        ValueError: No image shows a class; the message numbers such classes.
    """
    check_shapes(z=(z, "N D"), labels=(labels, "N C"))
    labels = labels.to(z)
    counts = labels.sum(dim=0)
    empty = torch.where(counts == 0)[0].tolist()
    if empty:
        raise ValueError(f"no image shows the classes {empty}: they have no centre")
    return (labels.T @ z) / counts[:, None]


def mean_in_distance(z: Tensor, labels: Tensor, in_centers: Tensor) -> Tensor:
    r"""The mean distance of images to the centres of their classes.

    .. math:: s = \frac{\sum_x \sum_{c: y_c = 1} \|z - p^{in}_c\|_2}
                       {\sum_x \sum_c y_c}

    It has the unit of z, and so has L_d: L_d / s does not change when a backbone's
    features are a hundred times larger.

    Args:
        z: Features of in-distribution images.
        labels: Their image-level labels, 0 or 1.
        in_centers: One centre per class.

    Returns:
        A scalar, of the dtype of ``z``.

    Shape:
        - z: (N, D); labels: (N, C), not zero everywhere; in_centers: (C, D); output: ()
    """
    check_shapes(z=(z, "N D"), labels=(labels, "N C"), in_centers=(in_centers, "C D"))
    labels = labels.to(z)
    return (_distances(z, in_centers) * labels).sum() / labels.sum()


def ood_centers(z: Tensor, k: int, seed: int, init: Init = "k-means++") -> Tensor:
    """The centres of K-means on the features of OoD images.

    Args:
        z: Features of the out-of-distribution images.
        k: K, the number of clusters.
        seed: Random seed of the starts. Equal input and seed give equal centres.
        init: 'k-means++', the best of ten starts, each until it has converged; or
            'first': one start at the first K images, ten steps, as the released
            program has it. Unlike there, a cluster that loses all its images takes the
            image that is farthest from its centre.

    Returns:
        The centres, of the dtype and on the device of ``z``.

    Shape:
        - z: (M, D); output: (K, D)

    Raises:
        ValueError: There are fewer images than clusters, or ``init`` is another.
    """
    one_of("init", init, get_args(Init))
    if k < 1 or len(z) < k:
        raise ValueError(
            f"K-means needs at least one image per cluster: {len(z)} OoD images, "
            f"{k} clusters"
        )
    from sklearn.cluster import KMeans  # a second that every other start would wait

    points = z.detach().cpu().double().numpy()
    options: dict[str, Any] = dict(init=init, n_init=10)
    if init == "first":
        options = dict(init=points[:k], n_init=1, max_iter=10, tol=0)
    means = KMeans(n_clusters=k, random_state=seed, **options)
    means.fit(points)
    return torch.from_numpy(means.cluster_centers_).to(z)


def ood_distance_loss(
    z: Tensor,
    labels: Tensor,
    in_centers: Tensor,
    ood_centers: Tensor,
    nearest: float = 0.2,
    normalize: bool = True,
    per: Per = "image",
    use_in: bool = True,
    use_ood: bool = True,
    margin: float | None = None,
) -> Tensor:
    r"""Draw images to the centres of their classes, away from the near OoD centres.

    .. math:: L_d(x) = \sum_{c: y_c = 1} \|z - p^{in}_c\|_2
                       - \sum_{k \in N(x)} \|z - p^{ood}_k\|_2

    averaged over the batch of in-distribution images and, with ``normalize``, divided
    by the number K of OoD centres. N(x) are the OoD centres nearest to x. Gradients
    flow through z alone. The second term has no lower bound; ``margin`` gives it one.

    :class:`mmwood.WOoDHead` logs the terms apart: it calls this twice, with
    ``use_ood=False`` and with ``use_in=False``. A formula that is not the sum of these
    two must change the head as well.

    Args:
        z: Features of in-distribution images.
        labels: Their image-level labels, 0 or 1.
        in_centers: One centre per class.
        ood_centers: The centres of the OoD clusters.
        nearest: Which fraction of the OoD centres is near: the nearest
            ``max(1, round(nearest * K))`` of each image.
        normalize: Divide by K, as the released program does. The published weight
            0.007 belongs to this form.
        per: 'image' as in the paper; 'batch' takes the nearest
            ``max(1, round(nearest * B * K))`` of all B·K distances of the batch
            together, as the released program does.
        use_in: Whether the first term counts.
        use_ood: Whether the second one does.
        margin: A distance beyond which an OoD centre repels no more: distances are
            cut to it in the second term. None as published.

    Shape:
        - z: (B, D); labels: (B, C); in_centers: (C, D); ood_centers: (K, D)

    Raises:
        ValueError: ``nearest``, ``per`` or ``margin`` has another value.
    """
    if not 0 < nearest <= 1:
        raise ValueError(f"nearest must be a fraction in (0, 1], got {nearest}")
    one_of("per", per, PERS)
    if margin is not None and margin <= 0:
        raise ValueError(f"margin must be a positive distance or None, got {margin}")
    check_shapes(
        z=(z, "B D"),
        labels=(labels, "B C"),
        in_centers=(in_centers, "C D"),
        ood_centers=(ood_centers, "K D"),
    )
    total = z.new_zeros(())
    if use_in:
        total = total + (_distances(z, in_centers) * labels.to(z)).sum()
    if use_ood:
        distances = _distances(z, ood_centers)
        if per == "batch":
            distances = distances.reshape(1, -1)
        count = max(1, round(nearest * distances.shape[1]))
        near = distances.topk(count, dim=1, largest=False).values
        total = total - (near if margin is None else near.clamp(max=margin)).sum()
    scale = len(z) * (len(ood_centers) if normalize else 1)
    return total / scale


def _distances(z: Tensor, centers: Tensor) -> Tensor:
    """Euclidean distances, (B, K). Exact also where they are small."""
    centers = centers.detach().to(z)
    return torch.cdist(z, centers, compute_mode="donot_use_mm_for_euclid_dist")
