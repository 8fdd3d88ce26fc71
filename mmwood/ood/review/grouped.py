"""The part of a tab that shows groups of alike images, a group a page."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from nicegui import ui

from mmwood.fileio.candidates import STATES
from mmwood.ood.review.alike import Alike, Group
from mmwood.ood.review.counts import UNSEEN
from mmwood.ood.review.session import Session
from mmwood.ood.review.texts import number_of

_BUTTON = "dense no-caps padding='2px 12px'"
NEAR = "Most typical of the group"
FAR = "Least typical of the group: what does not belong is here"
ALL = "All of the group, most typical first"


class Groups:
    """Groups of the rows that a tab has chosen: switch, heading, and decisions.

    Args:
        session: What all tabs share.
        decide: Takes rows, a state, and which of the rows were looked at; False: it
            could not be saved.
        changed: Called when there are other groups, or another part of one is shown.
    """

    def __init__(
        self,
        session: Session,
        decide: Callable[[list[int], str, Iterable[int]], bool],
        changed: Callable[[], None],
    ) -> None:
        self.session = session
        self._decide = decide
        self._changed = changed
        self.list: list[Group] = []
        self.opened = False
        self.busy = False
        self._asked = 0

    @property
    def on(self) -> bool:
        """Whether groups are shown."""
        return bool(self.switch.value)

    def build_switch(self, choose: Callable[[], Any]) -> None:
        """Add the switch; ``choose`` chooses the tab's rows anew."""
        self.switch = ui.switch("Group alike", on_change=choose)

    def build_heading(self) -> None:
        """Add what stands above a group."""
        with ui.element("section").classes("review-group") as self.heading:
            with ui.element("div").classes("review-row"):
                self.title = ui.label().classes("review-title")
                self.numbers = ui.label()
            with ui.element("div").classes("review-row"):
                self.keep = ui.button(on_click=lambda: self.decide("kept"))
                self.keep.props(f"outline {_BUTTON} color=none").classes("review-kept")
                self.reject = ui.button(on_click=lambda: self.decide("rejected"))
                self.reject.props(f"outline {_BUTTON} color=none").classes(
                    "review-rejected"
                )
                self.open_button = ui.button(on_click=self.open)
                self.open_button.props(f"flat {_BUTTON}")
                self.meaning = ui.label().classes("review-soft")

    async def alike(self) -> Alike | None:
        """What knows of features, or None; then the tab is told why."""
        try:
            return await self.session.alike()
        except (OSError, ValueError) as error:
            ui.notify(
                f"No groups and no variety: {error}. Mining leaves features beside the "
                "manifest for a CAMClassifier, or with --scores and --features.",
                type="warning",
                multi_line=True,
                timeout=15000,
            )
            return None

    async def choose(self, rows: np.ndarray) -> None:
        """Make the groups of rows, beside the page."""
        self._asked += 1
        asked = self._asked
        self.list, self.opened, self.busy = [], False, True
        self._changed()
        alike = await self.alike()
        found: list[Group] = []
        if alike is not None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(None, alike.groups, rows)
        if asked != self._asked:
            return
        self.list, self.busy = found, False
        if alike is None:
            self.switch.value = False
        elif alike.missing:
            ui.notify(
                f"{alike.missing:,} rows have no features: they are in no group, and "
                "shown without “Group alike”.",
                type="info",
            )
        self._changed()

    def shown(self, page: int) -> list[int]:
        """Rows of a group that are shown."""
        if not page < len(self.list):
            return []
        group = self.list[page]
        return group.rows if self.opened else group.shown

    def parts(self, page: int) -> dict[int, str]:
        """Rows that a part of the group begins with, and what it is called."""
        if not page < len(self.list):
            return {}
        group = self.list[page]
        if self.opened:
            return {group.rows[0]: ALL}
        return {
            rows[0]: name
            for rows, name in ((group.near, NEAR), (group.far, FAR))
            if rows and len(group.rows) > len(group.near)
        }

    def unseen(self, page: int) -> list[int]:
        """Rows of a group that a decision about it is about."""
        states = self.session.review.states
        return [row for row in self.list[page].rows if states[row] == UNSEEN]

    def page_of(self, row: int) -> int | None:
        """The group that a row is in."""
        for page, group in enumerate(self.list):
            if row in group.rows:
                return page
        return None

    def next_unseen(self, page: int) -> int | None:
        """The first group after one that has unseen rows."""
        for later in range(page + 1, len(self.list)):
            if self.unseen(later):
                return later
        return None

    def refresh(self, page: int) -> None:
        """Show what has changed."""
        self.page = page
        self.heading.visible = self.on
        if not self.on:
            return
        there = page < len(self.list)
        for part in (self.keep, self.reject, self.open_button, self.numbers):
            part.visible = there
        self.meaning.text = ""
        if not there:
            self.title.text = "Grouping …" if self.busy else "There is no group."
            return
        group = self.list[page]
        states = [self.session.review.states[row] for row in group.rows]
        unseen = states.count(UNSEEN)
        name = self.session.review.classes[group.class_index]
        self.title.text = f"{name} · group {page + 1:,} of {len(self.list):,}"
        counts = ", ".join(
            f"{states.count(code)} {state}" for code, state in enumerate(STATES)
        )
        self.numbers.text = f"{number_of(len(states), 'image')}: {counts}"
        self.keep.text = f"✓ Keep all {unseen} unseen (Shift+K)"
        self.reject.text = f"✕ Reject all {unseen} unseen (Shift+R)"
        for button in (self.keep, self.reject):
            button.set_enabled(unseen > 0)
        self.open_button.text = (
            "Show a sample (O)" if self.opened else f"Show all {len(states)} (O)"
        )
        self.open_button.visible = len(group.shown) < len(states)
        looked = sum(
            states[group.rows.index(row)] == UNSEEN for row in self.shown(page)
        )
        if not unseen:
            self.meaning.text = "All of it is decided; U undoes."
        elif looked < unseen:
            self.meaning.text = (
                f"You see {looked} of the {unseen}; the other {unseen - looked} are "
                "decided with them. Decided images do not change."
            )
        else:
            self.meaning.text = f"All {unseen} are shown."

    def decide(self, state: str, shown: list[int] | None = None) -> None:
        """Keep or reject the unseen rows of the group; those shown are looks.

        Args:
            state: Their state.
            shown: The rows that the person saw; of another group nothing is decided.
        """
        page = self.page
        if not self.on or page >= len(self.list):
            return
        if shown is not None and shown != self.shown(page):
            return
        rows = self.unseen(page)
        if not rows:
            ui.notify("Nothing of this group is unseen.", type="info")
            return
        looked = set(self.shown(page)).intersection(rows)
        self._decide(rows, state, looked)

    def open(self) -> None:
        """Show all of the group, or its sample again."""
        if self.on and self.page < len(self.list):
            self.opened = not self.opened
            self._changed()
