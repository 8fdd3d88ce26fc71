"""What the readers of a source give, and the check of the images that it names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmwood.fileio.images import check_readable, check_there
from mmwood.fileio.lists import TaggedImage, bullets

__all__ = ["TagSource", "check_sizes"]


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


def check_sizes(
    items: Sequence[TaggedImage],
    paths: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    field: str,
    decode: bool = False,
    remedy: str = "",
) -> None:
    """Refuse images that are not of the size that their annotation says.

    Args:
        items: The images.
        paths: The file of each.
        sizes: Height and width of each, as annotated.
        field: What names them, for the error.
        decode: Whether to read them whole.
        remedy: What else to do, for the error.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: One cannot be read, or has another size.
    """
    check_there(items, paths, field)
    faults = [
        f"{item.source}: says (H, W) = {size}, {path} has {(height, width)}"
        for item, path, size, (width, height) in zip(
            items, paths, sizes, check_readable(items, paths, decode)
        )
        if size != (height, width)
    ]
    if faults:
        raise ValueError(
            f"{field}: {len(faults)} of {len(items)} images have another size than "
            f"their annotation says{remedy}:" + bullets(faults)
        )
