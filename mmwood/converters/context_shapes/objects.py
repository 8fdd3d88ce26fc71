"""The objects: one function per class, in per cent of the object's length.

They fill x from -50 to 50 and y from 0 (the foot) upwards, and look to the right.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mmwood.converters.context_shapes.pen import (
    DARK,
    GLASS,
    PAINTS,
    Colour,
    Pen,
    Rng,
    jitter,
    mix,
    paint,
    shade,
)


def _aeroplane(pen: Pen, rng: Rng) -> None:
    body, trim = paint(rng), paint(rng)
    wing, far = shade(body, 0.72), shade(body, 0.58)
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
        pen.oval(42, 40, 3, thick * 0.5, GLASS)
        pen.line([(-48, 40), (-36, 40)], 2, trim)
        return
    pen.poly([(10, 20), (-2, 20), (-14, 37), (-8, 37)], far)
    pen.poly([(-32, 20), (-44, 22), (-52, 43), (-43, 43)], trim)
    pen.oval(2, 20, 48, thick * 1.15, body)
    pen.poly([(-47, 22), (-10, 27), (-10, 15), (-25, 15)], body)
    pen.line([(-38, 19.5), (44, 19.5)], 1.4, trim)
    pen.poly([(42, 24), (47, 22), (38, 22), (37, 25)], GLASS)
    for x in np.arange(-26, 33, 5.5):
        pen.box(x, 21, x + 2.4, 23.4, GLASS)
    pen.poly([(-36, 21), (-45, 21), (-54, 15), (-47, 15)], wing)
    pen.poly([(12, 18), (-6, 18), (-25, 0), (-15, 0)], wing)
    pen.oval(3, 11, 6, 3, shade(body, 0.5))


def _bird(pen: Pen, rng: Rng) -> None:
    body = paint(rng)
    wing, belly = shade(body, 0.68), mix(body, (240, 226, 200), 0.55)
    beak = (230, 160, 40) if rng.random() < 0.6 else (70, 62, 58)
    if rng.random() < 0.25:  # in flight
        tip = 30 + rng.uniform(22, 36)
        pen.poly([(5, 26), (-12, 26), (-28, tip), (-2, tip - 6)], shade(body, 0.55))
        pen.poly([(-20, 25), (-50, 32), (-48, 20), (-16, 17)], wing)
        pen.oval(0, 22, 24, 8.5, body)
        pen.oval(2, 19, 17, 5, belly)
        pen.poly([(10, 25), (-10, 25), (-2, tip), (16, tip - 3)], wing)
        pen.oval(27, 27, 9, 8, body)
        pen.poly([(34, 30), (34, 24), (47, 26)], beak)
        pen.oval(30, 29, 1.6, 1.6, DARK)
        return
    upright = rng.uniform(0.25, 0.75)
    for leg in (-3, 6):
        pen.line([(leg, 22), (leg + 2, 0)], 2.2, (150, 100, 50))
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
    pen.oval(x + 5, y + 3, 1.7, 1.7, DARK)
    pen.oval(-7, 28, 21, 9, wing, upright * 0.9)


def _boat(pen: Pen, rng: Rng) -> None:
    hull, trim = paint(rng), paint(rng)
    kind, deck = rng.integers(3), rng.uniform(12, 17)
    if kind == 0:  # sailing boat
        mast = rng.uniform(75, 100)
        sail = mix(trim, (248, 246, 238), 0.6)
        pen.line([(2, deck), (2, mast)], 2.2, (96, 66, 44))
        pen.poly([(0, deck + 6), (0, mast - 2), (-38, deck + 6)], sail)
        pen.poly([(5, deck + 6), (5, mast - 12), (40, deck + 5)], shade(sail, 0.85))
    elif kind == 1:  # motor boat with a flag
        top = deck + 20
        pen.poly([(-30, deck), (-28, top), (6, top), (20, deck)], (240, 238, 230))
        for x in (-24, -12, 0):
            pen.box(x, deck + 8, x + 9, deck + 16, GLASS)
        pen.line([(-10, top), (-10, top + 16)], 1.8, DARK)
        pen.poly([(-10, top + 16), (-10, top + 7), (-24, top + 11)], trim)
    else:  # ship with a bridge, a funnel and cargo
        pen.box(-42, deck, -18, deck + 22, (238, 236, 228))
        for x in (-39, -32, -25):
            pen.box(x, deck + 6, x + 4, deck + 9.5, GLASS)
            pen.box(x, deck + 15, x + 4, deck + 18.5, GLASS)
        pen.box(-36, deck + 22, -25, deck + 31, trim)
        pen.box(-36, deck + 31, -25, deck + 36, DARK)
        for crate in np.arange(-14, 26, 10.5):
            pen.box(crate, deck, crate + 9.5, deck + rng.choice([7, 13]), paint(rng))
        pen.line([(34, deck), (34, deck + 20)], 1.6, DARK)
    rail = mix(trim, (250, 250, 250), 0.4)
    pen.poly([(-47, deck + 1), (50, deck + 4), (36, 0), (-38, 0)], hull)
    pen.poly([(-47, deck + 1), (50, deck + 4), (48, deck), (-46, deck - 2.5)], rail)
    pen.poly([(-40.5, 4), (40, 4), (36, 0), (-38, 0)], shade(hull, 0.55))


def _car(pen: Pen, rng: Rng) -> None:
    body = paint(rng)
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
    pen.poly([(a + 5, waist), (b + 3, eaves), (c - 1, eaves), (d - 4, waist)], GLASS)
    for x in pillars:
        pen.box(x - 1.2, waist, x + 1.2, top - 2, body)
    pen.box(-50, 7, 50, 10.5, shade(body, 0.6))
    pen.line([(-2, 11), (-2, waist)], 0.8, shade(body, 0.7))
    pen.box(44, 15, 50, 18.5, (252, 236, 170))
    pen.box(-50, 15, -46, 19, (214, 40, 36))
    for x in (-29, 29):
        pen.oval(x, 9, 10.5, 10.5, shade(body, 0.45))
        pen.oval(x, 8.5, 8.5, 8.5, (30, 30, 33))
        pen.oval(x, 8.5, 4.2, 4.2, (178, 180, 184))


def _sheep(pen: Pen, rng: Rng) -> None:
    wool = jitter(rng, PAINTS[rng.choice([2, 2, 9, 9, 5, 7, 8])])
    face = jitter(rng, ((52, 46, 44), (226, 210, 190))[rng.integers(2)])
    for x, light in ((-20, 0.65), (18, 0.65), (-27, 0.9), (11, 0.9)):
        pen.box(x, 0, x + 6.5, 30, shade(face, light))
    pen.oval(-4, 40, 33, 20, shade(wool, 0.86))
    for a in np.arange(0, 2 * np.pi, np.pi / 7):  # curls around the body
        x, y = -4 + 32 * np.cos(a), 41 + 17 * np.sin(a)
        pen.oval(x, y, 9, 8.5, shade(wool, 0.88 + 0.14 * np.sin(a)))
    pen.oval(-5, 44, 27, 14, wool)
    for x, y in rng.uniform((-28, 32), (18, 52), (7, 2)):
        pen.oval(x, y, 4.5, 3, shade(wool, 0.92))
    pen.oval(-42, 46, 7, 5, wool)
    x, y, nod = (38, 20, -1.1) if rng.random() < 0.4 else (37, 57, -0.45)
    pen.line([(24, 44), (x - 4, y)], 14, wool)
    pen.oval(x, y, 13, 8.8, face, nod)
    pen.oval(x - 10, y + 6, 6.5, 3, shade(face, 0.8), 0.5)
    pen.oval(x - 5, y + 7.5, 8.5, 5.5, wool)
    pen.oval(x + 2, y + 3, 2, 2, (235, 235, 225))
    pen.oval(x + 2.5, y + 3, 1.2, 1.2, (20, 20, 20))


def _train(pen: Pen, rng: Rng) -> None:
    body, trim = paint(rng), paint(rng)
    count = rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3])
    length = 100 / count
    height = (30, 24, 19)[count - 1] * rng.uniform(0.95, 1.1)
    kind = rng.choice(["fast", "boxy", "steam"])
    for i in range(count):
        left, right = -50 + i * length, -50 + (i + 1) * length
        if i < count - 1:
            pen.box(right - 3, height * 0.24, right + 3, height * 0.34, DARK)
            _carriage(pen, left, right - 1.4, height, 0, body, trim)
        elif kind == "steam":
            _steam_engine(pen, left, right, height, body, trim)
        else:
            slope = length * (0.3 if kind == "fast" else 0.06)
            _carriage(pen, left, right, height, slope, body, trim)
            if kind == "boxy":  # pantograph
                x, y = left + length * 0.4, height
                pen.line([(x, y), (x + 5, y * 1.16), (x, y * 1.32)], 0.8, DARK)
                pen.line([(x - 3, y * 1.32), (x + 3, y * 1.32)], 1, DARK)


def _wheel(pen: Pen, x: float, radius: float) -> None:
    pen.oval(x, radius, radius, radius, (34, 32, 34))
    pen.oval(x, radius, radius * 0.45, radius * 0.45, (150, 148, 146))


def _carriage(
    pen: Pen,
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
    pen.box(left, low, right, height * 0.34, shade(body, 0.6))
    pen.box(left, height * 0.37, right, height * 0.46, trim)
    pitch = (end - left - 2) / max(1, int((end - left - 2) / (height * 0.46)))
    for x in np.arange(left + 1, end - 1.5, pitch):
        x0, x1 = x + pitch * 0.14, x + pitch * 0.86
        pen.box(x0, height * 0.58, x1, height * 0.85, GLASS)
    if slope:
        x, y = end + slope * 0.1, height * 0.6
        pane = [(x, eaves), (end + slope * 0.7, height * 0.73), (end + slope * 0.8, y)]
        pen.poly([*pane, (x, y)], GLASS)
        pen.oval(right - 2.5, height * 0.42, 1.4, 1.4, (255, 240, 170))
    pen.line([(left + 1, height * 0.98), (end, height * 0.98)], 1.2, shade(body, 0.5))
    for t in (0.13, 0.25, 0.75, 0.87):
        _wheel(pen, left + t * (right - left), height * 0.125)


def _steam_engine(
    pen: Pen, left: float, right: float, height: float, body: Colour, trim: Colour
) -> None:
    length, low = right - left, height * 0.3
    cab, boiler = left + length * 0.34, height * 0.42
    pen.box(left, height * 0.2, right - 1, low, DARK)
    pen.box(cab, low, right - 3, low + boiler, body)
    pen.oval(right - 3, low + boiler / 2, 2, boiler / 2, DARK)
    for t in (0.3, 0.6):
        x = cab + (right - cab) * t
        pen.box(x, low, x + 1, low + boiler, trim)
    pen.oval(cab + (right - cab) * 0.42, height * 0.74, 3, height * 0.1, trim)
    x, y, top = right - length * 0.15, height * 0.65, height * 1.12
    pen.poly([(x - 1.6, y), (x - 2.6, top), (x + 2.6, top), (x + 1.6, y)], DARK)
    pen.box(left + 1, height * 0.2, cab, height * 0.95, body)
    pen.box(left, height * 0.93, cab + 1.5, height, DARK)
    pen.box(left + 4, height * 0.58, cab - 3, height * 0.84, GLASS)
    plough = [(right - 4, height * 0.22), (right, height * 0.04)]
    pen.poly([*plough, (right - 7, height * 0.04)], trim)
    for t, radius in ((0.15, 0.17), (0.4, 0.17), (0.6, 0.17), (0.82, 0.125)):
        _wheel(pen, left + t * length, height * radius)


class Kind(NamedTuple):
    """How a class is painted and placed.

    Attributes:
        paint: Its painter.
        min_length: Of the smallest object, in fractions of the long side.
        max_length: Of the largest one.
        height: The typical one, in lengths.
        tilt: The largest rotation, in radians.
    """

    paint: Callable[[Pen, Rng], None]
    min_length: float
    max_length: float
    height: float
    tilt: float = 0


OBJECTS = {
    "aeroplane": Kind(_aeroplane, 0.085, 0.95, 0.5, 0.35),
    "bird": Kind(_bird, 0.065, 0.75, 0.6, 0.12),
    "boat": Kind(_boat, 0.065, 0.85, 0.6, 0.05),
    "car": Kind(_car, 0.065, 0.95, 0.4),
    "sheep": Kind(_sheep, 0.06, 0.8, 0.65),
    "train": Kind(_train, 0.13, 1.3, 0.25),
}
