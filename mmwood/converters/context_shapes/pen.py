"""The pen that paints flat shapes, and the colours that it paints them in."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

Rng = np.random.Generator
Colour = Sequence[float]
Points = Iterable[Sequence[float] | np.ndarray]

# One box of paints for all vehicles and birds: colour must not give the class away.
PAINTS: tuple[Colour, ...] = (
    (196, 48, 42),
    (42, 88, 170),
    (236, 236, 230),
    (52, 122, 72),
    (232, 188, 52),
    (140, 146, 150),
    (222, 120, 44),
    (64, 66, 76),
    (128, 88, 58),
    (226, 214, 186),
)
_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = np.cos(_ANGLES), np.sin(_ANGLES)
GLASS: Colour = (70, 92, 112)
DARK: Colour = (38, 38, 42)


class Pen:
    """Paints flat shapes on an image and, where there is one, on a mask.

    An object's pen has its origin at the object's foot, x pointing right, y up, in
    per cent of `length`. Without arguments the unit is the pixel and y points down,
    for scenery.
    """

    def __init__(
        self,
        image: np.ndarray,
        mask: np.ndarray | None = None,
        foot: tuple[float, float] = (0, 0),
        length: tuple[float, float] = (100, -100),
        angle: float = 0,
    ) -> None:
        self.image, self.mask, self.foot = image, mask, np.array(foot)
        cos, sin = np.cos(angle), np.sin(angle)
        scale = np.diag([length[0] / 100, -length[1] / 100])
        self.matrix = np.array([[cos, sin], [-sin, cos]]) @ scale
        self.unit = abs(length[1]) / 100

    def _pixels(self, points: Points) -> list[np.ndarray]:
        pixels = np.asarray(points, float) @ self.matrix.T + self.foot
        return [np.rint(pixels).astype(np.int32)]

    def poly(self, points: Points, colour: Colour) -> None:
        """A polygon."""
        corners = self._pixels(points)
        cv2.fillPoly(self.image, corners, colour)
        if self.mask is not None:
            cv2.fillPoly(self.mask, corners, 255)

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        colour: Colour,
        lean: float = 0,
    ) -> None:
        """A rectangle; with `lean`, its side at y1 is shifted along x."""
        self.poly([(x0, y0), (x1, y0), (x1 + lean, y1), (x0 + lean, y1)], colour)

    def oval(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, tilt: float = 0
    ) -> None:
        """An ellipse of these half axes, turned by `tilt` (radians)."""
        u, v = rx * _CIRCLE[0], ry * _CIRCLE[1]
        c, s = np.cos(tilt), np.sin(tilt)
        self.poly(np.stack([x + c * u - s * v, y + s * u + c * v], 1), colour)

    def line(self, points: Points, width: float, colour: Colour) -> None:
        """A line of any number of pieces."""
        corners = self._pixels(points)
        thickness = max(1, round(width * self.unit))
        cv2.polylines(self.image, corners, False, colour, thickness)
        if self.mask is not None:
            cv2.polylines(self.mask, corners, False, 255, thickness)


def shade(colour: Colour, factor: float) -> Colour:
    """A darker tone, or from 1 on a lighter one."""
    return tuple(np.clip(np.multiply(colour, factor), 0, 255).tolist())


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """The tone at `t` on the way from `a` (0) to `b` (1)."""
    return tuple((np.multiply(a, 1 - t) + np.multiply(b, t)).tolist())


def jitter(rng: Rng, colour: Colour, amount: float = 14) -> Colour:
    """Another tone of nearly the same hue."""
    change = rng.normal(0, amount) + rng.normal(0, 0.3 * amount, 3)
    return tuple(np.clip(change + colour, 0, 255).tolist())


def pick(rng: Rng, tones: Sequence[Colour]) -> Colour:
    """Nearly one of these tones."""
    return jitter(rng, tones[int(rng.integers(len(tones)))], 8)


def paint(rng: Rng) -> Colour:
    """Nearly one of the paints for vehicles and birds."""
    return jitter(rng, PAINTS[int(rng.integers(len(PAINTS)))])
