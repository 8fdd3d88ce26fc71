"""The end of a review, asked for on the page."""

import asyncio

from nicegui import app, ui

from mmwood.ood.review.session import Session
from mmwood.ood.review.texts import number_of


async def ask_finish(session: Session) -> None:
    """Ask; then save, show all tabs that it is done, and end the app."""
    unseen = session.rows.counts().unseen
    with ui.dialog() as dialog, ui.card():
        ui.label(
            "Write the manifest and end the app, for all tabs? "
            + (f"{number_of(unseen, 'row')} unseen will stay so." if unseen else "")
        )
        with ui.element("div").classes("review-row"):
            ui.button("Finish", on_click=lambda: dialog.submit(True)).props("no-caps")
            ui.button("Continue", on_click=lambda: dialog.submit(False)).props(
                "flat no-caps"
            )
    if await dialog and await session.save():
        for client in app.clients("/"):
            with client:
                ui.navigate.to("/done")
        await asyncio.sleep(1)
        app.shutdown()
