"""Which images are alike by their features: groups of them, and an order of variety.

All functions take features as :func:`reduced` gives them and give the same result for
the same input.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

#: Images a group, about: few enough to judge by a sample, many enough to be worth it.
GROUP = 40
#: A group of more is divided.
LARGEST = 60
#: Length of features after :func:`reduced`.
DIMENSIONS = 64
#: Images that principal components are computed of.
SAMPLE = 10_000
#: Parts that a set is divided into at once: with more, K-means takes longer for hardly
#: better groups.
PARTS = 16
#: Above it, K-means looks at some images at a time.
MANY = 20_000


def reduced(
    blocks: Callable[[], Iterable[np.ndarray]], count: int, dim: int = DIMENSIONS
) -> np.ndarray:
    """Features of length 1, by their first principal components if they are long.

    The components are those of at most 10,000 images, evenly chosen.

    Args:
        blocks: Gives all features, some images at a time; it is called twice.
        count: N, the number of images.
        dim: The length of a feature afterwards, at most.

    Shape:
        - blocks: (n, D) each; output: (N, min(D, dim)), float32
    """
    step = max(1, -(-count // SAMPLE))
    chosen, start = [], 0
    for block in blocks():
        chosen.append(_normalised(block[(-start) % step :: step]))
        start += len(block)
    sample = np.concatenate(chosen)
    if sample.shape[1] <= dim:
        return np.concatenate([_normalised(block) for block in blocks()])
    mean = sample.mean(axis=0)
    sample -= mean
    _, axes = np.linalg.eigh(sample.T @ sample)
    axes = np.ascontiguousarray(axes[:, ::-1][:, :dim])
    return np.concatenate([(_normalised(block) - mean) @ axes for block in blocks()])


def groups(
    features: np.ndarray, size: int = GROUP, largest: int = LARGEST, seed: int = 0
) -> np.ndarray:
    """Groups of about ``size`` images that are alike, and of no more than ``largest``.

    K-means divides a set that is too large, and its parts again, so that the time
    grows with N log N. Equal images that it cannot divide are divided as they come.

    Args:
        features: Features of images.
        size: How many images a group should have.
        largest: How many it has at most; not less than ``size``.
        seed: Random seed of K-means.

    Returns:
        The group of each image, from 0 in the order of their first images.

    Shape:
        - features: (N, d); output: (N,), int64
    """
    found = np.zeros(len(features), dtype=np.int64)
    leaves = _leaves(features, np.arange(len(features)), size, largest, seed)
    # In the order of their first images.
    for number, leaf in enumerate(sorted(leaves, key=lambda leaf: leaf[0])):
        found[leaf] = number
    return found


def from_centre(features: np.ndarray) -> np.ndarray:
    """Squared distance of each image to their mean.

    Shape:
        - features: (N, d); output: (N,)
    """
    return np.square(features - features.mean(axis=0)).sum(axis=1)


def sample_of(distance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images to show of a group: the nearest and the farthest from its centre.

    With the farthest among them, a group of different things shows itself. Of a group
    of at most ``count`` images all are shown, the nearer half first.

    Returns:
        Indices of the nearest, nearest first, and of the farthest, farthest last.

    Shape:
        - distance: (N,); output: at most ``count`` together
    """
    order = np.argsort(distance, kind="stable")
    count = min(count, len(order))
    near = -(-count // 2)
    return order[:near], order[len(order) - (count - near) :]


def farthest_first(features: np.ndarray, count: int) -> np.ndarray:
    """Images each of which is the farthest from all before it, from the first one on.

    The greedy answer to the k-center problem, at most twice as far from the best as
    can be (Gonzalez, Clustering to minimize the maximum intercluster distance, 1985).
    Of several that are equally far the first comes first. A step takes N·d operations.

    Returns:
        Indices. Shape: (min(count, N),), int64.

    Shape:
        - features: (N, d)
    """
    count = min(count, len(features))
    order = np.zeros(count, dtype=np.int64)
    squares = np.square(features).sum(axis=1)
    nearest = np.full(len(features), np.inf, dtype=features.dtype)
    for place in range(1, count):
        last = order[place - 1]
        distance = squares + squares[last] - 2 * (features @ features[last])
        np.minimum(nearest, distance, out=nearest)
        # An image is as far as rounding from itself, and must not come again.
        nearest[last] = -np.inf
        order[place] = nearest.argmax()
    return order


def _normalised(block: np.ndarray) -> np.ndarray:
    block = block.astype(np.float32)
    # Squares of large half-precision numbers fit; a zero stays one.
    length = np.linalg.norm(block, axis=1, keepdims=True)
    return block / np.maximum(length, np.finfo(np.float32).tiny)


def _leaves(
    features: np.ndarray, members: np.ndarray, size: int, largest: int, seed: int
) -> Iterator[np.ndarray]:
    """Members of each group, sorted."""
    if not len(members):
        return
    if len(members) <= largest:
        yield members
        return
    parts = min(PARTS, round(len(members) / size))
    labels = _k_means(features[members], max(2, parts), seed)
    counts = np.bincount(labels)
    if counts.max() == len(members):
        for start in range(0, len(members), size):
            yield members[start : start + size]
        return
    for label in np.flatnonzero(counts):
        yield from _leaves(features, members[labels == label], size, largest, seed)


def _k_means(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    # A second that every other start would wait.
    import warnings

    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if len(points) > MANY:
        means = MiniBatchKMeans(k, random_state=seed, n_init=1, batch_size=4096)
    else:
        means = KMeans(k, random_state=seed, n_init=1, max_iter=50)
    # Threads add up in any order.
    with threadpool_limits(1), warnings.catch_warnings():
        # Fewer different points than centres.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return means.fit_predict(points)
