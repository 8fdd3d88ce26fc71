"""Context shapes: a small drawn data set whose classes come with their contexts.

A classifier trained from image tags takes what an object stands on for the object:
rails for a train, water for a boat. Here that happens on purpose and under control.
Six classes of drawn objects stand on their own context with a chosen probability, and
a pool of out-of-distribution (OoD) images shows the same contexts without any object.
The folder is laid out as PASCAL VOC 2012, so that whatever reads VOC reads it:

    JPEGImages/*.jpg            images, long side `size`
    SegmentationClass/*.png     palette PNG: 0 background, 1..C classes, 255 void
    SegmentationObject/*.png    palette PNG: 0 background, 1..n instances, 255 void
    ImageSets/Segmentation/     train.txt, val.txt
    OoD/*.jpg, OoD/list.txt     contexts without objects; paths relative to the root
    contexts.csv                image, split, class, context: the truth of every scene
    dataset.json                parameters, classes and counts; written last

Everything is painted on a canvas four times as large and then shrunk, objects and
contexts together, so that an object leaves no trace of pasting and an OoD image
differs from a training image in nothing but the missing object.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from mmwood.fileio.files import atomic_write, read_json, write_json
from mmwood.fileio.labels import save_label_png

CLASSES = ("aeroplane", "bird", "boat", "car", "sheep", "train")
CONTEXTS = {
    "aeroplane": "sky",
    "bird": "branches",
    "boat": "water",
    "car": "road",
    "sheep": "meadow",
    "train": "rails",
}
NEUTRAL_CONTEXTS = ("sand", "pavement")
SPLITS = ("train", "val", "ood")
MIN_SIZE = 64
VERSION = 1

_OVERSAMPLING = 4
# Fewer visible pixels than this make no object: it is not painted at all.
_MIN_PIXELS = 10
_ASPECTS = ((1, 1), (1, 0.75), (1, 0.75), (1, 0.875), (0.75, 1), (0.875, 1), (1, 0.66))
# Fewer are drawn sooner than a process starts.
_IMAGES_PER_WORKER = 50
_JSON = "dataset.json"
_UNFINISHED = "unfinished.json"

Colour = tuple[float, float, float]
Points = Iterable[tuple[float, float]]

# One box of paints for all vehicles and birds: colour must not give the class away.
_PAINTS: tuple[Colour, ...] = (
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
_GLASS: Colour = (70, 92, 112)
_DARK: Colour = (38, 38, 42)


class Sample(NamedTuple):
    """One drawn image and its truth."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    classes: np.ndarray
    """(H, W) uint8: 0 background, 1..C, 255 void."""
    instances: np.ndarray
    """(H, W) uint8: 0 background, 1..n, 255 void; void where `classes` is void."""
    contexts: list[tuple[str, str]]
    """(class, context) of every class in the image; class is '' in an OoD image."""


# ---------------------------------------------------------------------------
# Pens and colours
# ---------------------------------------------------------------------------
class _Pen:
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

    def _pixels(self, points: Points) -> np.ndarray:
        pixels = np.asarray(points, float) @ self.matrix.T + self.foot
        return np.rint(pixels).astype(np.int32)[None]

    def poly(self, points: Points, colour: Colour) -> None:
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
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        colour: Colour,
        tilt: float = 0,
    ) -> None:
        u, v = rx * _CIRCLE[0], ry * _CIRCLE[1]
        c, s = np.cos(tilt), np.sin(tilt)
        self.poly(np.stack([x + c * u - s * v, y + s * u + c * v], 1), colour)

    def line(self, points: Points, width: float, colour: Colour) -> None:
        corners = self._pixels(points)
        thickness = max(1, round(width * self.unit))
        cv2.polylines(self.image, corners, False, colour, thickness)
        if self.mask is not None:
            cv2.polylines(self.mask, corners, False, 255, thickness)


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(np.clip(np.multiply(colour, factor), 0, 255).tolist())


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return tuple((np.multiply(a, 1 - t) + np.multiply(b, t)).tolist())


def _jitter(rng: np.random.Generator, colour: Colour, amount: float = 14) -> Colour:
    """Another tone of nearly the same hue."""
    change = rng.normal(0, amount) + rng.normal(0, 0.3 * amount, 3)
    return tuple(np.clip(change + colour, 0, 255).tolist())


def _pick(rng: np.random.Generator, tones: list[Colour]) -> Colour:
    return _jitter(rng, tones[rng.integers(len(tones))], 8)


def _paint(rng: np.random.Generator) -> Colour:
    return _jitter(rng, _PAINTS[rng.integers(len(_PAINTS))])


# ---------------------------------------------------------------------------
# Objects: one function per class, in per cent of the object's length. They fill x
# from -50 to 50 and y from 0 (the foot) upwards, and look to the right.
# ---------------------------------------------------------------------------
def _aeroplane(pen: _Pen, rng: np.random.Generator) -> None:
    body, trim = _paint(rng), _paint(rng)
    wing, far = _shade(body, 0.72), _shade(body, 0.58)
    thick = rng.uniform(4.5, 6.5)
    if rng.random() < 0.35:  # seen from below or above
        back = rng.uniform(8, 20)
        for s in (-1, 1):
            pen.poly(
                [(16, 40), (-2, 40), (-4 - back, 40 + s * 40), (4 - back, 40 + s * 40)],
                wing,
            )
            pen.poly(
                [(-34, 40), (-46, 40), (-50, 40 + s * 16), (-45, 40 + s * 16)], wing
            )
            pen.oval(6 - back / 2, 40 + s * 17, 5, 2.4, far)
        pen.oval(0, 40, 50, thick, body)
        pen.oval(42, 40, 3, thick * 0.5, _GLASS)
        pen.line([(-48, 40), (-36, 40)], 2, trim)
        return
    pen.poly([(10, 20), (-2, 20), (-14, 37), (-8, 37)], far)
    pen.poly([(-32, 20), (-44, 22), (-52, 43), (-43, 43)], trim)
    pen.oval(2, 20, 48, thick * 1.15, body)
    pen.poly([(-47, 22), (-10, 27), (-10, 15), (-25, 15)], body)
    pen.line([(-38, 19.5), (44, 19.5)], 1.4, trim)
    pen.poly([(42, 24), (47, 22), (38, 22), (37, 25)], _GLASS)
    for x in np.arange(-26, 33, 5.5):
        pen.box(x, 21, x + 2.4, 23.4, _GLASS)
    pen.poly([(-36, 21), (-45, 21), (-54, 15), (-47, 15)], wing)
    pen.poly([(12, 18), (-6, 18), (-25, 0), (-15, 0)], wing)
    pen.oval(3, 11, 6, 3, _shade(body, 0.5))


