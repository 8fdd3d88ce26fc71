"""What readers give and writers take, and the check of a source's images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmwood.fileio.images import check_readable, check_there
from mmwood.fileio.lists import TaggedImage, bullets

#: What annotation tools call pixels without a label, 255 in a label map.
VOID_NAME = "void"


@dataclass
class TagSource:
    """Images and tags as a source has them.

    Attributes:
        items: One for every image.
        classes: Names of the classes in the source's order, or None where it does not
            say.
        notes: What was left out or joined, for the person who converts.
    """

    items: list[TaggedImage]
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)


class Region(NamedTuple):
    """A region of an image that somebody drew.

    Attributes:
        source: Where it stands, for errors.
        label: Its label's name.
        decode: Gives left and top of a box, and the region's pixels in it, shape
            (h, w) bool; all others are outside. Or it raises a ValueError that says
            what is wrong.
        layer: Regions of higher layers cover those of lower ones.
    """

    source: str
    label: str
    decode: Callable[[], tuple[int, int, np.ndarray]]
    layer: int = 0


@dataclass
class AnnotatedImage:
    """An image and its regions.

    Attributes:
        name: What the source calls the image.
        source: Where that stands, for errors.
        size: Height and width as the source says, or None where it does not.
        regions: In the order of the source.
    """

    name: str
    source: str
    size: tuple[int, int] | None
    regions: list[Region]


@dataclass
class RegionSource:
    """Images and regions as a source has them.

    Attributes:
        images: The images.
        notes: What was left out or joined, for the person who converts.
        small_on_top: Whether the smaller one of two regions covers the larger one.
            Otherwise the later one covers the earlier one of a layer.
    """

    images: list[AnnotatedImage]
    notes: list[str] = field(default_factory=list)
    small_on_top: bool = False


class Label(NamedTuple):
    """A label of an annotation tool.

    Attributes:
        value: Its value in label maps.
        name: The class, or :data:`VOID_NAME`.
        colour: As in ``#800000``.
    """

    value: int
    name: str
    colour: str


class Part(NamedTuple):
    """A part of a label map.

    Attributes:
        label: Its label.
        left: Of its box, in pixels.
        top: Of its box.
        mask: Its pixels in its box. Shape: (h, w) bool.
    """

    label: Label
    left: int
    top: int
    mask: np.ndarray


class LabelledImage(NamedTuple):
    """An image and the parts of its label map.

    Attributes:
        name: Its path from the folder of the images, with slashes.
        size: Height and width.
        parts: The parts, to be gone through once.
    """

    name: str
    size: tuple[int, int]
    parts: Iterable[Part]


def check_sizes(
    items: Sequence[TaggedImage],
    paths: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    field: str,
    decode: bool = False,
    remedy: str = "",
) -> None:
    """Refuse images that are not of the size (H, W) that their annotation says.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: One cannot be read, or has another size.
    """
    check_there(items, paths, field)
    faults = [
        f"{item.source}: says (H, W) = {size}, {path} has {(height, width)}"
        for item, path, size, (width, height) in zip(
            items, paths, sizes, check_readable(items, paths, decode, None)
        )
        if size != (height, width)
    ]
    if faults:
        raise ValueError(
            f"{field}: {len(faults)} of {len(items)} images have another size than "
            f"their annotation says{remedy}:" + bullets(faults)
        )
