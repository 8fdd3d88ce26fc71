"""The keys of the page, as a row of hints and as a help."""

from collections.abc import Sequence

from nicegui import ui

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
    (
        ("Shift+K", "Shift+R"),
        "with “Group alike”, without a range: keep or reject all unseen of the group",
        "",
    ),
    (("O",), "with “Group alike”: all of the group, and back", ""),
    (("?",), "this help", "all keys"),
)


def build_hints(maps: bool) -> None:
    """Add the keys in a row.

    Args:
        maps: Whether there are class activation maps.
    """
    keys = "".join(
        f"<span>{_keys(keys)} {short}</span> "
        for keys, _, short in KEYS
        if short and (short != "map" or maps)
    )
    ui.html(keys, sanitize=False).classes("review-keys")


def build_help(maps: bool) -> ui.dialog:
    """Add a dialog with all keys, closed.

    Args:
        maps: Whether there are class activation maps.
    """
    with ui.dialog() as dialog, ui.card():
        rows = "".join(
            f"<tr><td>{_keys(keys)}</td><td>{text}</td></tr>"
            for keys, text, short in KEYS
            if short != "map" or maps
        )
        ui.label("Keys").classes("review-title")
        ui.html(f"<table>{rows}</table>", sanitize=False).classes("review-help")
        ui.label(
            "Shift and a click on Keep or Reject decides about all from the "
            "focused image to that one. A decision is on disk when it is shown."
        ).classes("review-soft")
        ui.button("Close", on_click=dialog.close).props("flat no-caps")
    return dialog


def _keys(keys: Sequence[str]) -> str:
    return " ".join(f"<kbd>{key}</kbd>" for key in keys)
