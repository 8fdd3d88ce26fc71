"""What the page says of counts."""

from collections.abc import Sequence
from pathlib import Path

from mmwood.ood.review.counts import Counts
from mmwood.ood.review.orders import duration


def looked_text(counts: Counts) -> str:
    """How much is decided, and how much of it was looked at."""
    total = counts.unseen + counts.decided
    if counts.looked_at == counts.decided:
        return f"looked at {_part(counts.looked_at, total)}"
    looks = number_of(counts.looked_at, "look")
    return f"decided {_part(counts.decided, total)} by {looks}"


def rate_text(rate: float | None, name: str) -> str:
    """The positive rate r, in the words of what is reviewed."""
    return f"{name} {'–' if rate is None else f'{rate:.1%}'}"


def left_text(counts: Counts, wanted: int, pace: float | None) -> str:
    """What so many usable images still cost, at a pace in seconds a look."""
    left, rest = counts.looks_left(wanted), counts.looks_for_all()
    if left is None:
        return "→ looks left: unknown before the first is kept"
    if not left:
        return "→ reached"
    text = f"→ about {number_of(round(left), 'more look')}"
    if rest is not None and left > rest:
        return f"{text}, but only {number_of(counts.unseen, 'row')} are left"
    return text if pace is None else f"{text}, {duration(left * pace)}"


def rest_text(counts: Counts, pace: float | None) -> str:
    """What all that is unseen costs; empty where nobody can know."""
    rest = counts.looks_for_all()
    if pace is None or not rest:
        return ""
    return (
        f"all {counts.unseen:,} unseen: about {number_of(round(rest), 'look')}, "
        f"{duration(rest * pace)} at {pace:.2g} s each"
    )


def fault_text(problem: str) -> str:
    """Why decisions are not on disk, and what to do."""
    return (
        f"Not saved: {problem}. What has its sign is safe; the manifest is as it was. "
        "Make the disk writable or free some space, then continue."
    )


def missing_text(images: Sequence[str]) -> str:
    """Which images cannot be shown."""
    return (
        f"{number_of(len(images), 'image')} missing or unreadable (the state filter "
        "“missing” shows them): "
        + ", ".join(Path(image).name for image in images[:3])
        + (", …" if len(images) > 3 else "")
    )


def number_of(value: int, what: str) -> str:
    """A number of things, in their plural."""
    return f"{value:,} {what}{'' if value == 1 else 's'}"


def _part(value: int, total: int) -> str:
    return f"{value:,} of {total:,} ({value / max(total, 1):.1%})"
