"""Who may talk to the review app: pages of its own, and with a token who has it.

Starlette's TrustedHostMiddleware beside it keeps out pages whose own name was made to
point here (DNS rebinding).
"""

import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Other sites may not frame a page, show a picture or learn the address.
HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware that refuses requests and web sockets from elsewhere.

    - ``Origin`` must be the host that is asked: pages of other sites may not post or
      connect.
    - With a token, the first visit must have it in the address (``?token=``); then a
      cookie has it, which browsers send to this host's name only.
    """

    def __init__(self, app: ASGIApp, token: str | None, cookie: str) -> None:
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = None
        if scope["type"] in ("http", "websocket"):
            answer = self._answer(HTTPConnection(scope))
        # Of a web socket it is the answer to its handshake.
        await (answer or self.app)(scope, receive, send_with_headers)

    def _answer(self, asked: HTTPConnection) -> Response | None:
        """What a request gets instead of what it wants, or None."""
        origin, host = asked.headers.get("origin"), asked.headers.get("host", "")
        if origin is not None and origin.partition("://")[2] != host:
            return PlainTextResponse("Other sites may not use this app.", 403)
        token = self.token
        if token is None or _equal(asked.cookies.get(self.cookie, ""), token):
            return None
        if not _equal(asked.query_params.get("token", ""), token):
            return PlainTextResponse(
                "This review needs its token: open the address in the terminal.", 401
            )
        # Out of the address bar, so that it is not copied along.
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.cookie, token, httponly=True, samesite="lax")
        return answer


def _equal(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())
