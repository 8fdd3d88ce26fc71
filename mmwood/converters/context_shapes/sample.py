"""One image and its truth: objects are placed on a scene, and the canvas is shrunk."""

from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np

from mmwood.converters.context_shapes.objects import OBJECTS
from mmwood.converters.context_shapes.pen import Pen, Rng
from mmwood.converters.context_shapes.scenery import Canvas, Region, scene

CLASSES = tuple(OBJECTS)
CONTEXTS = {
    "aeroplane": "sky",
    "bird": "branches",
    "boat": "water",
    "car": "road",
    "sheep": "meadow",
    "train": "rails",
}
NEUTRAL_CONTEXTS = ("sand", "pavement")
Split = Literal["train", "val", "ood"]
SPLITS: tuple[Split, ...] = get_args(Split)

_OVERSAMPLING = 4
# Fewer visible pixels than this make no object: it is not painted at all.
_MIN_PIXELS = 10
_ASPECTS = ((1, 1), (1, 0.75), (1, 0.75), (1, 0.875), (0.75, 1), (0.875, 1), (1, 0.66))


class Sample(NamedTuple):
    """One drawn image and its truth.

    Attributes:
        image: Shape (H, W, 3), uint8 RGB.
        classes: Shape (H, W), uint8: 0 background, 1..C, 255 void.
        instances: Shape (H, W), uint8: 0 background, 1..n, void where ``classes`` is.
        contexts: (class, context) of every class in the image; class is '' in an OoD
            image.
    """

    image: np.ndarray
    classes: np.ndarray
    instances: np.ndarray
    contexts: list[tuple[str, str]]


class _Placed(NamedTuple):
    """An object to be painted, in canvas pixels."""

    name: str
    region: Region
    foot: tuple[float, float]
    length: float

    @property
    def middle(self) -> tuple[float, float]:
        height = OBJECTS[self.name].height
        return self.foot[0], self.foot[1] - 0.5 * height * self.length


def _arrange(
    rng: Rng, canvas: Canvas, names: list[str], regions: list[Region]
) -> list[_Placed]:
    """Choose number, size and place of the objects of every class, far ones first."""
    long_side, alone = max(canvas.height, canvas.width), len(names) == 1
    often = (0.46, 0.28, 0.16, 0.1) if alone else (0.65, 0.35, 0, 0)
    placed = []
    for name, region in zip(names, regions, strict=True):
        kind = OBJECTS[name]
        count = rng.choice(4, p=often) + 1
        largest = kind.max_length * (1, 0.85, 0.7, 0.6)[count - 1]
        span = (largest if alone else 0.75 * largest) / kind.min_length
        previous = None
        for _ in range(count):
            if previous and rng.random() < 0.55:  # side by side: these touch
                length = previous.length * rng.uniform(0.8, 1.15)
                step = (previous.length + length) / 2 * rng.uniform(0.7, 1)
                x = previous.foot[0] + rng.choice([-1, 1]) * step
                y = previous.foot[1]
                if name != "train":  # trains keep to their track
                    y += rng.uniform(-0.04, 0.04) * length
            else:
                length = long_side * kind.min_length * span ** rng.beta(1.3, 0.4)
                x = np.interp(rng.beta(1.7, 1.7), (0, 1), region.span)
                lane = region.lanes[rng.integers(len(region.lanes))]
                if region.context not in ("sky", "branches"):  # small stands far away
                    depth = (length / long_side / kind.max_length) ** 0.6
                    depth = np.clip(depth + rng.normal(0, 0.08), 0.05, 0.97)
                    distance = abs(region.lanes[:, 0] - canvas.row(depth))
                    lane = region.lanes[np.argmin(distance)]
                y = lane[0] + lane[1] * x
                if region.context == "sky":  # flying: the row is that of its middle
                    lowest = canvas.horizon + 0.3 * kind.height * length
                    y = min(y + 0.5 * kind.height * length, lowest)
            previous = _Placed(name, region, (float(x), float(y)), float(length))
            placed.append(previous)
    return sorted(placed, key=lambda p: p.foot[1])


def _paint_object(
    image: np.ndarray, rng: Rng, item: _Placed
) -> tuple[np.ndarray, np.ndarray]:
    """Paint one object on a copy of the image; returns the copy and the bool mask."""
    kind = OBJECTS[item.name]
    image, mask = image.copy(), np.zeros(image.shape[:2], np.uint8)
    context, length = item.region.context, item.length
    if context == "water":  # foam
        pen = Pen(image, None, item.foot, (length, length))
        pen.oval(0, 1, 56, 5, (226, 236, 240))
    elif context not in ("sky", "branches"):  # shadow
        shadow = np.zeros_like(mask)
        Pen(shadow, None, item.foot, (length, length)).oval(0, 0, 52, 5, (255,))
        dark = shadow > 0
        image[dark] = (image[dark] * 0.62).astype(np.uint8)
    flip = rng.choice([-1, 1])
    stretch = np.exp(rng.uniform(-0.16, 0.16, 2))
    angle = rng.uniform(-1, 1) * kind.tilt
    pen = Pen(image, mask, item.foot, tuple(length * stretch * (flip, 1)), angle)
    kind.paint(pen, rng)
    inside = mask > 0
    rows = np.flatnonzero(inside.any(1))
    if len(rows):  # light from above
        light = np.interp(np.arange(len(mask)), [rows[0], rows[-1]], [1.08, 0.84])
        lit = image[inside] * light.repeat(inside.sum(axis=1))[:, None]
        image[inside] = np.clip(lit, 0, 255).astype(np.uint8)
    return image, inside


