"""The server of the review app: its addresses, its start and its end."""

import asyncio
import secrets
import signal
import socket
from contextlib import suppress
from html import escape

from fastapi import HTTPException, Response
from fastapi.responses import HTMLResponse
from nicegui import app, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mmwood.ood.review.guard import Guard
from mmwood.ood.review.page import View
from mmwood.ood.review.pictures import PictureError
from mmwood.ood.review.session import Session

#: Where the app listens if other machines are not let in, and its names.
LOCAL = ["127.0.0.1", "localhost"]


def free_port(host: str | None, port: int) -> int:
    """The port, if it is free, or a free one for 0.

    Raises:
        ValueError: It is in use, or there is no such host.
    """
    host = host or LOCAL[0]
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return probe.getsockname()[1]
    except OSError as error:
        raise ValueError(
            f"--host {host} --port {port}: {error.strerror}; name another port, or 0 "
            "for any that is free"
        ) from error


def serve(session: Session, host: str | None, port: int, show: bool = False) -> None:
    """Serve the page until it is finished or interrupted.

    Args:
        session: What to show.
        host: Address to listen at. None: 127.0.0.1, without a token.
        port: A free port, see :func:`free_port`.
        show: Whether to open a browser.
    """
    review = session.review
    token = None if host is None else secrets.token_urlsafe(32)
    app.add_middleware(Guard, token=token, cookie=f"mmwood_review_{port}")
    if token is None:
        # With a token, pages under other names lack its cookie.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL)

    @ui.page("/")
    def page() -> None:
        view = View(session)
        session.watchers.append(view.refresh)
        ui.context.client.on_delete(lambda: session.watchers.remove(view.refresh))

    @app.get("/picture/{kind}/{row}")
    async def picture(kind: str, row: str) -> Response:
        kinds = ("small", "large", *(["map"] if session.explainer else []))
        if kind not in kinds or not (row.isascii() and row.isdigit()):
            raise HTTPException(404)
        if len(row) > 9 or int(row) >= len(review.images):
            raise HTTPException(404)
        try:
            content = await session.picture(kind, int(row))
        except PictureError as error:
            raise HTTPException(404, str(error)) from error
        # The address changes with every start.
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(content, media_type="image/jpeg", headers=headers)

    @app.get("/done")
    def done() -> HTMLResponse:
        counts = session.rows.counts()
        return HTMLResponse(
            "<!doctype html><meta charset=utf-8><title>Review finished</title>"
            "<style>:root{color-scheme:light dark;font:1.1rem system-ui;padding:15vh}"
            f"</style><h1>Finished</h1><p>{escape(review.path.name)} holds "
            f"{counts.kept} kept, {counts.rejected} rejected and "
            f"{counts.unseen} unseen rows. You can close this tab."
        )

    def announce() -> None:
        name = host or LOCAL[0]
        if name in ("0.0.0.0", "::"):
            # Every address of this machine: its name leads to one of them.
            name = socket.gethostname()
        elif ":" in name:
            name = f"[{name}]"
        query = f"?token={token}" if token else ""
        print(f"review {review.path} at http://{name}:{port}/{query}", flush=True)
        print("end with Finish on the page, or Ctrl+C here", flush=True)

    tasks = []

    async def start() -> None:
        announce()
        tasks.append(asyncio.create_task(session.check_images()))
        tasks.append(asyncio.create_task(session.save_at_times()))

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await session.save()
        # NiceGUI would wait two seconds for what it sends to tabs that are closed.
        for client in [*app.clients("/")]:
            client.delete()

    app.on_startup(start)
    app.on_shutdown(stop)
    # The server raises again what ended it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        ui.run(
            host=host or LOCAL[0],
            port=port,
            title=f"Review of {review.path.name}",
            favicon="🔎",
            dark=None,
            reload=False,
            show=show and (f"/?token={token}" if token else "/"),
            show_welcome_message=False,
            tailwind=False,
            timeout_graceful_shutdown=3,
        )