def _bird(pen: _Pen, rng: np.random.Generator) -> None:
    body = _paint(rng)
    wing, belly = _shade(body, 0.68), _mix(body, (240, 226, 200), 0.55)
    beak = (230, 160, 40) if rng.random() < 0.6 else (70, 62, 58)
    if rng.random() < 0.25:  # in flight
        tip = 30 + rng.uniform(22, 36)
        pen.poly([(5, 26), (-12, 26), (-28, tip), (-2, tip - 6)], _shade(body, 0.55))
        pen.poly([(-20, 25), (-50, 32), (-48, 20), (-16, 17)], wing)
        pen.oval(0, 22, 24, 8.5, body)
        pen.oval(2, 19, 17, 5, belly)
        pen.poly([(10, 25), (-10, 25), (-2, tip), (16, tip - 3)], wing)
        pen.oval(27, 27, 9, 8, body)
        pen.poly([(34, 30), (34, 24), (47, 26)], beak)
        pen.oval(30, 29, 1.6, 1.6, _DARK)
        return
    upright = rng.uniform(0.25, 0.75)
    for x in (-3, 6):
        pen.line([(x, 22), (x + 2, 0)], 2.2, (150, 100, 50))
    tail = 20 - 16 * upright
    pen.poly([(-12, 26), (-50, tail), (-48, tail - 12), (-5, 16)], wing)
    pen.oval(0, 28, 28, 16, body, upright)
    pen.oval(8, 25, 16, 11, belly, upright)
    x, y = 28 - 12 * upright, 36 + 18 * upright
    pen.oval(x, y, 12.5, 11.5, body)
    if rng.random() < 0.3:  # crest
        pen.poly([(x - 8, y + 6), (x - 14, y + 20), (x + 6, y + 10)], wing)
    pen.poly([(x + 10, y + 5), (x + 10, y - 4.5), (x + 25, y - 1)], beak)
    pen.oval(x + 4.5, y + 3, 2.6, 2.6, (245, 245, 240))
    pen.oval(x + 5, y + 3, 1.7, 1.7, _DARK)
    pen.oval(-7, 28, 21, 9, wing, upright * 0.9)


def _boat(pen: _Pen, rng: np.random.Generator) -> None:
    hull, trim = _paint(rng), _paint(rng)
    kind, deck = rng.integers(3), rng.uniform(12, 17)
    if kind == 0:  # sailing boat
        mast = rng.uniform(75, 100)
        sail = _mix(trim, (248, 246, 238), 0.6)
        pen.line([(2, deck), (2, mast)], 2.2, (96, 66, 44))
        pen.poly([(0, deck + 6), (0, mast - 2), (-38, deck + 6)], sail)
        pen.poly([(5, deck + 6), (5, mast - 12), (40, deck + 5)], _shade(sail, 0.85))
    elif kind == 1:  # motor boat with a flag
        top = deck + 20
        pen.poly([(-30, deck), (-28, top), (6, top), (20, deck)], (240, 238, 230))
        for x in (-24, -12, 0):
            pen.box(x, deck + 8, x + 9, deck + 16, _GLASS)
        pen.line([(-10, top), (-10, top + 16)], 1.8, _DARK)
        pen.poly([(-10, top + 16), (-10, top + 7), (-24, top + 11)], trim)
    else:  # ship with a bridge, a funnel and cargo
        pen.box(-42, deck, -18, deck + 22, (238, 236, 228))
        for x in (-39, -32, -25):
            pen.box(x, deck + 6, x + 4, deck + 9.5, _GLASS)
            pen.box(x, deck + 15, x + 4, deck + 18.5, _GLASS)
        pen.box(-36, deck + 22, -25, deck + 31, trim)
        pen.box(-36, deck + 31, -25, deck + 36, _DARK)
        for x in np.arange(-14, 26, 10.5):
            pen.box(x, deck, x + 9.5, deck + rng.choice([7, 13]), _paint(rng))
        pen.line([(34, deck), (34, deck + 20)], 1.6, _DARK)
    rail = _mix(trim, (250, 250, 250), 0.4)
    pen.poly([(-47, deck + 1), (50, deck + 4), (36, 0), (-38, 0)], hull)
    pen.poly([(-47, deck + 1), (50, deck + 4), (48, deck), (-46, deck - 2.5)], rail)
    pen.poly([(-40.5, 4), (40, 4), (36, 0), (-38, 0)], _shade(hull, 0.55))


def _car(pen: _Pen, rng: np.random.Generator) -> None:
    body = _paint(rng)
    waist, top = rng.uniform(21, 25), rng.uniform(36, 42)
    # Columns of the roof's four corners and of the pillars: saloon, hatchback, van,
    # pick-up.
    corners, pillars = (
        ((-30, -19, 10, 25), (-4,)),
        ((-46, -39, 6, 24), (-18, -2)),
        ((-49, -48, 26, 40), (-24, 0)),
        ((-8, -6, 14, 26), ()),
    )[kind := rng.integers(4)]
    top += 8 * (kind == 2)
    a, b, c, d = corners
    pen.poly([(a, waist), (b, top), (c, top), (d, waist), (0, waist - 5)], body)
    nose = [(47, waist - 2), (50, 15), (50, 7)]
    pen.poly([(-50, 7), (-50, waist - 3), (-47, waist), (25, waist), *nose], body)
    eaves = top - 3.5
    pen.poly([(a + 5, waist), (b + 3, eaves), (c - 1, eaves), (d - 4, waist)], _GLASS)
    for x in pillars:
        pen.box(x - 1.2, waist, x + 1.2, top - 2, body)
    pen.box(-50, 7, 50, 10.5, _shade(body, 0.6))
    pen.line([(-2, 11), (-2, waist)], 0.8, _shade(body, 0.7))
    pen.box(44, 15, 50, 18.5, (252, 236, 170))
    pen.box(-50, 15, -46, 19, (214, 40, 36))
    for x in (-29, 29):
        pen.oval(x, 9, 10.5, 10.5, _shade(body, 0.45))
        pen.oval(x, 8.5, 8.5, 8.5, (30, 30, 33))
        pen.oval(x, 8.5, 4.2, 4.2, (178, 180, 184))


def _sheep(pen: _Pen, rng: np.random.Generator) -> None:
    wool = _jitter(rng, _PAINTS[rng.choice([2, 2, 9, 9, 5, 7, 8])])
    face = _jitter(rng, ((52, 46, 44), (226, 210, 190))[rng.integers(2)])
    for x, light in ((-20, 0.65), (18, 0.65), (-27, 0.9), (11, 0.9)):
        pen.box(x, 0, x + 6.5, 30, _shade(face, light))
    pen.oval(-4, 40, 33, 20, _shade(wool, 0.86))
    for a in np.arange(0, 2 * np.pi, np.pi / 7):  # curls around the body
        x, y = -4 + 32 * np.cos(a), 41 + 17 * np.sin(a)
        pen.oval(x, y, 9, 8.5, _shade(wool, 0.88 + 0.14 * np.sin(a)))
    pen.oval(-5, 44, 27, 14, wool)
    for x, y in rng.uniform((-28, 32), (18, 52), (7, 2)):
        pen.oval(x, y, 4.5, 3, _shade(wool, 0.92))
    pen.oval(-42, 46, 7, 5, wool)
    x, y, nod = (38, 20, -1.1) if rng.random() < 0.4 else (37, 57, -0.45)
    pen.line([(24, 44), (x - 4, y)], 14, wool)
    pen.oval(x, y, 13, 8.8, face, nod)
    pen.oval(x - 10, y + 6, 6.5, 3, _shade(face, 0.8), 0.5)
    pen.oval(x - 5, y + 7.5, 8.5, 5.5, wool)
    pen.oval(x + 2, y + 3, 2, 2, (235, 235, 225))
    pen.oval(x + 2.5, y + 3, 1.2, 1.2, (20, 20, 20))


