"""Contact sheets: many images of any size on one page, with captions."""

from collections.abc import Sequence

import cv2
import numpy as np

from mmwood.utils.check import at_least, check_shapes, one_of

_MARGIN = 4
_INK = (24, 24, 24)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def contact_sheet(
    images: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    columns: int = 6,
    cell: tuple[int, int] = (160, 160),
) -> np.ndarray:
    """Place images row by row in cells of one size, each with a line of text below.

    Images keep their aspect and are enlarged or shrunk to fit; small images are
    enlarged without smoothing, so that single pixels stay visible. A caption that is
    too long for its cell is cut and ends in '..'.

    Args:
        images: (H, W, 3) uint8 RGB arrays; sizes may differ.
        captions: one text per image (cv2.putText: ASCII), or None for no captions.
        columns: cells per row.
        cell: (width, height) of an image's place in pixels, without its caption.

    Returns:
        (rows * cell height + captions and margins, columns * cell width + margins, 3)
        uint8 RGB on white. A last row that is not full stays white.

    Raises:
        ValueError: no images; an image of another shape or dtype; a number of
            captions that is not the number of images; columns or cell not positive.
    """
    if not len(images):
        raise ValueError("images is empty: a contact sheet needs at least one image")
    at_least("columns", columns, 1)
    at_least("cell", min(cell), 1)
    if captions is not None and len(captions) != len(images):
        raise ValueError(
            f"captions has {len(captions)} texts for {len(images)} images: give one "
            "text per image, or None"
        )
    for i, image in enumerate(images):
        check_shapes(**{f"images[{i}]": (image, "H W 3")})
        one_of(f"images[{i}].dtype", image.dtype.name, ["uint8"])
    width, height = cell
    columns = min(columns, len(images))
    text_height = 18 if captions is not None else 0
    step_x, step_y = width + _MARGIN, height + text_height + _MARGIN
    rows = -(-len(images) // columns)
    sheet = np.full(
        (rows * step_y + _MARGIN, columns * step_x + _MARGIN, 3), 255, np.uint8
    )
    for i, image in enumerate(images):
        x = _MARGIN + i % columns * step_x
        y = _MARGIN + i // columns * step_y
        h, w = image.shape[:2]
        scale = min(width / w, height / h)
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        thumb = cv2.resize(image, size, interpolation=how)
        left, top = x + (width - size[0]) // 2, y + (height - size[1]) // 2
        sheet[top : top + size[1], left : left + size[0]] = thumb
        if captions is not None:
            text, origin = _fit(captions[i], width), (x + 1, y + height + 13)
            cv2.putText(sheet, text, origin, _FONT, 0.4, _INK, 1, cv2.LINE_AA)
    return sheet


def _fit(text: str, width: int) -> str:
    """The text, or as much of its beginning as is no wider than ``width`` pixels."""
    shown = text
    while cv2.getTextSize(shown, _FONT, 0.4, 1)[0][0] > width - 2 and text:
        text = text[:-1]
        shown = f"{text}.."
    return shown