def _shrink(canvas: np.ndarray) -> np.ndarray:
    size = (canvas.shape[1] // _OVERSAMPLING, canvas.shape[0] // _OVERSAMPLING)
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def _shrink_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Majority vote over the oversampled pixels; (H, W) uint8."""
    votes = [_shrink((labels == i).astype(np.float32)) for i in range(count + 1)]
    return np.argmax(votes, 0).astype(np.uint8)


def _void(classes: np.ndarray, width: int) -> np.ndarray:
    """Where 255 goes: around objects, and on both sides where two classes meet.

    Touching instances of one class keep no void between them, so that connected
    components merge them while the instance map tells them apart.
    """
    kernel = np.ones((3, 3), np.uint8)
    highest = cv2.dilate(classes, kernel, iterations=width)
    objects = np.where(classes == 0, 255, classes).astype(np.uint8)
    lowest = cv2.erode(objects, kernel, iterations=width)
    return (highest > 0) & ((classes == 0) | (lowest != highest))


def _develop(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Shrink the canvas; add light from one side, a colour cast and sensor noise."""
    image = _shrink(image).astype(np.float32)
    h, w = image.shape[:2]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.14)
    x, y = np.linspace(-1, 1, w), np.linspace(-1, 1, h)[:, None]
    slope = np.cos(angle) * x + np.sin(angle) * y
    image *= (rng.uniform(0.82, 1.1) * (1 + strength * slope))[..., None]
    image *= rng.uniform(0.97, 1.03, 3)
    image += rng.normal(0, rng.uniform(2, 5), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_sample(
    split: Split, index: int, size: int = 128, correlation: float = 0.95, seed: int = 0
) -> Sample:
    """Draw one image; it depends on nothing but the arguments.

    Args:
        split: 'train', 'val' or 'ood' (contexts without objects).
        index: Number of the image in its split. Classes, and contexts of OoD images,
            take turns, so that they come equally often.
        size: Long side in pixels.
        correlation: Probability that a class stands on its own context.
        seed: Random seed of the whole data set.
    """
    key = (SPLITS.index(split), index)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    first = CLASSES[index % len(CLASSES)]
    scale = _ASPECTS[rng.integers(len(_ASPECTS))]
    width, height = (round(size * s) * _OVERSAMPLING for s in scale)
    unit = size * _OVERSAMPLING / 128
    shape = (height, width)
    if split == "ood":
        context = CONTEXTS[first]
        canvas, _ = scene(rng, [context], *shape, unit)
        image = _develop(canvas.image, rng)
        empty = np.zeros(image.shape[:2], np.uint8)
        return Sample(image, empty, empty.copy(), [("", context)])
    names = [first]
    if rng.random() < 0.25:
        names.append(str(rng.choice([c for c in CLASSES if c != first])))
    contexts = [_choose_context(rng, name, correlation) for name in names]
    canvas, regions = scene(rng, contexts, *shape, unit)
    while True:  # until every class of the image is well visible
        image, labels, owner = canvas.image, np.zeros(shape, np.uint8), [0]
        seen = np.zeros(0, np.int64)  # pixels of each object
        for item in _arrange(rng, canvas, names, regions):
            x, y = item.middle
            if not (0 <= x < width and 0 <= y < height):
                continue  # less than about half of it would show
            painted, mask = _paint_object(image, rng, item)
            left = seen - np.bincount(labels[mask], minlength=len(owner))[1:]
            enough = _MIN_PIXELS * _OVERSAMPLING**2
            if mask.sum() < enough or (left < np.maximum(enough, 0.75 * seen)).any():
                continue  # too small, or it would hide another object
            image, seen = painted, np.append(left, mask.sum())
            labels[mask] = len(owner)
            owner.append(CLASSES.index(item.name) + 1)
        instances = _shrink_labels(labels, len(owner) - 1)
        classes = np.array(owner, np.uint8)[instances]
        void = _void(classes, 1 if size < 192 else 2)
        instances[void] = classes[void] = 255
        counts = np.bincount(instances.ravel(), minlength=256)[1 : len(owner)]
        wanted = {CLASSES.index(name) + 1 for name in names}
        if wanted <= set(owner) and (counts >= _MIN_PIXELS // 2).all():
            pairs = list(zip(names, contexts, strict=True))
            return Sample(_develop(image, rng), classes, instances, pairs)


def _choose_context(rng: Rng, name: str, correlation: float) -> str:
    if rng.random() < correlation:
        return CONTEXTS[name]
    if rng.random() < 0.5:
        return str(rng.choice(NEUTRAL_CONTEXTS))
    return str(rng.choice([c for n, c in CONTEXTS.items() if n != name]))
