"""MARS: which pixels of pseudo labels show what only goes together with an object.

Jo, Yu and Kim, MARS: Model-agnostic Biased Object Removal without Additional
Supervision for Weakly-Supervised Semantic Segmentation, ICCV 2023. A label of trains
covers rails. Features learnt without tags tell rails from trains, and rails are
background in other images: of the centres of a class those that are far from all
background are the object's.
"""

import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np

from mmwood.functional.crf import dense_crf
from mmwood.utils.check import at_least, check_shapes, fraction, one_of

#: What decides which pixels an object keeps; see :func:`biased_mask`.
Rule = Literal["crf", "nearest", "otsu"]
#: Starts of K-means, of which the best counts.
STARTS = 3
#: Numbers that a matrix of cosines has at most.
CHUNK = 2**24


class RegionCenters(NamedTuple):
    """Centres of what lies under the labels of one image.

    Attributes:
        vectors: The centres. Shape: (n, D).
        labels: The label of each, 0 background, c + 1 class c. Shape: (n,) int64.
        counts: How many places of the grid each is the mean of. Shape: (n,) int64.
    """

    vectors: np.ndarray
    labels: np.ndarray
    counts: np.ndarray


class DebiasedCenters(NamedTuple):
    """What a data set says of its classes and its background.

    Attributes:
        foreground: V^c, the debiased centre of each class, NaN of one without regions.
            Shape: (C, d).
        background: Unit vectors of all background centres. Shape: (m, d).
        images: The image that each of these is from. Shape: (m,) int64.
        mean: What is subtracted from features. Shape: (D,).
        basis: What they are then projected on, rows; or None. Shape: (d, D).
    """

    foreground: np.ndarray
    background: np.ndarray
    images: np.ndarray
    mean: np.ndarray
    basis: np.ndarray | None

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Features (n, D) in the space of the centres (n, d)."""
        moved = vectors - self.mean.astype(vectors.dtype, copy=False)
        if self.basis is None:
            return moved
        return moved @ self.basis.T.astype(vectors.dtype, copy=False)


def grid_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map on a coarser grid, each place with the label at its middle.

    Shape:
        - label: (H, W); size: (h, w); output: (h, w)
    """
    rows, columns = (
        ((2 * np.arange(cells) + 1) * length) // (2 * cells)
        for cells, length in zip(size, label.shape)
    )
    return label[rows[:, None], columns]


def region_centers(
    features: np.ndarray,
    label: np.ndarray,
    centers: int = 2,
    background_centers: int = 2,
    ignore: Collection[int] = (255,),
    seed: int = 0,
) -> RegionCenters:
    """K-means of the features under each label of an image.

    A region of no more distinct vectors than centres is these vectors.

    Args:
        features: Features F, of any floating type; float16 is computed in float32.
        label: Label map Y: 0 background, c + 1 class c. Of a size of its own it is
            brought to the grid of the features (:func:`grid_label`).
        centers: Centres of each class.
        background_centers: Centres K_bg of the background.
        ignore: Labels of pixels that belong to no region.
        seed: Random seed of K-means. Equal input and seed give equal centres.

    Returns:
        The centres in the order of the labels; none of a region that the grid misses.

    Shape:
        - features: (D, h, w); label: (H, W) integers

    Raises:
        ValueError: The shapes or types are not those, or a number is below 1.
    """
    at_least("centers", centers, 1, integer=True)
    at_least("background_centers", background_centers, 1, integer=True)
    values = _floats(features, "features")
    label = _labels(label)
    check_shapes(features=(values, "D h w"), label=(label, "H W"))
    coarse = grid_label(label, values.shape[1:]).reshape(-1)
    points = values.reshape(len(values), -1).T
    found, labels, counts = [points[:0]], [], []
    for number in sorted(set(np.unique(coarse).tolist()) - set(ignore)):
        under = np.ascontiguousarray(points[coarse == number])
        k = centers if number else background_centers
        means, sizes = _k_means(under, k, seed)
        found.append(means)
        labels += [number] * len(means)
        counts += sizes
    return RegionCenters(
        np.concatenate(found),
        np.array(labels, dtype=np.int64),
        np.array(counts, dtype=np.int64),
    )


