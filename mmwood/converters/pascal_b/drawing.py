"""The maps of an image, what is seen in them, and the pictures that people review."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from mmwood.converters.pascal_b.annotations import Scene
from mmwood.converters.pascal_b.choice import SIZES
from mmwood.fileio.coco import Layer, layered_masks
from mmwood.fileio.labels import VOID, voc_palette

#: Masks of one class that overlap so much show one object, named twice.
_SAME_OBJECT = 0.8


def draw_scene(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw the class map and the instance map of an image.

    Where instances overlap the smaller one is on top, of equally large ones the first.
    Crowds are void where no instance is. An object that LVIS names twice (a bird, a
    duck) is drawn once: of two masks of one class, different categories and an IoU of
    0.8, the first.

    Returns:
        Class map (H, W) uint8, and instance map (H, W) uint8, or uint16 where it has
        more than 254 instances; 255 is void in both.

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: Run lengths are not of the image's size, or no run lengths.
    """
    entries = [
        dict(
            id=item.id,
            segmentation=item.segmentation,
            iscrowd=item.crowd,
            item=item,
            place=place,
        )
        for place, item in enumerate(scene.items)
    ]
    # The last one of equally large ones is drawn on top.
    layers, _ = layered_masks(entries[::-1], scene.size, scene.source)
    classes = np.zeros(scene.size, dtype=np.uint8)
    for layer in layers:
        if layer.crowd:
            classes[layer.mask] = VOID
    instances = _without_repeats(layer for layer in layers if not layer.crowd)
    ids = classes.astype(np.uint16 if len(instances) >= VOID else np.uint8)
    # The smallest one is number 1.
    for number, layer in zip(range(len(instances), 0, -1), instances):
        classes[layer.mask] = layer.annotation["item"].label
        ids[layer.mask] = number + (number >= VOID)
    return classes, ids


def _without_repeats(layers: Iterable[Layer]) -> list[Layer]:
    """Leave out what shows the same object as an earlier annotation."""
    layers = list(layers)
    kept: list[Layer] = []
    for layer in sorted(layers, key=lambda layer: layer.annotation["place"]):
        item = layer.annotation["item"]
        if not any(
            _iou(layer.mask, other.mask) >= _SAME_OBJECT
            for other in kept
            if other.annotation["item"].label == item.label
            and other.annotation["item"].category != item.category
        ):
            kept.append(layer)
    places = {layer.annotation["place"] for layer in kept}
    return [layer for layer in layers if layer.annotation["place"] in places]


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


def count_instances(
    classes: np.ndarray, ids: np.ndarray, count: int, size_limits: Sequence[int]
) -> np.ndarray:
    """Visible instances by class and size, in the maps of :func:`draw_scene`.

    Shape:
        - classes, ids: (H, W); output: (count, 3) int64
    """
    areas = np.bincount(ids.ravel())
    label = np.zeros(len(areas), dtype=np.int64)
    # Drawn together, all pixels of an instance have one class.
    label[ids.ravel()] = classes.ravel()
    numbers = np.flatnonzero(areas)
    numbers = numbers[(numbers > 0) & (numbers != VOID)]
    counts = np.zeros((count, len(SIZES)), dtype=np.int64)
    cell = label[numbers] - 1, np.digitize(areas[numbers], size_limits)
    np.add.at(counts, cell, 1)
    return counts


def draw_review(
    image: np.ndarray, classes: np.ndarray, ids: np.ndarray, label: int
) -> np.ndarray:
    """Lay the instances of one class over an RGB image, each in its own colour.

    Instances are translucent, in VOC's colours, and edged: a solid line inside them, a
    white one around them. Void is white.

    Shape:
        - image: (H, W, 3) uint8; classes, ids: (H, W); output as image
    """
    mask = classes == label
    # Numbers of their own: the first colours of the palette differ most.
    numbers = np.unique(ids[mask], return_inverse=True)[1]
    shown = np.zeros(ids.shape, dtype=np.uint8)
    shown[mask] = numbers % (VOID - 1) + 1
    shown[classes == VOID] = VOID
    palette = voc_palette()
    palette[VOID] = 255
    colours = palette[shown]
    mixed = cv2.addWeighted(image, 0.6, colours, 0.4, 0)
    square = np.ones((3, 3), dtype=np.uint8)
    edge = cv2.dilate(shown, square) != cv2.erode(shown, square)
    colours[shown == 0] = 255
    inside = (shown > 0)[..., None]
    return np.where(edge[..., None], colours, np.where(inside, mixed, image))
