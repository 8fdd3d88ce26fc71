"""What the readers of tags give."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from mmwood.fileio.lists import Tagged

__all__ = ["TagSource", "merge_rows"]


@dataclass
class TagSource:
    """Images and tags as a source has them.

    Attributes:
        items: One for every image.
        classes: Names of the classes in the source's order, or None where it does not
            say.
        notes: What was left out or joined, for the person who converts.
    """

    items: list[Tagged]
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def merge_rows(items: Iterable[Tagged]) -> list[Tagged]:
    """Join the tags of each image, in the order of first appearance."""
    merged: dict[str, Tagged] = {}
    for item in items:
        known = merged.setdefault(item.image, item)
        if known is not item:
            known.tags |= item.tags
    return list(merged.values())
