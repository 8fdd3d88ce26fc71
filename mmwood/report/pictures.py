"""The pictures of a report, each as a ``data:`` address."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from PIL import Image

from mmwood.fileio.images import UNREADABLE, why_unreadable
from mmwood.fileio.labels import VOID
from mmwood.fileio.scores import SeedCurve
from mmwood.visualization.figures import new_figure

#: Okabe and Ito's colours, which the colour-blind can tell apart.
BRANCH_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")
_MARKERS = ("o", "s", "^", "D", "v")
_DASHES = ("-", "--", ":", "-.")
#: Long side of a picture, in pixels; larger ones are shrunk.
PICTURE = 240
#: Pixels of a figure; larger ones are shrunk.
FIGURE_PIXELS = 2_500_000


def outlined(picture: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The picture with white borders between labels: dark classes lie on dark images.

    They are drawn where the picture is as small as it will be shown.

    Shape:
        - picture: (H, W, 3) uint8 RGB; label: (H, W) uint8; output: (h, w, 3)
    """
    scale = min(1.0, PICTURE / max(label.shape))
    size = tuple(max(1, round(side * scale)) for side in label.shape[::-1])
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    # Void is white already.
    border = np.zeros(label.shape, dtype=bool)
    for axis in (0, 1):
        before = np.roll(label, 1, axis)
        differs = (label != before) & (label != VOID) & (before != VOID)
        differs.swapaxes(0, axis)[0] = False
        border |= differs
    picture[border] = 255
    return picture


def picture_source(picture: np.ndarray) -> str:
    """A small picture, (H, W, 3) uint8 RGB, as WebP."""
    image = Image.fromarray(picture)
    image.thumbnail((PICTURE, PICTURE))
    return _source(_webp(image, quality=80), "image/webp")


def figure_source(path: Path) -> str:
    """A figure: SVG as it is, pictures of many pixels shrunk.

    Raises:
        ValueError: The file is no picture.
    """
    if path.suffix.lower() == ".svg":
        return _source(path.read_bytes(), "image/svg+xml")
    try:
        with Image.open(path) as opened:
            # White behind what is transparent, as on paper.
            image = opened.convert("RGBA")
    except UNREADABLE as error:
        reason = why_unreadable(error)
        raise ValueError(f"figures: {path} is no picture: {reason}") from error
    paper = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(paper, image).convert("RGB")
    scale = (FIGURE_PIXELS / (image.width * image.height)) ** 0.5
    if scale < 1:
        image.thumbnail((image.width * scale, image.height * scale))
    # Charts are smaller without loss, photos with it.
    both = _webp(image, lossless=True), _webp(image, quality=80)
    return _source(min(both, key=len), "image/webp")


def curve_chart(curves: Sequence[tuple[int, str, str, SeedCurve]]) -> str:
    """The seed curves: mIoU over the background threshold.

    Args:
        curves: Number of the branch, its name, what the labels are called, and the
            curve.
    """
    names = list(dict.fromkeys(name for _, _, name, _ in curves))
    # Narrow, so that its letters can be read on a phone.
    figure = new_figure(5.0, 3.6 + 0.22 * len(curves))
    axes = figure.add_subplot()
    for branch, branch_name, name, curve in curves:
        colour = BRANCH_COLOURS[branch % len(BRANCH_COLOURS)]
        kind = names.index(name)
        axes.plot(
            [point["threshold"] for point in curve.points],
            [point["mIoU"] for point in curve.points],
            color=colour,
            linestyle=_DASHES[kind % len(_DASHES)],
            marker=_MARKERS[kind % len(_MARKERS)],
            markevery=(3 * branch, max(1, len(curve.points) // 8)),
            markersize=4,
            label=f"{name}, {branch_name}",
        )
        look: dict[str, Any] = dict(color=colour, markeredgecolor="black")
        for point, marker, size in ((curve.configured, "D", 9), (curve.best, "*", 15)):
            place = point["threshold"], point["mIoU"]
            axes.plot(*place, marker, markersize=size, **look)
    look = dict(color="none", markeredgecolor="black")
    for marker, size, note in (
        ("D", 8, "threshold set beforehand"),
        ("*", 13, "best one, chosen with the true masks"),
    ):
        axes.plot([], [], marker, markersize=size, label=note, **look)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("background threshold")
    axes.set_ylabel("mIoU in percent")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", fontsize=9, frameon=False)
    buffer = io.BytesIO()
    # Without a date and with fixed names equal numbers give equal bytes.
    undated = dict(Date=None, Creator=None)
    with matplotlib.rc_context({"svg.hashsalt": "mmwood"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=undated)
    return _source(buffer.getvalue(), "image/svg+xml")


def _webp(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


def _source(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
