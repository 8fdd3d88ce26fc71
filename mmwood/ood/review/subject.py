"""What a person reviews on the page: its words, and the order in which it comes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmwood.ood.review.counts import REJECTED, ReviewRows

#: Keys, what they do, and that in a word for the foot of the page.
Key = tuple[tuple[str, ...], str, str]


@dataclass(frozen=True)
class Subject:
    """What is reviewed; the defaults are those of OoD candidates.

    Attributes:
        lowest_first: See :class:`mmwood.ood.review.counts.ReviewRows`.
        score: What the manifest's probability is.
        rate: What stands before the fraction of rejected rows.
        why_empty: Why a manifest may have no rows.
        legend: What pictures show.
        texts: Of keys, by their short text: another long and another short one.
        map, map_text, map_button: What is said of the other picture of a row, before
            and after the class, and on its button.
        images: Whether X rejects all rows of an image.
        class_first: Whether the class is more important than the score.
        alike: Whether features may order the rows, and group alike images.
        outcome: What the decisions so far amount to. None: as many images as are
            wanted.
    """

    lowest_first: bool = False
    score: str = "probability"
    rate: str = "positive rate r ="
    why_empty: str = "nothing reached the threshold of mining"
    legend: str = ""
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    map: str = "map of"
    map_text: str = ": red is where the classifier saw it"
    map_button: str = "Map"
    images: bool = False
    class_first: bool = False
    alike: bool = True
    outcome: Callable[[ReviewRows], str] | None = None

    def keys(self, keys: Sequence[Key], maps: bool) -> list[Key]:
        """The page's keys in these words; without ``maps`` none shows them."""
        found: list[Key] = []
        for names, text, short in keys:
            if short == "map" and not maps:
                continue
            found.append((names, *self.texts.get(short, (text, short))))
            if short == "reject" and self.images:
                text = "reject the whole image: all of its classes are wrong"
                found.append((("X",), text, "reject image"))
        return found

    def of_grid(self) -> dict[str, Any]:
        """What the grid needs to know."""
        names = ("score", "map", "map_text", "map_button", "images", "class_first")
        return {name: getattr(self, name) for name in names}


def masks_outcome(rows: ReviewRows) -> str:
    """How many images leave the training list, and how many classes become void."""
    rejected = rows.states == REJECTED
    total = np.bincount(rows.image_of, minlength=len(rows.images))
    wrong = np.bincount(rows.image_of[rejected], minlength=len(rows.images))
    leave = int((wrong == total).sum())
    void = int(wrong[wrong < total].sum())
    return (
        f"→ {leave:,} image{'' if leave == 1 else 's'} left out, "
        f"{void:,} class{'' if void == 1 else 'es'} void in others"
    )


CANDIDATES = Subject()


def masks_subject(by_area: bool) -> Subject:
    """Masks; ``by_area``: without scores, so that the smallest ones come first."""
    return Subject(
        lowest_first=True,
        score="fraction of the image" if by_area else "confidence",
        rate="wrong",
        why_empty="no mask shows a class",
        legend="In colour, within the yellow line: the class. Tinted: other classes. "
        "White: void",
        texts=dict(
            keep=("keep: the class is right here", "class is right"),
            reject=("reject: the class is wrong here", "class is wrong"),
            map=("the image without its mask, and back", "image alone"),
        ),
        map="without the mask of",
        map_text="",
        map_button="Image alone",
        images=True,
        class_first=True,
        alike=False,
        outcome=masks_outcome,
    )