def _train(pen: _Pen, rng: np.random.Generator) -> None:
    body, trim = _paint(rng), _paint(rng)
    count = rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3])
    length = 100 / count
    height = (30, 24, 19)[count - 1] * rng.uniform(0.95, 1.1)
    kind = rng.choice(["fast", "boxy", "steam"])
    for i in range(count):
        left, right = -50 + i * length, -50 + (i + 1) * length
        if i < count - 1:
            pen.box(right - 3, height * 0.24, right + 3, height * 0.34, _DARK)
            _carriage(pen, left, right - 1.4, height, 0, body, trim)
        elif kind == "steam":
            _steam_engine(pen, left, right, height, body, trim)
        else:
            slope = length * (0.3 if kind == "fast" else 0.06)
            _carriage(pen, left, right, height, slope, body, trim)
            if kind == "boxy":  # pantograph
                x, y = left + length * 0.4, height
                pen.line([(x, y), (x + 5, y * 1.16), (x, y * 1.32)], 0.8, _DARK)
                pen.line([(x - 3, y * 1.32), (x + 3, y * 1.32)], 1, _DARK)


def _wheel(pen: _Pen, x: float, radius: float) -> None:
    pen.oval(x, radius, radius, radius, (34, 32, 34))
    pen.oval(x, radius, radius * 0.45, radius * 0.45, (150, 148, 146))


def _carriage(
    pen: _Pen,
    left: float,
    right: float,
    height: float,
    slope: float,
    body: Colour,
    trim: Colour,
) -> None:
    """A carriage; `slope` is the length of its nose, 0 for none."""
    low, eaves, end = height * 0.2, height * 0.93, right - slope
    nose = [(end + slope * 0.65, height * 0.75), (right, height * 0.4)]
    if not slope:
        nose = [(right, eaves)]
    roof = [(left, eaves), (left + 1.5, height), (end, height)]
    pen.poly([(left, low), *roof, *nose, (right, low)], body)
    pen.box(left, low, right, height * 0.34, _shade(body, 0.6))
    pen.box(left, height * 0.37, right, height * 0.46, trim)
    pitch = (end - left - 2) / max(1, int((end - left - 2) / (height * 0.46)))
    for x in np.arange(left + 1, end - 1.5, pitch):
        x0, x1 = x + pitch * 0.14, x + pitch * 0.86
        pen.box(x0, height * 0.58, x1, height * 0.85, _GLASS)
    if slope:
        x, y = end + slope * 0.1, height * 0.6
        pane = [(x, eaves), (end + slope * 0.7, height * 0.73), (end + slope * 0.8, y)]
        pen.poly([*pane, (x, y)], _GLASS)
        pen.oval(right - 2.5, height * 0.42, 1.4, 1.4, (255, 240, 170))
    pen.line([(left + 1, height * 0.98), (end, height * 0.98)], 1.2, _shade(body, 0.5))
    for t in (0.13, 0.25, 0.75, 0.87):
        _wheel(pen, left + t * (right - left), height * 0.125)


def _steam_engine(
    pen: _Pen, left: float, right: float, height: float, body: Colour, trim: Colour
) -> None:
    length, low = right - left, height * 0.3
    cab, boiler = left + length * 0.34, height * 0.42
    pen.box(left, height * 0.2, right - 1, low, _DARK)
    pen.box(cab, low, right - 3, low + boiler, body)
    pen.oval(right - 3, low + boiler / 2, 2, boiler / 2, _DARK)
    for t in (0.3, 0.6):
        x = cab + (right - cab) * t
        pen.box(x, low, x + 1, low + boiler, trim)
    pen.oval(cab + (right - cab) * 0.42, height * 0.74, 3, height * 0.1, trim)
    x, y, top = right - length * 0.15, height * 0.65, height * 1.12
    pen.poly([(x - 1.6, y), (x - 2.6, top), (x + 2.6, top), (x + 1.6, y)], _DARK)
    pen.box(left + 1, height * 0.2, cab, height * 0.95, body)
    pen.box(left, height * 0.93, cab + 1.5, height, _DARK)
    pen.box(left + 4, height * 0.58, cab - 3, height * 0.84, _GLASS)
    plough = [(right - 4, height * 0.22), (right, height * 0.04)]
    pen.poly([*plough, (right - 7, height * 0.04)], trim)
    for t, radius in ((0.15, 0.17), (0.4, 0.17), (0.6, 0.17), (0.82, 0.125)):
        _wheel(pen, left + t * length, height * radius)


class _Kind(NamedTuple):
    """How a class is painted and placed."""

    paint: Callable[[_Pen, np.random.Generator], None]
    min_length: float  # of the smallest object, in fractions of the long side
    max_length: float
    height: float  # typical, in lengths
    tilt: float = 0  # largest rotation, radians


_OBJECTS = {
    "aeroplane": _Kind(_aeroplane, 0.085, 0.95, 0.5, 0.35),
    "bird": _Kind(_bird, 0.065, 0.75, 0.6, 0.12),
    "boat": _Kind(_boat, 0.065, 0.85, 0.6, 0.05),
    "car": _Kind(_car, 0.065, 0.95, 0.4),
    "sheep": _Kind(_sheep, 0.06, 0.8, 0.65),
    "train": _Kind(_train, 0.13, 1.3, 0.25),
}


