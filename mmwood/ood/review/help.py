"""The keys of the page, as a row of hints and as a help.

What a key does is in ``key`` of ``grid.js``.
"""

from collections.abc import Sequence

from nicegui import ui

from mmwood.ood.review.subject import Key

KEYS = (
    (("K",), "keep: no object of any class (or a right annotation)", "keep"),
    (("R",), "reject: does show one", "reject"),
    (("U",), "undo your last decision (also Ctrl+Z)", ""),
    (("←", "↑", "→", "↓"), "move; Home and End: first and last of the page", "move"),
    (
        ("Shift",),
        "with arrows or a click: a range, which K, R and C then mean",
        "range",
    ),
    (("A",), "keep all that is unseen on this page", ""),
    (("C",), "where the classifier saw the class (map), and back", "map"),
    (("Enter",), "large image, and back (also a double click)", "large"),
    (("N",), "next page, or class (also Page Down)", "next"),
    (("P",), "page before (also Page Up)", "before"),
    (("Delete",), "as if not looked at", ""),
    (("?",), "this help", "all keys"),
)

#: Of groups of alike images.
GROUP_KEYS = (
    (
        ("Shift+K", "Shift+R"),
        "with “Group alike”, without a range: keep or reject all unseen of the group",
        "",
    ),
    (("O",), "with “Group alike”: all of the group, and back", ""),
)


def build_hints(keys: Sequence[Key]) -> None:
    """Add the keys in a row."""
    hints = "".join(
        f"<span>{_names(names)} {short}</span> " for names, _, short in keys if short
    )
    ui.html(hints, sanitize=False).classes("review-keys")


def build_help(keys: Sequence[Key]) -> ui.dialog:
    """Add a dialog with all keys, closed."""
    with ui.dialog() as dialog, ui.card():
        rows = "".join(
            f"<tr><td>{_names(names)}</td><td>{text}</td></tr>"
            for names, text, _ in keys
        )
        ui.label("Keys").classes("review-title")
        ui.html(f"<table>{rows}</table>", sanitize=False).classes("review-help")
        ui.label(
            "Shift and a click on Keep or Reject decides about all from the "
            "focused image to that one. A decision is on disk when it is shown."
        ).classes("review-soft")
        ui.button("Close", on_click=dialog.close).props("flat no-caps")
    return dialog


def _names(keys: Sequence[str]) -> str:
    return " ".join(f"<kbd>{key}</kbd>" for key in keys)
