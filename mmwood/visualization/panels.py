"""One row of pictures per image: what the network saw and what became of it."""

from collections.abc import Sequence

import cv2
import numpy as np

from mmwood.fileio.labels import BIASED, VOID, full_palette
from mmwood.visualization.contact_sheet import contact_sheet

#: Width that each picture of a panel has at least, in pixels.
_WIDTH = 240


def overlay_heat(image: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Lay a score map over an image, blue for 0 and red for 1.

    Shape:
        - image: (H, W, 3) uint8 RGB; score: (H, W) in [0, 1]; output as image
    """
    level = np.clip(255 * score, 0, 255).astype(np.uint8)
    heat = cv2.applyColorMap(level, cv2.COLORMAP_JET)[..., ::-1]
    return cv2.addWeighted(image, 0.5, np.ascontiguousarray(heat), 0.5, 0)


def overlay_label(
    image: np.ndarray, label: np.ndarray, palette: np.ndarray | None = None
) -> np.ndarray:
    """Lay a label map over an image, void in white, removed pixels in magenta.

    Shape:
        - image: (H, W, 3) uint8 RGB; label: (H, W) uint8; output as image
        - palette: (n, 3) uint8 RGB, the colours of the first labels; all others, and
          without it all, have PASCAL VOC's
    """
    colours = full_palette(palette, biased=True)
    colours[VOID] = 255
    mixed = cv2.addWeighted(image, 0.35, colours[label], 0.65, 0)
    dimmed = cv2.addWeighted(image, 0.6, np.zeros_like(image), 0.4, 0)
    return np.where((label == 0)[..., None], dimmed, mixed)


def panel(
    pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int
) -> np.ndarray:
    """Pictures of one size with captions, small ones enlarged; (h, w, 3) uint8 RGB."""
    height, width = pictures[0].shape[:2]
    zoom = max(1.0, _WIDTH / width)
    return contact_sheet(
        pictures, captions, columns, cell=(round(width * zoom), round(height * zoom))
    )


def seed_panel(
    image: np.ndarray,
    cam: np.ndarray,
    cam_classes: Sequence[int],
    seed: np.ndarray,
    truth: np.ndarray | None,
    class_names: Sequence[str],
    scores: Sequence[float],
) -> np.ndarray:
    """Image | CAM overlay of each class | seed | ground truth, with captions.

    Args:
        image: RGB. Shape: (H, W, 3) uint8.
        cam: Normalised maps. Shape: (n, H, W).
        cam_classes: The class of each map, from 0.
        seed: Label map, 0 background, c + 1 class c. Shape: (H, W) uint8.
        truth: Label map of the ground truth, 255 void, or None.
        class_names: Names of all classes.
        scores: The classifier's probability of every class.

    Returns:
        The panel, uint8 RGB.
    """
    pictures = [image]
    captions = ["image"]
    for number, score_map in zip(cam_classes, cam):
        pictures.append(overlay_heat(image, score_map))
        captions.append(f"CAM {class_names[number]} p={scores[number]:.2f}")
    pictures.append(overlay_label(image, seed))
    captions.append("seed")
    if truth is not None:
        pictures.append(overlay_label(image, truth))
        captions.append("ground truth")
    return panel(pictures, captions, columns=len(pictures))


def filter_panel(
    image: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    truth: np.ndarray | None = None,
) -> np.ndarray:
    """Image | labels | filtered labels, removed pixels in magenta | ground truth.

    Args:
        image: RGB. Shape: (H, W, 3) uint8.
        before: Label map. Shape: (H, W) uint8.
        after: What the label filter left of it.
        truth: Label map of the ground truth, 255 void, or None.

    Returns:
        The panel, uint8 RGB.
    """
    labelled = ~np.isin(before, (0, BIASED, VOID))
    removed = (before != after).sum() / max(labelled.sum(), 1)
    pictures = [image, overlay_label(image, before), overlay_label(image, after)]
    captions = ["image", "labels", f"filtered: {removed:.0%} removed"]
    if truth is not None:
        pictures.append(overlay_label(image, truth))
        captions.append("ground truth")
    return panel(pictures, captions, columns=len(pictures))
