"""What one tab shows: a filter, numbers, a page of candidates, and keys."""

import asyncio
import secrets
import sys
from collections.abc import Collection, Coroutine, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from nicegui import ui
from nicegui.events import GenericEventArguments

from mmwood.fileio.candidates import STATES
from mmwood.fileio.journal import SaveError
from mmwood.ood.review.finish import ask_finish
from mmwood.ood.review.grouped import Groups
from mmwood.ood.review.help import GROUP_KEYS, KEYS, build_help, build_hints
from mmwood.ood.review.ordering import Ordering
from mmwood.ood.review.session import Session
from mmwood.ood.review.texts import (
    fault_text,
    left_text,
    looked_text,
    missing_text,
    number_of,
    rate_text,
    rest_text,
)


class Grid(ui.element, component="grid.js"):
    """Candidates with their states; see grid.js."""


class View:
    """One tab: its filter, its page, and what it shows.

    It begins with the first class that has unseen rows; after the last page of a class
    comes the next one.

    The rows are chosen when a filter is set; they do not move under one's fingers when
    they are decided about. With “Group alike” a page is a group.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.who = secrets.token_hex(8)
        keys = (*KEYS, *(GROUP_KEYS if session.subject.alike else ()))
        self.keys = session.subject.keys(keys, maps=session.explainer is not None)
        self.page = 0
        self.chosen = session.rows.choose()
        self.wanted = session.wanted
        self.groups = Groups(session, self._decide_group, self._show_group)
        self.order = Ordering(session, self.groups.alike)
        self._last = asyncio.get_running_loop().time()
        self._build()
        self._choose()
        if session.subject.lowest_first:
            # Of all classes, to where a review that was ended goes on.
            unseen = session.rows.states[self.chosen] == STATES.index("unseen")
            self.turn(
                to=int(unseen.argmax()) // session.page_size if len(unseen) else 0
            )

    def refresh(self) -> None:
        """Show what has changed, here or in another tab."""
        review, faults = self.session.review, self.session.rows.faults
        names = review.classes
        parts = self.groups.parts(self.page) if self.groups.on else {}
        self.grid.props["grouped"] = self.groups.on
        self.grid.props["items"] = [
            dict(
                row=row,
                image=Path(review.images[row]).name,
                path=review.images[row],
                probability=review.probability[row],
                state=review.states[row],
                fault=faults.get(row),
                part=parts.get(row),
                **{"class": names[review.class_of[row]]},
            )
            for row in self._shown()
        ]
        self._refresh_numbers()
        self._refresh_notes()

    def decide(self, event: GenericEventArguments) -> None:
        """Give the rows of an event a state, in all tabs."""
        rows, state = event.args["rows"], event.args["state"]
        faults = self.session.rows.faults
        seen = [row for row in rows if state != "kept" or row not in faults]
        if len(seen) < len(rows):
            ui.notify("An image that cannot be seen is not kept.", type="warning")
        if seen:
            self._save(seen, state, seen)

    def _decide_group(self, rows: list[int], state: str, looked: Iterable[int]) -> bool:
        """Give rows of a group a state, and go on to the next one."""
        faults = self.session.rows.faults
        seen = [row for row in rows if state != "kept" or row not in faults]
        if not seen or not self._save(seen, state, set(looked).intersection(seen)):
            return False
        name = self.session.review.classes[self.session.review.class_of[rows[0]]]
        text = (
            f"{state.capitalize()} a group: {number_of(len(seen), 'image')} of {name}"
        )
        ui.notify(f"{text}. U takes it back.", timeout=2500)
        page = self.groups.next_unseen(self.page)
        self.turn(by=1) if page is None else self.turn(to=page)
        return True

    def _save(self, rows: list[int], state: str, looked: Collection[int]) -> bool:
        """Put a decision on disk; False if that fails."""
        now = asyncio.get_running_loop().time()
        if state != "unseen":
            self.session.pace.add(now - self._last, len(looked))
        self._last = now
        try:
            self.session.review.decide(rows, state, self.who, looked)
        except SaveError as error:
            self._not_saved(error)
            return False
        return True

    def reject_images(self, event: GenericEventArguments) -> None:
        """Reject all rows of the images that an event's rows are of."""
        pressed = event.args["rows"]
        rows = self.session.rows.of_same_images(pressed)
        self._save(rows, "rejected", pressed)

    def undo(self) -> None:
        """Take back this tab's last decision and go where it was."""
        review = self.session.review
        try:
            rows = review.undo(self.who)
        except SaveError as error:
            self._not_saved(error)
            return
        if not rows:
            ui.notify("There is nothing to undo in this tab.", type="info")
            return
        page = self._page_of(rows[0])
        if page is not None:
            self.turn(to=page)
            self.grid.run_method("go", rows[0])
        name = review.classes[review.class_of[rows[0]]]
        ui.notify(f"Undone: {number_of(len(rows), 'image')} of {name}")

    def turn(self, by: int = 0, to: int | None = None) -> None:
        """Go some pages on, or to one."""
        page = self.page + by if to is None else to
        if by > 0 and page >= self._pages():
            self._next_class()
            return
        page = max(0, min(self._pages() - 1, page))
        if page != self.page:
            self.page = page
            self.groups.opened = False
            self.refresh()

    def _build(self) -> None:
        session = self.session
        review = session.review
        ui.add_css(Path(__file__).with_name("review.css"))
        ui.colors(primary="#0b57d0")
        self.help = build_help(self.keys)
        self.dark = ui.dark_mode(value=None)
        with ui.element("div").classes("review-page"):
            self.fault = ui.label().classes("review-fault").props("role=alert")
            self.note = ui.label().classes("review-note").props("role=status")
            with ui.element("header").classes("review-top"):
                self._build_filter()
                with (
                    ui.element("div")
                    .classes("review-bar")
                    .props(
                        'role=progressbar aria-label="decided" aria-valuemin=0'
                    ) as self.bar
                ):
                    self.kept_bar = ui.element("div").classes("kept")
                    self.rejected_bar = ui.element("div").classes("rejected")
                with ui.element("div").classes("review-stats"):
                    self.scope = ui.label().classes("review-scope")
                    self.looked = ui.label()
                    self.kept = ui.label().classes("review-kept")
                    self.rejected = ui.label().classes("review-rejected")
                    self.rate = ui.label()
                with ui.element("div").classes("review-stats"):
                    ui.label("whole manifest").classes("review-scope")
                    self.total = ui.label()
                    with ui.element("div").classes("review-wanted") as self.goal:
                        self.usable = ui.label()
                        ui.number(value=session.wanted, min=1, precision=0).props(
                            'dense outlined aria-label="wanted images"'
                        ).on_value_change(self._want)
                        ui.label("wanted")
                    self.left = ui.label()
                    self.rest = ui.label()
                    ui.label(session.subject.legend).classes("review-soft")
                self.groups.build_heading()
            self.grid = Grid()
            self.grid.props["maps"] = session.explainer is not None
            self.grid.props["version"] = session.version
            self.grid.props["subject"] = session.subject.of_grid()
            self.grid.on("decide", self.decide)
            self.grid.on("reject_images", self.reject_images)
            self.grid.on("undo", self.undo)
            self.grid.on("turn", lambda event: self.turn(event.args))
            self.grid.on("fault", self._learn_fault)
            self.grid.on("open", self.groups.open)
            self.grid.on(
                "group",
                lambda event: self.groups.decide(
                    event.args["state"], event.args["rows"]
                ),
            )
            self.grid.on("help", self.help.open)
            self._build_bottom()
        ui.page_title(f"Review of {review.path.name}")

    def _build_filter(self) -> None:
        review = self.session.review
        with ui.element("div").classes("review-row"):
            ui.label(f"Review of {review.path.name}").classes("review-title")
            self.class_choice = (
                ui.select(
                    self._class_options(),
                    label="class",
                    value=self._first_class(),
                    on_change=self._choose,
                )
                .props("dense outlined options-dense")
                .style("min-width: 190px")
            )
            states = {"": "all"}
            states.update({state: state for state in (*STATES, "missing")})
            self.state_choice = (
                ui.select(states, label="state", value="", on_change=self._choose)
                .props("dense outlined options-dense")
                .style("min-width: 110px")
            )
            low = min(review.probability, default=0.0)
            low = int(low * 100) / 100
            with ui.element("div"):
                self.score_label = ui.label().classes("review-soft")
                self.score = (
                    ui.range(min=low, max=1, step=0.01, value=dict(min=low, max=1))
                    .props("dense")
                    .classes("review-score")
                )
                self.score.on("change", self._choose)
                self.score.on_value_change(self._refresh_score)
            self.order.build(self._choose, self._missing, lambda: self.chosen)
            self.groups.build_switch(self._choose)
            # By features, which masks have none of.
            for choice in (self.order.select, self.groups.switch):
                choice.visible = self.session.subject.alike
            with ui.element("div").classes("review-row push").style("width: auto"):
                ui.button(icon="contrast", on_click=self._turn_light).props(
                    'flat dense round aria-label="light or dark"'
                )
                ui.button(icon="keyboard", on_click=self.help.open).props(
                    'flat dense round aria-label="all keys"'
                )
                ui.button("Finish", on_click=lambda: ask_finish(self.session)).props(
                    "outline dense no-caps padding='2px 12px'"
                )

        # Keys are meant for the images again, if the same is chosen too.
        for choice in (self.class_choice, self.state_choice, self.order.select):
            choice.on("popup-hide", lambda: self.grid.run_method("show", True))

    def _build_bottom(self) -> None:
        with (
            ui.element("footer").classes("review-bottom"),
            ui.element("div").classes("review-row"),
        ):
            flat = "flat dense no-caps padding='2px 8px'"
            ui.button("Undo (U)", icon="undo", on_click=self.undo).props(flat)
            self.keep_rest = ui.button(
                icon="done_all", on_click=lambda: self.grid.run_method("keepRest")
            ).props(flat)
            build_hints(self.keys)
            with ui.element("div").classes("review-row push").style("width: auto"):
                ui.button(icon="chevron_left", on_click=lambda: self.turn(-1)).props(
                    f'{flat} aria-label="page before"'
                )
                self.place = ui.label().style("font-variant-numeric: tabular-nums")
                ui.button(icon="chevron_right", on_click=lambda: self.turn(1)).props(
                    f'{flat} aria-label="next page"'
                )

    def _choose(self) -> Coroutine | None:
        """Choose the rows of the filters; what takes long is done beside the page."""
        number = self.class_choice.value
        score = self.score.value
        edge = self.score.props["max"], self.score.props["min"]
        self.chosen = self.session.rows.choose(
            None if number == -1 else number,
            self.state_choice.value or None,
            # The slider's ends mean everything.
            score["min"] if score["min"] > edge[1] else 0.0,
            score["max"] if score["max"] < edge[0] else 1.0,
        )
        self.page = 0
        self.order.select.set_enabled(not self.groups.on)
        later = None
        if self.groups.on:
            later = self.groups.choose(self.chosen)
        elif self.order.select.value != "hardest":
            later = self._arrange(self.chosen)
        self._refresh_score()
        self.refresh()
        # Keys are meant for the images again.
        self.grid.run_method("show", True)
        return later

    async def _arrange(self, rows: np.ndarray) -> None:
        """Show rows in the order that is chosen, once it is known."""
        arranged = await self.order.arranged(rows)
        if self.chosen is rows:
            self.chosen = arranged
            self.refresh()

    def _missing(self) -> int:
        """How many usable images are still wanted."""
        return self.wanted - self.session.rows.counts().usable

    def _show_group(self) -> None:
        """Show another group, or another part of it."""
        self.page = min(self.page, self._pages() - 1)
        self.refresh()
        self.grid.run_method("show", True)

    def _next_class(self) -> None:
        """After the last page: the next class with unseen rows."""
        unseen = self.session.rows.unseen_by_class()
        current = self.class_choice.value
        after = [number for number in unseen.nonzero()[0] if number > current]
        if current == -1 or not after:
            ui.notify("This is the last page.", type="info")
            return
        self.class_choice.value = int(after[0])
        ui.notify(f"On to {self.session.review.classes[after[0]]}")

    def _refresh_score(self) -> None:
        score = self.score.value
        self.score_label.text = f"score {score['min']:.2f} to {score['max']:.2f}"

    def _refresh_numbers(self) -> None:
        options = self._class_options()
        if options != self.class_choice.options:
            self.class_choice.set_options(options)
        number = self.class_choice.value
        counts = self.session.rows.counts(None if number == -1 else number)
        names = self.session.review.classes
        self.scope.text = "all classes" if number == -1 else names[number]
        total = counts.unseen + counts.decided
        self.bar.props["aria-valuemax"] = total
        self.bar.props["aria-valuenow"] = counts.decided
        for part, count in (
            (self.kept_bar, counts.kept),
            (self.rejected_bar, counts.rejected),
        ):
            part.style(f"width: {100 * count / max(total, 1):.3f}%")
        self.looked.text = looked_text(counts)
        self.kept.text = f"✓ {counts.kept:,} kept"
        self.rejected.text = f"✕ {counts.rejected:,} rejected"
        self.rate.text = rate_text(counts.positive_rate, self.session.subject.rate)
        self._refresh_total()
        self.keep_rest.text = (
            "Keep those shown (A)" if self.groups.on else "Keep the rest (A)"
        )
        what = "group" if self.groups.on else "page"
        self.place.text = f"{what} {self.page + 1:,} of {self._pages():,}"
        self.groups.refresh(self.page)

    def _refresh_total(self) -> None:
        counts, pace = self.session.rows.counts(), self.session.pace.seconds
        subject = self.session.subject
        rate = rate_text(counts.positive_rate, subject.rate)
        self.total.text = f"{looked_text(counts)}, {rate}"
        self.rest.text = rest_text(counts, pace)
        if subject.outcome is not None:
            self.goal.visible = False
            self.left.text = subject.outcome(self.session.rows)
            return
        self.usable.text = f"{counts.usable:,} usable of"
        self.left.text = left_text(counts, self.wanted, pace)

    def _first_class(self) -> int:
        """Where to begin: the first class with unseen rows; -1: all classes."""
        if self.session.subject.lowest_first:
            return -1
        unseen = self.session.rows.unseen_by_class().nonzero()[0]
        return int(unseen[0]) if len(unseen) else -1

    def _class_options(self) -> dict[int, str]:
        unseen = self.session.rows.unseen_by_class().tolist()
        options = {-1: f"all classes ({sum(unseen):,} unseen)"}
        for number, name in enumerate(self.session.review.classes):
            left = unseen[number]
            options[number] = f"{name} ({left:,} unseen)" if left else f"{name} ✓"
        return options

    def _refresh_notes(self) -> None:
        session = self.session
        problem = session.review.fault or session.unsaved
        self.fault.visible = problem is not None
        if problem:
            self.fault.text = fault_text(problem)
        faults = session.rows.faults
        images = sorted({session.review.images[row] for row in faults})
        self.note.visible = bool(images)
        self.note.text = missing_text(images)
        if not len(session.review.images):
            empty = f"The manifest has no rows: {self.session.subject.why_empty}."
        elif self.groups.on and self.groups.busy:
            empty = "Grouping alike images …"
        elif not len(self.chosen):
            empty = "No row matches: choose another class, state or score."
        else:
            empty = ""
        self.grid.props["empty"] = empty

    def _not_saved(self, error: SaveError) -> None:
        print(f"not saved: {error}", file=sys.stderr, flush=True)
        ui.notify("Not saved: nothing has changed.", type="negative")
        self.session.tell()

    def _learn_fault(self, event: GenericEventArguments) -> None:
        row, is_map = event.args["row"], event.args["map"]
        if is_map:
            ui.notify("There is no map: the terminal says why.", type="negative")
        elif 0 <= row < len(self.session.review.images):
            self.session.rows.faults.setdefault(row, "not a whole image")
            self.session.tell()

    def _want(self, event: Any) -> None:
        if event.value and event.value >= 1:
            self.wanted = int(event.value)
            self._refresh_total()

    def _turn_light(self) -> None:
        # From the system's choice to dark, to light, and back.
        self.dark.value = {None: True, True: False, False: None}[self.dark.value]

    def _page_of(self, row: int) -> int | None:
        """Where a row is."""
        if self.groups.on:
            return self.groups.page_of(row)
        place = np.flatnonzero(self.chosen == row)
        return int(place[0]) // self.session.page_size if len(place) else None

    def _pages(self) -> int:
        if self.groups.on:
            return max(1, len(self.groups.list))
        return max(1, -(-len(self.chosen) // self.session.page_size))

    def _shown(self) -> list[int]:
        if self.groups.on:
            return self.groups.shown(self.page)
        start = self.page * self.session.page_size
        return self.chosen[start : start + self.session.page_size].tolist()
