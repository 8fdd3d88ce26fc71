"""The scenery: contexts, and what is seen behind and beside them.

Contexts paint the canvas and return where an object can stand: rows (y, slope) of the
lines y + slope * x, in canvas pixels.
"""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from mmwood.converters.context_shapes.pen import (
    Colour,
    Pen,
    Rng,
    jitter,
    mix,
    paint,
    pick,
    shade,
)


class Canvas(NamedTuple):
    """What is painted on, several times as large as the image.

    Attributes:
        image: Shape (H, W, 3), uint8.
        horizon: Row where the ground begins.
        unit: Canvas pixels per 1/128 of the long side.
    """

    image: np.ndarray
    horizon: int
    unit: float

    @property
    def height(self) -> int:
        """Rows."""
        return self.image.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.image.shape[1]

    @property
    def ground(self) -> tuple[int, int]:
        """Rows from the horizon on."""
        return self.horizon, self.height

    def row(self, depth: float) -> float:
        """Row of the ground at depth 0 (the horizon) to 1 (the lower border)."""
        return self.horizon + (self.height - self.horizon) * depth


def _noise(rng: Rng, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise of about unit variance, (h, w) float32."""
    h, w = shape
    grid = rng.standard_normal((int(h / cell) + 2, int(w / cell) + 2), np.float32)
    return cv2.resize(grid, (w, h), interpolation=cv2.INTER_LINEAR)


def _fill(
    canvas: Canvas,
    rng: Rng,
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
    first, last = (np.asarray(colour, np.float32) for colour in colours)
    area = first * (1 - t) + last * t
    shape = (bottom - top, canvas.width)
    rough = _noise(rng, shape, cell * canvas.unit) + _noise(rng, shape, 9 * canvas.unit)
    rough *= grain
    area = area + rough[..., None]
    canvas.image[top:bottom] = np.clip(area, 0, 255, out=area)


def _lanes(canvas: Canvas, depths: Iterable[float]) -> np.ndarray:
    return np.array([(canvas.row(d), 0.0) for d in depths])


def _anywhere(canvas: Canvas) -> np.ndarray:
    return _lanes(canvas, np.linspace(0.05, 0.97, 24))


def _rails(canvas: Canvas, rng: Rng) -> np.ndarray:
    pen, u, w = Pen(canvas.image), canvas.unit, canvas.width
    stone = jitter(rng, (132, 122, 112), 8)
    _fill(canvas, rng, canvas.ground, (shade(stone, 1.1), shade(stone, 0.85)), 13)
    wood, steel = jitter(rng, (86, 62, 46), 8), jitter(rng, (74, 66, 66), 5)
    depths = np.cumsum(rng.uniform((0.1, 0.24, 0.36), (0.22, 0.34, 0.44)))
    lean = rng.uniform(-0.9, 0.9)
    for depth in depths:
        y, gauge = canvas.row(depth), u * (2.2 + 8 * depth)
        pen.box(0, y - 1.6 * gauge, w, y + 0.9 * gauge, shade(stone, 0.84))
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


def _water(canvas: Canvas, rng: Rng) -> np.ndarray:
    pen, u = Pen(canvas.image), canvas.unit
    deep = pick(rng, [(34, 92, 134), (40, 112, 122), (58, 96, 112)])
    _fill(canvas, rng, canvas.ground, (mix(deep, (214, 226, 232), 0.4), deep), 5, 2)
    crest, trough = mix(deep, (240, 248, 250), 0.62), shade(deep, 0.7)
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


def _road(canvas: Canvas, rng: Rng) -> np.ndarray:
    pen, u, w = Pen(canvas.image), canvas.unit, canvas.width
    tar, verge = jitter(rng, (92, 92, 98), 7), jitter(rng, (150, 146, 140), 9)
    white = jitter(rng, (236, 232, 220), 5)
    start = rng.uniform(0.08, 0.2)
    kerb = canvas.row(start)
    _fill(canvas, rng, canvas.ground, (shade(verge, 1.1), verge), 6)
    _fill(canvas, rng, (kerb, canvas.height), (shade(tar, 1.12), shade(tar, 0.85)), 7)
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


def _meadow(canvas: Canvas, rng: Rng) -> np.ndarray:
    pen, u, w = Pen(canvas.image), canvas.unit, canvas.width
    green = pick(rng, [(92, 146, 58), (112, 150, 66), (78, 130, 60)])
    _fill(canvas, rng, canvas.ground, (mix(green, (220, 226, 180), 0.3), green), 9)
    if rng.random() < 0.5:  # wooden fence along the horizon
        y = canvas.row(0.06)
        for x in np.arange(rng.uniform(0, 12) * u, w, 12 * u):
            pen.box(x, y - 9 * u, x + 1.5 * u, y, (120, 92, 66))
        for rail in (8, 4.5):
            pen.box(0, y - rail * u, w, y - (rail - 1) * u, (138, 106, 76))
    for depth in np.sort(rng.uniform(0.02, 1, 320)):  # tufts of grass
        x, y, size = rng.uniform(0, w), canvas.row(depth), u * (0.8 + 4 * depth)
        blade = shade(green, rng.uniform(0.6, 1.28))
        for lean in (-0.5, 0, 0.5):
            pen.line([(x, y), (x + lean * size, y - size)], 0.14 * size, blade)
    petals = [(248, 246, 238), (246, 210, 56), (214, 66, 62), (186, 120, 206)]
    petals = [petals[i] for i in rng.permutation(4)[: rng.integers(1, 4)]]
    for depth in np.sort(rng.uniform(0.08, 1, 60)):
        x, y, size = rng.uniform(0, w), canvas.row(depth), u * (0.35 + 1.3 * depth)
        pen.oval(x, y, size, size * 0.8, petals[rng.integers(len(petals))])
        pen.oval(x, y, size * 0.35, size * 0.3, (226, 160, 40))
    return _anywhere(canvas)


def _sky(canvas: Canvas, rng: Rng) -> np.ndarray:
    pen, u, w, floor = Pen(canvas.image), canvas.unit, canvas.width, canvas.horizon
    blue = pick(rng, [(62, 122, 200), (84, 146, 214), (48, 98, 172)])
    _fill(canvas, rng, (0, floor), (blue, mix(blue, (226, 236, 244), 0.55)), 2, 6)
    if rng.random() < 0.4:  # vapour trail
        end, y, drop = rng.uniform((0.2, 0, -0.3), (0.9, 0.5, 0.3)) * (w, floor, floor)
        trail = mix(blue, (250, 250, 252), 0.6)
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


def _branches(canvas: Canvas, rng: Rng) -> np.ndarray:
    pen, u, w, h = Pen(canvas.image), canvas.unit, canvas.width, canvas.height
    leaf = pick(rng, [(84, 138, 58), (126, 146, 54), (176, 120, 50), (62, 118, 70)])
    bark, light = jitter(rng, (98, 72, 52), 8), mix(leaf, (232, 238, 226), 0.68)
    _fill(canvas, rng, (0, h), (light, mix(leaf, light, 0.6)), 7, 8)
    for _ in range(26):  # foliage out of focus
        x, y, r, t = rng.uniform((0, 0, 4 * u, 0.05), (w, h, 11 * u, 0.5))
        pen.oval(x, y, r, r, mix(light, leaf, t))
    canvas.image[:] = cv2.blur(canvas.image, (int(5 * u), int(5 * u)))
    lines = []
    for t in (np.arange(3) + rng.uniform(0.25, 0.6)) / 3:
        slope, thick = rng.uniform((-0.22, 1.2 * u), (0.22, 2.6 * u))
        y0, y1 = t * h - slope * w / 2, t * h + slope * w / 2
        top = [(0, y0 - thick), (w, y1 - 0.5 * thick)]
        pen.poly([*top, (w, y1 + 0.5 * thick), (0, y0 + thick)], bark)
        lit = [(w, y1 - 0.1 * thick), (0, y0 - 0.3 * thick)]
        pen.poly([*top, *lit], shade(bark, 1.3))
        for x in np.arange(rng.uniform(0, 12) * u, w, rng.uniform(9, 14) * u):
            foot = np.array((x, y0 + slope * x))
            twig = rng.uniform(8, 17) * u * np.array((0.7, rng.choice([-0.8, 0.8])))
            pen.line([foot, foot + twig], 0.7 * u, bark)
            for s in (0.3, 0.5, 0.7, 0.9, 1.05):
                angle, size = rng.uniform((0, 1.8 * u), (np.pi, 3.2 * u))
                x, y = foot + s * twig + (size * np.cos(angle), size * np.sin(angle))
                colour = shade(leaf, rng.uniform(0.6, 1.2))
                pen.oval(x, y, size, 0.45 * size, colour, angle)
        lines.append((y0 - 0.5 * thick, slope))
    return np.array(lines)


def _sand(canvas: Canvas, rng: Rng) -> np.ndarray:
    pen, u = Pen(canvas.image), canvas.unit
    sand = pick(rng, [(206, 186, 142), (170, 140, 108), (190, 182, 168)])
    _fill(canvas, rng, canvas.ground, (shade(sand, 1.12), shade(sand, 0.92)), 8)
    for depth in np.sort(rng.uniform(0.03, 1, 40)):
        size = u * (0.3 + 1.6 * depth) * rng.uniform(0.5, 1.2)
        x, y = rng.uniform(0, canvas.width), canvas.row(depth)
        pen.oval(x, y, size, 0.6 * size, shade(sand, rng.uniform(0.6, 0.85)))
    return _anywhere(canvas)


def _pavement(canvas: Canvas, rng: Rng) -> np.ndarray:
    pen, u, w = Pen(canvas.image), canvas.unit, canvas.width
    slab = pick(rng, [(176, 170, 164), (186, 150, 124), (150, 152, 160)])
    _fill(canvas, rng, canvas.ground, (shade(slab, 1.08), shade(slab, 0.92)), 5)
    joint, vanish = shade(slab, 0.72), rng.uniform(0.2, 0.8) * w
    for depth in np.linspace(0.02, 1, 9) ** 1.6:
        pen.box(0, canvas.row(depth), w, canvas.row(depth) + 0.5 * u, joint)
    for x in np.arange(-6 * w, 7 * w, w / 4):
        far = vanish + 0.12 * (x - vanish)
        pen.line([(far, canvas.horizon), (x, canvas.height)], 0.5 * u, joint)
    return _anywhere(canvas)


PAINT_CONTEXT = {
    "sky": _sky,
    "branches": _branches,
    "water": _water,
    "road": _road,
    "meadow": _meadow,
    "rails": _rails,
    "sand": _sand,
    "pavement": _pavement,
}


def _backdrop(canvas: Canvas, rng: Rng) -> None:
    """What is seen above the horizon: the same five for every context."""
    pen, u, w, floor = Pen(canvas.image), canvas.unit, canvas.width, canvas.horizon
    tones = [(204, 214, 222), (226, 218, 204), (186, 192, 198), (216, 212, 210)]
    haze = pick(rng, tones)
    _fill(canvas, rng, (0, canvas.height), (shade(haze, 0.9), shade(haze, 1.06)), 2, 6)
    kind = rng.choice(["nothing", "hills", "wall", "wood", "town"])
    if kind == "hills":
        columns = np.arange(0, w + 4, 4)
        for t in (0.3, 0.6, 0.9):
            ridge = _noise(rng, (1, len(columns)), rng.uniform(5, 12))[0]
            rows = floor - (1.05 - t) * min(floor, 60 * u) * (0.6 + 0.25 * ridge)
            colour = mix(haze, jitter(rng, (96, 116, 104)), 0.3 + 0.5 * t)
            outline = np.stack([columns, rows], 1)
            pen.poly([(0, floor + 1), *outline, (w, floor + 1)], colour)
    elif kind == "wall":
        brick = pick(rng, [(164, 92, 74), (178, 160, 138), (142, 136, 134)])
        pen.box(0, 0, w, floor, mix(brick, (226, 220, 212), 0.55))
        for i, y in enumerate(np.arange(floor, -5 * u, -5 * u)):
            for x in np.arange(-5 * u * (i % 2), w, 10 * u):
                colour = shade(brick, rng.uniform(0.88, 1.1))
                pen.box(x, y - 4.4 * u, x + 9.3 * u, y, colour)
    elif kind == "wood":
        tree = jitter(rng, (70, 96, 72))
        for x in np.arange(-4 * u, w + 4 * u, 4.5 * u):
            half, steep, light = rng.uniform((3 * u, 2.6, 0.75), (5.4 * u, 4.4, 1.15))
            top = max(0.05 * floor, floor - half * steep)
            pen.poly(
                [(x - half, floor), (x, top), (x + half, floor)], shade(tree, light)
            )
    elif kind == "town":
        x = -rng.uniform(0, 10) * u
        while x < w:
            wide, tall = rng.uniform((12, 14), (24, 44)) * u
            top = max(0.1 * floor, floor - tall)
            front = mix(jitter(rng, (168, 156, 148), 20), haze, 0.25)
            pen.box(x, top, x + wide, floor, front)
            for wx in np.arange(x + 2.5 * u, x + wide - 3 * u, 5 * u):
                for wy in np.arange(top + 3 * u, floor - 5 * u, 7 * u):
                    pen.box(wx, wy, wx + 2.4 * u, wy + 3.4 * u, shade(front, 0.62))
            x += wide + rng.choice([0, 0, 4]) * u


def _props(canvas: Canvas, rng: Rng, kinds: int) -> None:
    """Things that belong to no class: rocks, posts; and on dry land bushes, crates."""
    for depth in np.sort(rng.uniform(0.03, 0.55, rng.integers(0, 3))):
        foot = (rng.uniform(0, canvas.width), canvas.row(depth))
        pen = Pen(canvas.image, None, foot, (canvas.unit * (6 + 26 * depth),) * 2)
        kind = rng.integers(kinds)
        if kind == 0:
            grey = jitter(rng, (124, 120, 116))
            pen.poly([(-50, 0), (-40, 30), (-5, 46), (35, 30), (50, 0)], grey)
            pen.poly([(-40, 30), (-5, 46), (35, 30), (0, 22)], shade(grey, 1.2))
        elif kind == 1:
            pen.box(-4, 0, 4, 110, (112, 110, 108))
            pen.oval(0, 110, 24, 24, paint(rng))
            pen.oval(0, 110, 14, 14, (240, 238, 232))
        elif kind == 2:
            green = jitter(rng, (74, 110, 60))
            for x, y, size in rng.uniform((-35, 12, 14), (35, 45, 24), (9, 3)):
                pen.oval(x, y, size, size, shade(green, 0.55 + y / 60))
        else:
            wood = jitter(rng, (156, 118, 78))
            pen.box(-35, 0, 35, 60, wood)
            for y in (0, 20, 40, 57):
                pen.box(-35, y, 35, y + 4, shade(wood, 0.65))


class Region(NamedTuple):
    """The part of a scene where one class stands."""

    context: str
    span: tuple[float, float]  # columns for the foot of an object
    lanes: np.ndarray  # (n, 2) rows (y, slope)


def scene(
    rng: Rng, contexts: list[str], height: int, width: int, unit: float
) -> tuple[Canvas, list[Region]]:
    """Paint one context, or two that share the image, without any object."""
    aloft = set(contexts) <= {"sky", "branches"}
    low, high = (0.42, 0.6) if "sky" in contexts else (0.14, 0.46)
    if aloft:  # little ground, or none
        low, high = 0.8, 1.06
    horizon = min(height, int(height * rng.uniform(low, high)))
    canvas = Canvas(np.zeros((height, width, 3), np.uint8), horizon, unit)
    _backdrop(canvas, rng)
    if aloft:
        (_sand, _pavement)[rng.integers(2)](canvas, rng)
    whole = (0.0, float(width))
    if len(set(contexts)) == 1:
        lanes = PAINT_CONTEXT[contexts[0]](canvas, rng)
        regions = [Region(contexts[0], whole, lanes)] * len(contexts)
    elif "sky" in contexts and "branches" not in contexts:  # one above the other
        regions = [Region(c, whole, PAINT_CONTEXT[c](canvas, rng)) for c in contexts]
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
            lanes = PAINT_CONTEXT[context](layer, rng)
            here = left if side == 0 else ~left
            canvas.image[here] = layer.image[here]
            span = (0.0, middle) if side == 0 else (middle, float(width))
            regions.append(Region(context, span, lanes))
        if "branches" not in contexts:  # a stone edge between two grounds
            Pen(canvas.image).line(seam, 2.2 * unit, jitter(rng, (168, 162, 154)))
    if "branches" not in contexts and not aloft:
        _props(canvas, rng, 2 if "water" in contexts else 4)
    return canvas, regions
