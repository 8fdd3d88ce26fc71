"""What the readers of tags give."""

from dataclasses import dataclass, field

from mmwood.fileio.lists import TaggedImage

__all__ = ["TagSource"]


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