def background_distance(
    vectors: np.ndarray, background: np.ndarray, nearest: float | None = None
) -> np.ndarray:
    r"""How far vectors are from the background.

    .. math:: dist(v) = \frac{1}{|N(v)|} \sum_{b \in N(v)} \frac{1 - \cos(v, b)}{2}

    With all centres in N(v), as published, it is :math:`(1 - \hat{v} \mu) / 2`, where μ
    is the mean of the unit background centres: one product.

    Args:
        vectors: The vectors v.
        background: The background centres b; their lengths do not count.
        nearest: Which fraction of the background centres N(v) is: of each vector the
            nearest ``max(1, round(nearest * m))``. None: all.

    Shape:
        - vectors: (n, D); background: (m, D); output: (n,) in [0, 1]

    Raises:
        ValueError: The shapes are not those, or ``nearest`` is no fraction.
    """
    vectors = _floats(vectors, "vectors")
    background = _floats(background, "background")
    check_shapes(vectors=(vectors, "n D"), background=(background, "m D"))
    _check_nearest(nearest)
    cosine = _background_cosine(_unit(vectors), _unit(background), nearest)
    return np.clip((1 - cosine) / 2, 0, 1)


def debiased_centers(
    regions: Sequence[RegionCenters],
    classes: int,
    alpha: float = 0.40,
    center: bool = True,
    nearest: float | None = None,
    components: int | None = None,
) -> DebiasedCenters:
    r"""The centre of each class without what is background elsewhere.

    The centres of class c are sorted by their :func:`background_distance`, the largest
    first; V^c is the plain mean of the first :math:`\lceil \alpha n \rceil` of n.

    Args:
        regions: Of every image.
        classes: Number C of classes.
        alpha: α. The published gain shrinks above 0.5.
        center: Subtract from all features their mean over the data set, which the
            centres and their counts give: a vector that is added to all features then
            changes nothing. False as published, for features without such a vector.
        nearest: See :func:`background_distance`; None as published.
        components: Project on this many principal components of the centres; None: not.

    Returns:
        The centres, of the type of those of the regions.

    Raises:
        ValueError: No image has background; a label is outside 0..C; ``alpha`` or
            ``nearest`` is no fraction; there are fewer centres than ``components``.
    """
    at_least("classes", classes, 1, integer=True)
    fraction("alpha", alpha)
    _check_nearest(nearest)
    if not any(len(region.labels) for region in regions):
        raise ValueError("regions: no image has any, so there are no centres")
    vectors = np.concatenate([region.vectors for region in regions])
    labels = np.concatenate([region.labels for region in regions])
    counts = np.concatenate([region.counts for region in regions])
    if labels.min() < 0 or labels.max() > classes:
        raise ValueError(
            f"regions: labels are {labels.min()}..{labels.max()}; with {classes} "
            f"classes they are 0..{classes}"
        )
    images = np.repeat(np.arange(len(regions)), [len(r.labels) for r in regions])
    is_background = labels == 0
    if not is_background.any():
        raise ValueError(
            "regions: no image has background (label 0), to which distances are taken"
        )
    mean = np.zeros(vectors.shape[1], dtype=vectors.dtype)
    if center:
        # In double precision: a million places may be added up.
        mean = np.average(vectors.astype(float), axis=0, weights=counts).astype(
            vectors.dtype
        )
    basis = None
    if components is not None:
        basis = _principal_components(vectors - mean, components)
    found = DebiasedCenters(
        np.empty(0), np.empty(0), images[is_background], mean, basis
    )
    moved = found.project(vectors)
    background = _unit(moved[is_background])
    foreground = np.full((classes, moved.shape[1]), np.nan, dtype=moved.dtype)
    for number in sorted(set(labels.tolist()) - {0}):
        own = moved[labels == number]
        distance = background_distance(own, background, nearest)
        first = np.argsort(-distance, kind="stable")[: _count(alpha, len(own))]
        foreground[number - 1] = own[first].mean(axis=0)
    return found._replace(foreground=foreground, background=background)