# ---------------------------------------------------------------------------
# Scenery. Contexts paint the canvas and return where an object can stand: rows
# (y, slope) of the lines y + slope * x, in canvas pixels.
# ---------------------------------------------------------------------------
class _Canvas(NamedTuple):
    image: np.ndarray  # (H, W, 3) uint8, oversampled
    horizon: int  # row where the ground begins
    unit: float  # canvas pixels per 1/128 of the long side

    @property
    def height(self) -> int:
        return self.image.shape[0]

    @property
    def width(self) -> int:
        return self.image.shape[1]

    @property
    def ground(self) -> tuple[int, int]:
        return self.horizon, self.height

    def row(self, depth: float) -> float:
        """Row of the ground at depth 0 (the horizon) to 1 (the lower border)."""
        return self.horizon + (self.height - self.horizon) * depth


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise of about unit variance, (h, w) float32."""
    h, w = shape
    grid = rng.standard_normal((int(h / cell) + 2, int(w / cell) + 2), np.float32)
    return cv2.resize(grid, (w, h), interpolation=cv2.INTER_LINEAR)


def _fill(
    canvas: _Canvas,
    rng: np.random.Generator,
    rows: tuple[float, float],
    colours: tuple[Colour, Colour],
    grain: float,
    cell: float = 1.0,
) -> None:
    """A vertical gradient with grain between two rows."""
    top, bottom = (int(np.clip(r, 0, canvas.height)) for r in rows)
    if top >= bottom:
        return
    t = np.linspace(0, 1, bottom - top, dtype=np.float32)[:, None, None]
    area = np.float32(colours[0]) * (1 - t) + np.float32(colours[1]) * t
    shape = (bottom - top, canvas.width)
    rough = _noise(rng, shape, cell * canvas.unit) + _noise(rng, shape, 9 * canvas.unit)
    rough *= grain
    area = area + rough[..., None]
    canvas.image[top:bottom] = np.clip(area, 0, 255, out=area)


def _lanes(canvas: _Canvas, depths: Iterable[float]) -> np.ndarray:
    return np.array([(canvas.row(d), 0.0) for d in depths])


def _anywhere(canvas: _Canvas) -> np.ndarray:
    return _lanes(canvas, np.linspace(0.05, 0.97, 24))


def _rails(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    pen, u, w = _Pen(canvas.image), canvas.unit, canvas.width
    stone = _jitter(rng, (132, 122, 112), 8)
    _fill(canvas, rng, canvas.ground, (_shade(stone, 1.1), _shade(stone, 0.85)), 13)
    wood, steel = _jitter(rng, (86, 62, 46), 8), _jitter(rng, (74, 66, 66), 5)
    depths = np.cumsum(rng.uniform((0.1, 0.24, 0.36), (0.22, 0.34, 0.44)))
    lean = rng.uniform(-0.9, 0.9)
    for depth in depths:
        y, gauge = canvas.row(depth), u * (2.2 + 8 * depth)
        pen.box(0, y - 1.6 * gauge, w, y + 0.9 * gauge, _shade(stone, 0.84))
        near, far, wide = y + 0.5 * gauge, y - 1.35 * gauge, 0.44 * gauge
        for x in np.arange(-rng.uniform(1, 2) * gauge, w + gauge, 1.05 * gauge):
            pen.box(x, near, x + wide, far, wood, lean * gauge)
        for rail in (y - 0.9 * gauge, y + 0.05 * gauge):
            pen.box(0, rail, w, rail + 0.26 * gauge, steel)
            pen.box(0, rail, w, rail + 0.1 * gauge, (206, 204, 202))
    if rng.random() < 0.6:  # catenary masts beside the far track
        foot, grey = canvas.row(depths[0]) - 2 * u, (92, 96, 98)
        top = max(0, foot - rng.uniform(26, 40) * u)
        for x in np.arange(rng.uniform(0, 40) * u, w, rng.uniform(36, 52) * u):
            pen.box(x, top, x + 1.4 * u, foot, grey)
            pen.box(x, top + 3 * u, x + 11 * u, top + 4 * u, grey)
        pen.box(0, top + 6 * u, w, top + 6.6 * u, (70, 72, 74))
    return _lanes(canvas, depths)


def _water(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    pen, u = _Pen(canvas.image), canvas.unit
    deep = _pick(rng, [(34, 92, 134), (40, 112, 122), (58, 96, 112)])
    _fill(canvas, rng, canvas.ground, (_mix(deep, (214, 226, 232), 0.4), deep), 5, 2)
    crest, trough = _mix(deep, (240, 248, 250), 0.62), _shade(deep, 0.7)
    a = np.linspace(0, 2 * np.pi, 12)
    wave = np.stack([a / np.pi, 0.16 * np.cos(a)], 1)
    below = np.array((0, 0.16))
    depth = 0.04
    while depth < 1.05:  # rows of waves, wider apart towards the viewer
        size = u * (2 + 7 * depth)
        for x in np.arange(-rng.uniform(0, 2 * size), canvas.width, 2.6 * size):
            place = rng.normal((x, canvas.row(depth)), (0.3 * size, 0.12 * size))
            if rng.random() < 0.72:
                pen.line(size * (wave + below) + place, 0.16 * size, trough)
                pen.line(size * wave + place, 0.12 * size, crest)
        depth += 0.055 + 0.1 * depth
    return _anywhere(canvas)


def _road(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    pen, u, w = _Pen(canvas.image), canvas.unit, canvas.width
    tar, verge = _jitter(rng, (92, 92, 98), 7), _jitter(rng, (150, 146, 140), 9)
    white = _jitter(rng, (236, 232, 220), 5)
    start = rng.uniform(0.08, 0.2)
    kerb = canvas.row(start)
    _fill(canvas, rng, canvas.ground, (_shade(verge, 1.1), verge), 6)
    _fill(canvas, rng, (kerb, canvas.height), (_shade(tar, 1.12), _shade(tar, 0.85)), 7)
    for i, x in enumerate(np.arange(-rng.uniform(0, 8) * u, w, 6 * u)):  # striped kerb
        colour = ((230, 226, 220), (176, 60, 52))[i % 2]
        pen.box(x, kerb - 1.5 * u, x + 6 * u, kerb + u, colour)
    depths = start + (1 - start) * np.array([0.1, 0.5, 0.97])
    far, middle, near = (canvas.row(d) for d in depths)
    for y, size in ((far, 0.8 * u), (near, 1.9 * u)):
        pen.box(0, y - size, w, y, white)
    size = 2 * u
    for x in np.arange(-rng.uniform(0, 11) * size, w, 11 * size):  # lane dashes
        pen.box(x, middle, x + 6 * size, middle - size, white, 0.6 * size)
    if rng.random() < 0.5:  # zebra crossing
        x = rng.uniform(0.1, 0.8) * w
        for y in far + (near - far) * np.arange(0.06, 0.9, 0.16):
            pen.box(x, y, x + 18 * u, y + 0.085 * (near - far), white)
    if rng.random() < 0.5:  # street lamps
        top, grey = kerb - 40 * u, (84, 88, 92)
        for x in np.arange(rng.uniform(0, 40) * u, w, rng.uniform(40, 60) * u):
            pen.box(x, top, x + 1.2 * u, kerb, grey)
            pen.box(x, top, x + 8 * u, top + 1.4 * u, grey)
            pen.oval(x + 8 * u, top + 1.6 * u, 2 * u, 1.2 * u, (246, 236, 190))
    # Wheels stand somewhat below the middle of a lane.
    return _lanes(canvas, np.interp((0.5, 0.8, 1.6), (0, 1, 2), depths))


def _meadow(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    pen, u, w = _Pen(canvas.image), canvas.unit, canvas.width
    green = _pick(rng, [(92, 146, 58), (112, 150, 66), (78, 130, 60)])
    _fill(canvas, rng, canvas.ground, (_mix(green, (220, 226, 180), 0.3), green), 9)
    if rng.random() < 0.5:  # wooden fence along the horizon
        y = canvas.row(0.06)
        for x in np.arange(rng.uniform(0, 12) * u, w, 12 * u):
            pen.box(x, y - 9 * u, x + 1.5 * u, y, (120, 92, 66))
        for rail in (8, 4.5):
            pen.box(0, y - rail * u, w, y - (rail - 1) * u, (138, 106, 76))
    for depth in np.sort(rng.uniform(0.02, 1, 320)):  # tufts of grass
        x, y, size = rng.uniform(0, w), canvas.row(depth), u * (0.8 + 4 * depth)
        blade = _shade(green, rng.uniform(0.6, 1.28))
        for lean in (-0.5, 0, 0.5):
            pen.line([(x, y), (x + lean * size, y - size)], 0.14 * size, blade)
    petals = [(248, 246, 238), (246, 210, 56), (214, 66, 62), (186, 120, 206)]
    petals = [petals[i] for i in rng.permutation(4)[: rng.integers(1, 4)]]
    for depth in np.sort(rng.uniform(0.08, 1, 60)):
        x, y, size = rng.uniform(0, w), canvas.row(depth), u * (0.35 + 1.3 * depth)
        pen.oval(x, y, size, size * 0.8, petals[rng.integers(len(petals))])
        pen.oval(x, y, size * 0.35, size * 0.3, (226, 160, 40))
    return _anywhere(canvas)


def _sky(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    pen, u, w, floor = _Pen(canvas.image), canvas.unit, canvas.width, canvas.horizon
    blue = _pick(rng, [(62, 122, 200), (84, 146, 214), (48, 98, 172)])
    _fill(canvas, rng, (0, floor), (blue, _mix(blue, (226, 236, 244), 0.55)), 2, 6)
    if rng.random() < 0.4:  # vapour trail
        end, y, drop = rng.uniform((0.2, 0, -0.3), (0.9, 0.5, 0.3)) * (w, floor, floor)
        trail = _mix(blue, (250, 250, 252), 0.6)
        pen.line([(end - w, y - drop), (end, y)], 1.3 * u, trail)
    whites = ((0, (206, 214, 224)), (0.3, (240, 243, 246)), (0.5, (252, 252, 252)))
    for _ in range(rng.integers(4, 8)):  # fair-weather clouds: flat base, round top
        size = u * np.exp(rng.uniform(np.log(3.5), np.log(11)))
        x, y = rng.uniform((0, 0.08), (1, 0.98)) * (w, floor)
        puffs = rng.uniform((-2.2, 0, 0.7), (2.2, 0.9, 1.15), (8, 3))
        for lift, white in whites:
            for px, py, radius in puffs:
                cy = y - size * (py * (1 - abs(px) / 3) + lift)
                radius *= size * (1 - 0.3 * lift)
                if cy + radius < floor + 2 * u:
                    pen.oval(x + px * size, cy, radius, 0.8 * radius, white)
    return np.array([(y, 0.0) for y in np.linspace(0.25, 0.95, 16) * floor])


def _branches(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    pen, u, w, h = _Pen(canvas.image), canvas.unit, canvas.width, canvas.height
    leaf = _pick(rng, [(84, 138, 58), (126, 146, 54), (176, 120, 50), (62, 118, 70)])
    bark, light = _jitter(rng, (98, 72, 52), 8), _mix(leaf, (232, 238, 226), 0.68)
    _fill(canvas, rng, (0, h), (light, _mix(leaf, light, 0.6)), 7, 8)
    for _ in range(26):  # foliage out of focus
        x, y, r, t = rng.uniform((0, 0, 4 * u, 0.05), (w, h, 11 * u, 0.5))
        pen.oval(x, y, r, r, _mix(light, leaf, t))
    canvas.image[:] = cv2.blur(canvas.image, (int(5 * u), int(5 * u)))
    lines = []
    for t in (np.arange(3) + rng.uniform(0.25, 0.6)) / 3:
        slope, thick = rng.uniform((-0.22, 1.2 * u), (0.22, 2.6 * u))
        y0, y1 = t * h - slope * w / 2, t * h + slope * w / 2
        top = [(0, y0 - thick), (w, y1 - 0.5 * thick)]
        pen.poly([*top, (w, y1 + 0.5 * thick), (0, y0 + thick)], bark)
        lit = [(w, y1 - 0.1 * thick), (0, y0 - 0.3 * thick)]
        pen.poly([*top, *lit], _shade(bark, 1.3))
        for x in np.arange(rng.uniform(0, 12) * u, w, rng.uniform(9, 14) * u):
            foot = np.array((x, y0 + slope * x))
            twig = rng.uniform(8, 17) * u * np.array((0.7, rng.choice([-0.8, 0.8])))
            pen.line([foot, foot + twig], 0.7 * u, bark)
            for s in (0.3, 0.5, 0.7, 0.9, 1.05):
                angle, size = rng.uniform((0, 1.8 * u), (np.pi, 3.2 * u))
                x, y = foot + s * twig + (size * np.cos(angle), size * np.sin(angle))
                colour = _shade(leaf, rng.uniform(0.6, 1.2))
                pen.oval(x, y, size, 0.45 * size, colour, angle)
        lines.append((y0 - 0.5 * thick, slope))
    return np.array(lines)


def _sand(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    pen, u = _Pen(canvas.image), canvas.unit
    sand = _pick(rng, [(206, 186, 142), (170, 140, 108), (190, 182, 168)])
    _fill(canvas, rng, canvas.ground, (_shade(sand, 1.12), _shade(sand, 0.92)), 8)
    for depth in np.sort(rng.uniform(0.03, 1, 40)):
        size = u * (0.3 + 1.6 * depth) * rng.uniform(0.5, 1.2)
        x, y = rng.uniform(0, canvas.width), canvas.row(depth)
        pen.oval(x, y, size, 0.6 * size, _shade(sand, rng.uniform(0.6, 0.85)))
    return _anywhere(canvas)


def _pavement(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    pen, u, w = _Pen(canvas.image), canvas.unit, canvas.width
    slab = _pick(rng, [(176, 170, 164), (186, 150, 124), (150, 152, 160)])
    _fill(canvas, rng, canvas.ground, (_shade(slab, 1.08), _shade(slab, 0.92)), 5)
    joint, vanish = _shade(slab, 0.72), rng.uniform(0.2, 0.8) * w
    for depth in np.linspace(0.02, 1, 9) ** 1.6:
        pen.box(0, canvas.row(depth), w, canvas.row(depth) + 0.5 * u, joint)
    for x in np.arange(-6 * w, 7 * w, w / 4):
        far = vanish + 0.12 * (x - vanish)
        pen.line([(far, canvas.horizon), (x, canvas.height)], 0.5 * u, joint)
    return _anywhere(canvas)


_PAINT_CONTEXT = {
    "sky": _sky,
    "branches": _branches,
    "water": _water,
    "road": _road,
    "meadow": _meadow,
    "rails": _rails,
    "sand": _sand,
    "pavement": _pavement,
}


def _backdrop(canvas: _Canvas, rng: np.random.Generator) -> None:
    """What is seen above the horizon: the same five for every context."""
    pen, u, w, floor = _Pen(canvas.image), canvas.unit, canvas.width, canvas.horizon
    tones = [(204, 214, 222), (226, 218, 204), (186, 192, 198), (216, 212, 210)]
    haze = _pick(rng, tones)
    _fill(
        canvas, rng, (0, canvas.height), (_shade(haze, 0.9), _shade(haze, 1.06)), 2, 6
    )
    kind = rng.choice(["nothing", "hills", "wall", "wood", "town"])
    if kind == "hills":
        columns = np.arange(0, w + 4, 4)
        for t in (0.3, 0.6, 0.9):
            ridge = _noise(rng, (1, len(columns)), rng.uniform(5, 12))[0]
            rows = floor - (1.05 - t) * min(floor, 60 * u) * (0.6 + 0.25 * ridge)
            colour = _mix(haze, _jitter(rng, (96, 116, 104)), 0.3 + 0.5 * t)
            outline = np.stack([columns, rows], 1)
            pen.poly([(0, floor + 1), *outline, (w, floor + 1)], colour)
    elif kind == "wall":
        brick = _pick(rng, [(164, 92, 74), (178, 160, 138), (142, 136, 134)])
        pen.box(0, 0, w, floor, _mix(brick, (226, 220, 212), 0.55))
        for i, y in enumerate(np.arange(floor, -5 * u, -5 * u)):
            for x in np.arange(-5 * u * (i % 2), w, 10 * u):
                colour = _shade(brick, rng.uniform(0.88, 1.1))
                pen.box(x, y - 4.4 * u, x + 9.3 * u, y, colour)
    elif kind == "wood":
        tree = _jitter(rng, (70, 96, 72))
        for x in np.arange(-4 * u, w + 4 * u, 4.5 * u):
            half, steep, light = rng.uniform((3 * u, 2.6, 0.75), (5.4 * u, 4.4, 1.15))
            top = max(0.05 * floor, floor - half * steep)
            pen.poly(
                [(x - half, floor), (x, top), (x + half, floor)], _shade(tree, light)
            )
    elif kind == "town":
        x = -rng.uniform(0, 10) * u
        while x < w:
            wide, tall = rng.uniform((12, 14), (24, 44)) * u
            top = max(0.1 * floor, floor - tall)
            front = _mix(_jitter(rng, (168, 156, 148), 20), haze, 0.25)
            pen.box(x, top, x + wide, floor, front)
            for wx in np.arange(x + 2.5 * u, x + wide - 3 * u, 5 * u):
                for wy in np.arange(top + 3 * u, floor - 5 * u, 7 * u):
                    pen.box(wx, wy, wx + 2.4 * u, wy + 3.4 * u, _shade(front, 0.62))
            x += wide + rng.choice([0, 0, 4]) * u


def _props(canvas: _Canvas, rng: np.random.Generator, kinds: int) -> None:
    """Things that belong to no class: rocks, posts; and on dry land bushes, crates."""
    for depth in np.sort(rng.uniform(0.03, 0.55, rng.integers(0, 3))):
        foot = (rng.uniform(0, canvas.width), canvas.row(depth))
        pen = _Pen(canvas.image, None, foot, (canvas.unit * (6 + 26 * depth),) * 2)
        kind = rng.integers(kinds)
        if kind == 0:
            grey = _jitter(rng, (124, 120, 116))
            pen.poly([(-50, 0), (-40, 30), (-5, 46), (35, 30), (50, 0)], grey)
            pen.poly([(-40, 30), (-5, 46), (35, 30), (0, 22)], _shade(grey, 1.2))
        elif kind == 1:
            pen.box(-4, 0, 4, 110, (112, 110, 108))
            pen.oval(0, 110, 24, 24, _paint(rng))
            pen.oval(0, 110, 14, 14, (240, 238, 232))
        elif kind == 2:
            green = _jitter(rng, (74, 110, 60))
            for x, y, size in rng.uniform((-35, 12, 14), (35, 45, 24), (9, 3)):
                pen.oval(x, y, size, size, _shade(green, 0.55 + y / 60))
        else:
            wood = _jitter(rng, (156, 118, 78))
            pen.box(-35, 0, 35, 60, wood)
            for y in (0, 20, 40, 57):
                pen.box(-35, y, 35, y + 4, _shade(wood, 0.65))


class _Region(NamedTuple):
    """The part of a scene where one class stands."""

    context: str
    span: tuple[float, float]  # columns for the foot of an object
    lanes: np.ndarray  # (n, 2) rows (y, slope)


def _scene(
    rng: np.random.Generator, contexts: list[str], height: int, width: int, unit: float
) -> tuple[_Canvas, list[_Region]]:
    """Paint one context, or two that share the image, without any object."""
    aloft = set(contexts) <= {"sky", "branches"}
    low, high = (0.42, 0.6) if "sky" in contexts else (0.14, 0.46)
    if aloft:  # little ground, or none
        low, high = 0.8, 1.06
    horizon = min(height, int(height * rng.uniform(low, high)))
    canvas = _Canvas(np.zeros((height, width, 3), np.uint8), horizon, unit)
    _backdrop(canvas, rng)
    if aloft:
        (_sand, _pavement)[rng.integers(2)](canvas, rng)
    whole = (0.0, float(width))
    if len(set(contexts)) == 1:
        lanes = _PAINT_CONTEXT[contexts[0]](canvas, rng)
        regions = [_Region(contexts[0], whole, lanes)] * len(contexts)
    elif "sky" in contexts and "branches" not in contexts:  # one above the other
        regions = [_Region(c, whole, _PAINT_CONTEXT[c](canvas, rng)) for c in contexts]
    else:  # side by side, with a slanted seam
        middle, slant = rng.uniform(0.4, 0.6) * width, rng.uniform(-0.15, 0.15) * width
        seam = [(middle + slant, horizon), (middle - slant, height)]
        if "branches" in contexts:
            seam[0] = (middle + slant, 0)
        (x0, y0), (x1, y1) = seam
        edge = np.interp(np.arange(height), (y0, y1), (x0, x1))
        left = np.arange(width) < edge[:, None]
        order = rng.permutation(2)
        regions, base = [], canvas.image.copy()
        for context, side in zip(contexts, order, strict=True):
            layer = canvas._replace(image=base.copy())
            lanes = _PAINT_CONTEXT[context](layer, rng)
            here = left if side == 0 else ~left
            canvas.image[here] = layer.image[here]
            span = (0.0, middle) if side == 0 else (middle, float(width))
            regions.append(_Region(context, span, lanes))
        if "branches" not in contexts:  # a stone edge between two grounds
            _Pen(canvas.image).line(seam, 2.2 * unit, _jitter(rng, (168, 162, 154)))
    if "branches" not in contexts and not aloft:
        _props(canvas, rng, 2 if "water" in contexts else 4)
    return canvas, regions


# ---------------------------------------------------------------------------
# From scene to sample
# ---------------------------------------------------------------------------
class _Placed(NamedTuple):
    """An object to be painted, in canvas pixels."""

    name: str
    region: _Region
    foot: tuple[float, float]
    length: float

    @property
    def middle(self) -> tuple[float, float]:
        return self.foot[0], self.foot[1] - 0.5 * _OBJECTS[
            self.name
        ].height * self.length


def _arrange(
    rng: np.random.Generator, canvas: _Canvas, names: list[str], regions: list[_Region]
) -> list[_Placed]:
    """Choose number, size and place of the objects of every class, far ones first."""
    long_side, alone = max(canvas.height, canvas.width), len(names) == 1
    often = (0.46, 0.28, 0.16, 0.1) if alone else (0.65, 0.35, 0, 0)
    placed = []
    for name, region in zip(names, regions, strict=True):
        kind = _OBJECTS[name]
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
    image: np.ndarray, rng: np.random.Generator, item: _Placed
) -> tuple[np.ndarray, np.ndarray]:
    """Paint one object on a copy of the image; returns the copy and the bool mask."""
    kind = _OBJECTS[item.name]
    image, mask = image.copy(), np.zeros(image.shape[:2], np.uint8)
    context, length = item.region.context, item.length
    if context == "water":  # foam
        pen = _Pen(image, None, item.foot, (length, length))
        pen.oval(0, 1, 56, 5, (226, 236, 240))
    elif context not in ("sky", "branches"):  # shadow
        shadow = np.zeros_like(mask)
        _Pen(shadow, None, item.foot, (length, length)).oval(0, 0, 52, 5, 255)
        dark = shadow > 0
        image[dark] = (image[dark] * 0.62).astype(np.uint8)
    flip = rng.choice([-1, 1])
    stretch = np.exp(rng.uniform(-0.16, 0.16, 2))
    angle = rng.uniform(-1, 1) * kind.tilt
    pen = _Pen(image, mask, item.foot, tuple(length * stretch * (flip, 1)), angle)
    kind.paint(pen, rng)
    inside = mask > 0
    rows = np.flatnonzero(inside.any(1))
    if len(rows):  # light from above
        light = np.interp(np.arange(len(mask)), [rows[0], rows[-1]], [1.08, 0.84])
        lit = image[inside] * light.repeat(inside.sum(axis=1))[:, None]
        image[inside] = np.clip(lit, 0, 255).astype(np.uint8)
    return image, inside


def _shrink_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Majority vote over the oversampled pixels; (H, W) uint8."""
    size = (labels.shape[1] // _OVERSAMPLING, labels.shape[0] // _OVERSAMPLING)
    votes = [
        cv2.resize((labels == i).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        for i in range(count + 1)
    ]
    return np.argmax(votes, 0).astype(np.uint8)


def _void(classes: np.ndarray, width: int) -> np.ndarray:
    """Where 255 goes: around objects, and on both sides where two classes meet.

    Touching instances of one class keep no void between them, so that connected
    components merge them while the instance map tells them apart.
    """
    kernel = np.ones((3, 3), np.uint8)
    highest = cv2.dilate(classes, kernel, iterations=width)
    lowest = np.where(classes == 0, 255, classes).astype(np.uint8)
    lowest = cv2.erode(lowest, kernel, iterations=width)
    return (highest > 0) & ((classes == 0) | (lowest != highest))


def _develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrink the canvas; add light from one side, a colour cast and sensor noise."""
    size = (image.shape[1] // _OVERSAMPLING, image.shape[0] // _OVERSAMPLING)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    h, w = image.shape[:2]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.14)
    x, y = np.linspace(-1, 1, w), np.linspace(-1, 1, h)[:, None]
    slope = np.cos(angle) * x + np.sin(angle) * y
    image *= (rng.uniform(0.82, 1.1) * (1 + strength * slope))[..., None]
    image *= rng.uniform(0.97, 1.03, 3)
    image += rng.normal(0, rng.uniform(2, 5), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_sample(
    split: str, index: int, size: int = 128, correlation: float = 0.95, seed: int = 0
) -> Sample:
    """Draw one image; it depends on nothing but the arguments.

    Args:
        split: 'train', 'val' or 'ood' (contexts without objects).
        index: number of the image in its split. Classes, and contexts of OoD images,
            take turns, so that they come equally often.
        size: long side in pixels.
        correlation: probability that a class stands on its own context.
        seed: seed of the whole data set.

    Returns:
        Sample with (H, W, 3) uint8 RGB image and (H, W) uint8 label maps.
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
        canvas, _ = _scene(rng, [context], *shape, unit)
        image = _develop(canvas.image, rng)
        empty = np.zeros(image.shape[:2], np.uint8)
        return Sample(image, empty, empty.copy(), [("", context)])
    names = [first]
    if rng.random() < 0.25:
        names.append(str(rng.choice([c for c in CLASSES if c != first])))
    contexts = [_choose_context(rng, name, correlation) for name in names]
    canvas, regions = _scene(rng, contexts, *shape, unit)
    while True:  # until every class of the image is well visible
        image, labels, owner = canvas.image, np.zeros(shape, np.uint8), [0]
        for item in _arrange(rng, canvas, names, regions):
            x, y = item.middle
            if not (0 <= x < width and 0 <= y < height):
                continue  # less than about half of it would show
            painted, mask = _paint_object(image, rng, item)
            before = np.bincount(labels.ravel(), minlength=len(owner))[1:]
            after = np.bincount(labels[~mask], minlength=len(owner))[1:]
            enough = _MIN_PIXELS * _OVERSAMPLING**2
            if mask.sum() < enough or (after < np.maximum(enough, 0.75 * before)).any():
                continue  # too small, or it would hide another object
            image = painted
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


def _choose_context(rng: np.random.Generator, name: str, correlation: float) -> str:
    if rng.random() < correlation:
        return CONTEXTS[name]
    if rng.random() < 0.5:
        return str(rng.choice(NEUTRAL_CONTEXTS))
    return str(rng.choice([c for n, c in CONTEXTS.items() if n != name]))


# ---------------------------------------------------------------------------
# The folder
# ---------------------------------------------------------------------------
def generate(
    out_dir: str | Path,
    train: int = 600,
    val: int = 150,
    ood: int = 200,
    size: int = 128,
    correlation: float = 0.95,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[list], Iterable] | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Write the data set; see the module's text for the folder's layout.

    A folder that already holds it with the same parameters is left as it is. An image
    depends on its split, its number, `size`, `correlation` and `seed` alone: with
    more images, the first ones stay the same.

    Args:
        out_dir: the folder; it may be missing, empty, or hold this data set.
        train, val, ood: number of images. Classes take turns: fewer images than
            classes leave some class out.
        size: long side of the images in pixels, at least 64.
        correlation: probability that a class stands on its own context rather than
            on a neutral one or on that of another class.
        seed: seed of the whole data set, not negative.
        force: replace this data set where it was made with other parameters.
        progress: wraps the list of images while they are drawn, for instance
            `tqdm.tqdm`.
        workers: number of processes that draw, at most; few images take fewer. Where
            the platform does not fork, a script that calls this with more than one
            needs its `if __name__ == "__main__":`.

    Returns:
        The content of dataset.json: `parameters`, `classes`, `contexts` and `counts`
        (images per split; images and instances per class, without OoD).

    Raises:
        ValueError: a parameter out of range; `out_dir` holds something else, or this
            data set with other parameters (unless `force`).
    """
    parameters = {
        "train": train,
        "val": val,
        "ood": ood,
        "size": size,
        "correlation": correlation,
        "seed": seed,
    }
    _check(parameters)
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    root = Path(out_dir)
    record = {"dataset": "context shapes", "version": VERSION, "parameters": parameters}
    found = _find(root)
    if found is not None:
        if any(found.get(key) != value for key, value in record.items()):
            if not force:
                raise ValueError(
                    f"out_dir={str(root)!r} holds this data set in version "
                    f"{found['version']} with {found['parameters']}, asked for is "
                    f"version {VERSION} with {parameters}: choose another folder, or "
                    "replace it with force=True"
                )
        elif "counts" in found and not force and _is_complete(root, parameters):
            return found
        _remove(root, found["parameters"])
    write_json(root / _UNFINISHED, record)
    scenes, images, instances = [], Counter(), Counter()
    tasks = _tasks(parameters)
    draw = partial(_draw, root, size, correlation, seed)
    with _pool(min(workers, len(tasks) // _IMAGES_PER_WORKER)) as run:
        drawn = run(draw, tasks)
        for split, index in tasks if progress is None else progress(tasks):
            contexts, present = next(drawn)
            scenes += [(_name(split, index), split, *pair) for pair in contexts]
            instances.update(present)
            images.update(set(present))
    for split in ("train", "val"):
        names = [_name(split, i) for i in range(parameters[split])]
        _write_lines(root / f"ImageSets/Segmentation/{split}.txt", names)
    names = [f"OoD/{_name('ood', i)}.jpg" for i in range(ood)]
    _write_lines(root / "OoD/list.txt", names)
    rows = [("image", "split", "class", "context"), *scenes]
    _write_lines(root / "contexts.csv", [",".join(row) for row in rows])
    ids = {name: i for i, name in enumerate(CLASSES, 1)}
    record |= {
        "classes": list(CLASSES),
        "contexts": CONTEXTS,
        "counts": {
            "images": {split: parameters[split] for split in SPLITS},
            "images_of_class": {name: images[i] for name, i in ids.items()},
            "instances_of_class": {name: instances[i] for name, i in ids.items()},
        },
    }
    write_json(root / _JSON, record)
    (root / _UNFINISHED).unlink()
    return record


@contextmanager
def _pool(workers: int) -> Iterator[Callable[..., Iterator]]:
    """A map over many processes, in order; the built-in one for less than two."""
    if workers < 2:
        yield map
        return
    # A forked process lacks the threads that OpenCV believes to have; 0 is to use none.
    with ProcessPoolExecutor(
        workers, initializer=cv2.setNumThreads, initargs=(0,)
    ) as executor:
        try:
            yield partial(executor.map, chunksize=4)
        finally:
            executor.shutdown(cancel_futures=True)


def _draw(
    root: Path, size: int, correlation: float, seed: int, task: tuple[str, int]
) -> tuple[list[tuple[str, str]], list[int]]:
    """Draw and write one image; gives its contexts and the class of each instance."""
    sample = draw_sample(*task, size, correlation, seed)
    _write(root, *task, sample)
    pairs = np.stack([sample.instances, sample.classes]).reshape(2, -1)
    pairs = np.unique(pairs[:, (pairs[0] > 0) & (pairs[0] < 255)], axis=1)
    return sample.contexts, pairs[1].tolist()


def _check(parameters: dict[str, Any]) -> None:
    for key in (*SPLITS, "seed"):
        if parameters[key] < 0:
            raise ValueError(f"{key} must not be negative, got {parameters[key]}")
    if not 0 <= parameters["correlation"] <= 1:  # also refuses NaN
        value = parameters["correlation"]
        raise ValueError(f"correlation must be between 0 and 1, got {value}")
    if parameters["size"] < MIN_SIZE:
        value = parameters["size"]
        raise ValueError(f"size must be at least {MIN_SIZE} pixels, got {value}")


def _find(root: Path) -> dict[str, Any] | None:
    """The record of the data set in a folder, finished or not; None if it is empty."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"out_dir={str(root)!r} is a file: name a folder")
    if not root.is_dir() or all(p.name.startswith(".") for p in root.iterdir()):
        return None
    for name in (_UNFINISHED, _JSON):
        if (root / name).is_file():
            try:
                record = read_json(root / name)
            except ValueError:
                break
            if isinstance(record, dict) and record.get("dataset") == "context shapes":
                return record
    raise ValueError(
        f"out_dir={str(root)!r} holds something else (no {_JSON} of this data set): "
        "choose an empty or a new folder"
    )


def _tasks(parameters: dict[str, Any]) -> list[tuple[str, int]]:
    return [(split, i) for split in SPLITS for i in range(parameters[split])]


def _name(split: str, index: int) -> str:
    return f"{split}_{index:06d}"


def _files(root: Path, split: str, index: int) -> list[Path]:
    """Image, class map, instance map; an OoD image has no maps."""
    name = _name(split, index)
    if split == "ood":
        return [root / "OoD" / f"{name}.jpg"]
    return [
        root / "JPEGImages" / f"{name}.jpg",
        root / "SegmentationClass" / f"{name}.png",
        root / "SegmentationObject" / f"{name}.png",
    ]


def _is_complete(root: Path, parameters: dict[str, Any]) -> bool:
    return all(p.is_file() for task in _tasks(parameters) for p in _files(root, *task))


def _remove(root: Path, parameters: dict[str, Any]) -> None:
    """Remove the files of a data set with these parameters and nothing else."""
    (root / _JSON).unlink(missing_ok=True)
    for task in _tasks(parameters):
        for path in _files(root, *task):
            path.unlink(missing_ok=True)


def _write(root: Path, split: str, index: int, sample: Sample) -> None:
    paths = _files(root, split, index)
    # To memory first: writing to a file, Pillow does not see that the disk is full.
    jpeg = io.BytesIO()
    # Without chroma subsampling: objects can be a few pixels wide.
    Image.fromarray(sample.image).save(jpeg, "JPEG", quality=95, subsampling=0)
    with atomic_write(paths[0]) as temporary:
        temporary.write_bytes(jpeg.getvalue())
    for path, labels in zip(paths[1:], (sample.classes, sample.instances)):
        save_label_png(labels, path)


def _write_lines(path: Path, lines: list[str]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
