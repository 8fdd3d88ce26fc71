"""One class of a mask on its image, so that a person sees at once whether it is right.

The class's region keeps the colours of the image, within a yellow line. All else is
grey and darker, so that what a mask lacks of an object can still be seen.
"""

import cv2
import numpy as np

from mmwood.fileio.labels import VOID, full_palette
from mmwood.utils.check import check_shapes

#: The line around the region, between two dark ones: it is seen on any image.
_LINE = (255, 214, 0)
_DARK = (20, 20, 20)
#: Line width, as a fraction of the picture's long side, and at most in pixels: a small
#: picture is shown smaller still.
_WIDTH, _MOST = 1 / 90, 5
#: Brightness outside the region, and how strong the other classes' colours are there.
_OUTSIDE, _TINT = 0.55, 0.33


def draw_class(
    image: np.ndarray,
    label: np.ndarray,
    value: int,
    palette: np.ndarray | None = None,
) -> np.ndarray:
    """The region of one class; the other classes are tinted, and void is white.

    Args:
        image: The image, at the size of the picture.
        label: The label map, at any size: it is scaled to the picture's.
        value: The class's label.
        palette: Colours of the first labels; all others have PASCAL VOC's.

    Shape:
        - image: (h, w, 3) uint8 RGB; label: (H, W) integers; palette: (n, 3) uint8 RGB
        - output: as image
    """
    check_shapes(image=(image, "h w 3"), label=(label, "H W"))
    size = image.shape[1::-1]
    region = _scaled(label == value, size)
    small = cv2.resize(
        label.astype(np.float32), size, interpolation=cv2.INTER_NEAREST
    ).astype(np.int64)
    colours = full_palette(palette, biased=True)
    colours[VOID] = 255
    # Labels above 255 have the colours of those 256 below.
    tint = colours[small % 256]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    outside = (_OUTSIDE * grey).astype(np.uint8)
    tinted = cv2.addWeighted(outside, 1 - _TINT, tint, _TINT, 0)
    outside = np.where((small > 0)[..., None], tinted, outside)
    drawn = np.where(region[..., None], image, outside)
    # Around the region, so that the line hides nothing of it.
    width = min(_MOST, max(1, round(_WIDTH * max(size))))
    for colour, inner, outer in (
        (_DARK, 0, 1),
        (_LINE, 1, 1 + width),
        (_DARK, 1 + width, 2 + width),
    ):
        drawn[_grown(region, outer) & ~_grown(region, inner)] = colour
    return drawn


def _scaled(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A region at another size (w, h); of one that is there, something stays."""
    mask = region.astype(np.uint8)
    if size[0] >= region.shape[1]:
        return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0
    part = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return part >= 0.5 if (part >= 0.5).any() else part > 0


def _grown(region: np.ndarray, radius: int) -> np.ndarray:
    if not radius:
        return region
    side = 2 * radius + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return cv2.dilate(region.astype(np.uint8), disc) > 0