def biased_mask(
    features: np.ndarray,
    label: np.ndarray,
    classes: Sequence[int],
    centers: DebiasedCenters,
    rule: Rule = "nearest",
    nearest: float | None = 0.05,
    image: np.ndarray | None = None,
    number: int | None = None,
    ignore: Collection[int] = (255,),
) -> np.ndarray:
    r"""Pixels of an image that are labelled as an object and are none of its classes.

    .. math:: s(i) = \max_{c} \cos(F_i, V^c)

    over all classes of the image, not the label's own: features that were learnt
    without tags do not tell a horse from a sheep.

    ========= ========================================================================
    rule      an object keeps a pixel where
    ========= ========================================================================
    'crf'     the dense CRF of two classes with probabilities m = max(s, 0) and 1 - m
              says so. The published one, for features that spread objects and
              background far apart, as STEGO's do: m has to reach about 0.5.
    'nearest' s is above the mean cosine to the nearest background centres of other
              images. For any features.
    'otsu'    s is above Otsu's threshold of this image's labelled pixels. It always
              finds two parts, also in a label that is right.
    ========= ========================================================================

    s and what it is compared with are resized bilinearly to the size of the label map.
    A class that has no centre is not judged: its pixels stay.

    Args:
        features: Features F.
        label: Label map Y: 0 background, c + 1 class c.
        classes: The image's classes, from 0: its tags.
        centers: Of the data set, from :func:`debiased_centers`.
        rule: See the table.
        nearest: With 'nearest', which fraction of the background centres of other
            images is near; None: all.
        image: With 'crf', the RGB image.
        number: Which image of the data set it is, whose own background rule 'nearest'
            leaves out; None: an image that is not among them.
        ignore: Labels of pixels that are no object.

    Returns:
        True where a label is to be removed. It is not background there: nobody knows.

    Shape:
        - features: (D, h, w); label: (H, W) integers; image: (H, W, 3) uint8; output:
          (H, W) bool

    Raises:
        ValueError: The shapes are not those; ``rule`` or ``nearest`` is another;
            'crf' has no image; a class is outside; no other image has background.
    """
    one_of("rule", rule, get_args(Rule))
    _check_nearest(nearest)
    if rule == "crf" and image is None:
        raise ValueError("rule 'crf' needs the image")
    values = _floats(features, "features")
    label = _labels(label)
    check_shapes(features=(values, "D h w"), label=(label, "H W"))
    known = ~np.isnan(centers.foreground).any(axis=1)
    if any(not 0 <= c < len(known) for c in classes):
        raise ValueError(f"classes {[*classes]} are outside 0..{len(known) - 1}")
    judged = [c for c in classes if known[c]]
    judged_labels = np.flatnonzero(known) + 1
    is_object = np.isin(label, np.setdiff1d(judged_labels, [*ignore]))
    if not judged or not is_object.any():
        return np.zeros(label.shape, dtype=bool)
    grid = values.shape[1:]
    # The CRF sees the whole image.
    needed = np.ones(grid, bool) if rule == "crf" else _read_places(is_object, grid)
    places = values.reshape(len(values), -1).T[needed.reshape(-1)]
    unit = _unit(centers.project(places))
    score = (unit @ _unit(centers.foreground[judged]).T).max(axis=1)
    if rule == "nearest":
        others = centers.background[centers.images != number]
        if not len(others):
            raise ValueError(
                "rule 'nearest' compares with the background of other images, and no "
                "other image has any"
            )
        score = score - _background_cosine(unit, others, nearest)
    resized = _resized(score, needed, label.shape)
    if rule == "nearest":
        kept = resized > 0
    elif rule == "otsu":
        kept = resized > otsu_threshold(resized[is_object])
    else:
        assert image is not None
        m = np.clip(resized, 0, 1)
        kept = dense_crf(image, np.stack([1 - m, m])).argmax(axis=0) == 1
    return is_object & ~kept


