"""Contact sheets: many images of any size on one page, with captions."""

from collections.abc import Sequence

import cv2
import numpy as np

_MARGIN = 4
_INK = (24, 24, 24)


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
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    if min(cell) < 1:
        raise ValueError(f"cell must be a positive (width, height), got {cell}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(
            f"captions has {len(captions)} texts for {len(images)} images: give one "
            "text per image, or None"
        )
    for i, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"images[{i}] must be (H, W, 3) uint8 RGB, got shape {image.shape} "
                f"and dtype {image.dtype}"
            )
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
            text = _fit(captions[i], width)
            _put(sheet, text, (x + 1, y + height + 13))
    return sheet


def _fit(text: str, width: int) -> str:
    """The text, or as much of its beginning as is no wider than `width` pixels."""
    if _text_width(text) <= width - 2:
        return text
    while text and _text_width(text + "..") > width - 2:
        text = text[:-1]
    return text + ".."


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0]


def _put(sheet: np.ndarray, text: str, origin: tuple[int, int]) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(sheet, text, origin, font, 0.4, _INK, 1, cv2.LINE_AA)
