"""What IRN saw in an image: edges, displacements, and maps before and after its walk.

IRN: Ahn et al., Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations, CVPR 2019.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from mmwood.visualization.panels import overlay_heat, overlay_label, panel

#: Pictures that stand in one row at most.
COLUMNS = 6
#: Side of the colour wheel as a fraction of the picture's shorter side.
WHEEL = 0.2
_FRAME = (160, 160, 160)


def displacement_color(
    displacement: np.ndarray, longest: float | None = None
) -> np.ndarray:
    """Colour vectors by their direction (hue) and length (saturation).

    To the right is red, down yellow-green, to the left cyan, up violet; a vector of
    length 0 is white, one of ``longest`` or more has the full colour.

    Args:
        displacement: Rows first, then columns.
        longest: The length of the full colour; None for the field's 99th percentile,
            so that a few long vectors do not bleach the rest.

    Returns:
        uint8 RGB.

    Shape:
        - displacement: (2, h, w); output: (h, w, 3)
    """
    down, right = displacement.astype(np.float32)
    length = np.hypot(down, right)
    longest = _longest(displacement) if longest is None else longest
    hue = np.degrees(np.arctan2(down, right)) % 360
    # A field of zeros is white, not a division by zero.
    saturation = np.clip(length / max(longest, 1e-6), 0, 1)
    hsv = np.stack([hue, saturation, np.ones_like(hue)], axis=-1)
    return np.rint(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).astype(np.uint8)


def color_wheel(size: int) -> np.ndarray:
    """The legend of :func:`displacement_color`: every vector's colour at its end.

    Returns:
        A disc with a grey rim on white, uint8 RGB.

    Shape:
        - output: (size, size, 3)
    """
    axis = np.linspace(-1, 1, size)
    vectors = np.stack(np.meshgrid(axis, axis, indexing="ij"))
    length = np.hypot(*vectors)
    wheel = displacement_color(vectors, longest=1.0)
    wheel[length > 1 - 3 / size] = _FRAME
    wheel[length > 1] = 255
    return wheel


def _longest(displacement: np.ndarray) -> float:
    """The length that has the full colour."""
    return float(np.percentile(np.hypot(*displacement.astype(np.float32)), 99))


def irn_panel(
    image: np.ndarray,
    cam_before: np.ndarray,
    cam_after: np.ndarray,
    cam_classes: Sequence[int],
    edge: np.ndarray,
    displacement: np.ndarray,
    label: np.ndarray,
    truth: np.ndarray | None,
    class_names: Sequence[str],
) -> np.ndarray:
    """Image | CAMs | edges | displacements | CAMs after the walk | mask | truth.

    Maps of a smaller grid are enlarged to the image. More than six pictures stand in
    two rows: what goes into the walk, and what comes out of it.

    Args:
        image: RGB. Shape: (H, W, 3) uint8.
        cam_before: Maps in [0, 1] before the random walk. Shape: (n, h, w), any size.
        cam_after: Maps in [0, 1] after it. Shape: (n, h, w), any size.
        cam_classes: The class of each map, from 0.
        edge: Probability of an edge, drawn from black to white. Shape: (h, w).
        displacement: Rows first, then columns, in pixels of its grid; a colour wheel
            in the corner tells the directions, the caption how many pixels of the
            image the full colour is. Shape: (2, h, w).
        label: The mask, 0 background, c + 1 class c. Shape: (H, W) uint8.
        truth: Label map of the ground truth, 255 void, or None.
        class_names: Names of all classes.

    Returns:
        The panel, uint8 RGB.
    """
    height, width = image.shape[:2]

    def enlarge(field: np.ndarray) -> np.ndarray:
        return cv2.resize(field.astype(np.float32), (width, height))

    names = [class_names[number] for number in cam_classes]
    gray = np.rint(255 * np.clip(enlarge(edge), 0, 1)).astype(np.uint8)
    longest, scale = _longest(displacement), width / displacement.shape[2]
    colors = displacement_color(
        np.stack([enlarge(part) for part in displacement]), longest
    )
    _add_wheel(colors)
    before, after = (
        [overlay_heat(image, enlarge(score_map)) for score_map in maps]
        for maps in (cam_before, cam_after)
    )
    pictures = [
        *(image, *before, np.stack([gray] * 3, axis=-1), colors, *after),
        overlay_label(image, label),
    ]
    captions = [
        "image",
        *(f"CAM {name}" for name in names),
        "edge",
        f"displacement, full colour: {longest * scale:.3g} px",
        *(f"CAM {name} after walk" for name in names),
        "mask",
    ]
    if truth is not None:
        pictures.append(overlay_label(image, truth))
        captions.append("ground truth")
    columns = len(pictures) if len(pictures) <= COLUMNS else len(names) + 3
    return panel(pictures, captions, columns)


def _add_wheel(colors: np.ndarray) -> None:
    """Draw the legend into a corner, and a frame: most of a field may be white."""
    height, width = colors.shape[:2]
    size = max(1, round(WHEEL * min(height, width)))
    axis = np.linspace(-1, 1, size)
    inside = np.hypot(*np.meshgrid(axis, axis)) <= 1
    colors[-size:, -size:][inside] = color_wheel(size)[inside]
    cv2.rectangle(colors, (0, 0), (width - 1, height - 1), _FRAME)