def otsu_threshold(values: np.ndarray) -> float:
    r"""Otsu's threshold (IEEE SMC 1979), without bins: of all splits the best.

    It is halfway between the two sorted values that the split with the largest
    :math:`n_0 n_1 (\mu_0 - \mu_1)^2` parts; minus infinity where all values are equal.

    Args:
        values: At least one. Shape: (n,).
    """
    values = np.sort(np.asarray(values, dtype=np.float64).reshape(-1))
    splits = np.flatnonzero(np.diff(values) > 0) + 1
    if not len(splits):
        return -math.inf
    below = np.cumsum(values)[splits - 1]
    above = values.sum() - below
    rest = len(values) - splits
    between = splits * rest * (below / splits - above / rest) ** 2
    best = splits[between.argmax()]
    return float((values[best - 1] + values[best]) / 2)


def _k_means(points: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """The centres of K-means, and how many points each is the mean of."""
    distinct, sizes = np.unique(points, axis=0, return_counts=True)
    if len(distinct) <= k:
        return distinct, sizes.tolist()
    from sklearn.cluster import KMeans  # a second that every other start would wait

    means = KMeans(n_clusters=k, n_init=STARTS, random_state=seed)
    with warnings.catch_warnings():
        # Points that differ by rounding alone may count as one.
        warnings.simplefilter("ignore")
        members = means.fit_predict(points)
    sizes = np.bincount(members, minlength=k)
    return means.cluster_centers_[sizes > 0], sizes[sizes > 0].tolist()


def _principal_components(vectors: np.ndarray, components: int) -> np.ndarray:
    """Orthonormal rows: the directions of the largest mean square."""
    at_least("components", components, 1, integer=True)
    most = min(vectors.shape)
    if components > most:
        raise ValueError(
            f"components is {components}, but {len(vectors)} centres of "
            f"{vectors.shape[1]} features have {most} at most"
        )
    wide = vectors.astype(np.float64)
    _, directions = np.linalg.eigh(wide.T @ wide)
    return directions[:, ::-1][:, :components].T.astype(vectors.dtype)


def _background_cosine(
    unit: np.ndarray, background: np.ndarray, nearest: float | None
) -> np.ndarray:
    """The mean cosine of unit vectors (n, D) to the nearest of others (m, D)."""
    if nearest is None:
        return unit @ background.mean(axis=0)
    count = max(1, round(nearest * len(background)))
    parts = []
    for part in _chunks(unit, max(1, CHUNK // len(background))):
        cosine = part @ background.T
        near = np.partition(cosine, len(background) - count, axis=1)[:, -count:]
        parts.append(near.mean(axis=1))
    return np.concatenate(parts)


def _chunks(values: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    for start in range(0, max(len(values), 1), rows):
        yield values[start : start + rows]


def _read_places(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The places of a grid that bilinear resizing reads for the pixels of a mask."""
    pairs = []
    for pixels, cells, length in zip(np.nonzero(mask), grid, mask.shape):
        first = np.floor((pixels + 0.5) * cells / length - 0.5).astype(np.int64)
        pairs.append((first.clip(min=0), (first + 1).clip(max=cells - 1)))
    needed = np.zeros(grid, dtype=bool)
    for rows in pairs[0]:
        for columns in pairs[1]:
            needed[rows, columns] = True
    return needed


def _resized(
    score: np.ndarray, needed: np.ndarray, size: tuple[int, ...]
) -> np.ndarray:
    """Scores of the needed places of a grid, bilinearly at another size."""
    grid = np.zeros(needed.shape, dtype=score.dtype)
    grid[needed] = score
    return cv2.resize(grid, size[::-1], interpolation=cv2.INTER_LINEAR)


def _count(part: float, total: int) -> int:
    """``ceil(part * total)`` of the part as written: 0.28 of 25 are 7."""
    return max(1, math.ceil(round(part * total, 9)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(vectors.dtype).tiny)


def _floats(values: np.ndarray, name: str) -> np.ndarray:
    """Values of float32 or float64, all of them finite."""
    values = np.asarray(values)
    if values.dtype.kind != "f":
        raise ValueError(f"{name} must be floats, got {values.dtype}")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, but some are not")
    return values


def _labels(label: np.ndarray) -> np.ndarray:
    label = np.asarray(label)
    if label.dtype.kind not in "iu":
        raise ValueError(f"label must be integers, got {label.dtype}")
    return label


def _check_nearest(nearest: float | None) -> None:
    if nearest is not None:
        fraction("nearest", nearest)
