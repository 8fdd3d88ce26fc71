"""Who may talk to the review app: the person before it, and no other web page."""

import ipaddress
import secrets
import socket
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard"]

LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


class Guard:
    """ASGI middleware that refuses requests and web sockets from elsewhere.

    - ``Host`` must be a name of this machine. A page whose own name was made to point
      here (DNS rebinding) sends its own.
    - ``Origin`` must be that host: pages of other sites may not post or connect.
      Where a browser says with ``Sec-Fetch-Site`` that another site asks, it may
      only open the page.
    - With a token, the first visit must have it in the address (``?token=``); then a
      cookie has it.

    Args:
        app: What is guarded.
        host: Where the server listens. None: on this machine only.
        token: The token, or None.
        cookie: Name of the cookie.
    """

    def __init__(
        self, app: ASGIApp, host: str | None, token: str | None, cookie: str
    ) -> None:
        self.app = app
        self.names = set(LOCAL)
        if host is not None:
            name = socket.gethostname().lower()
            self.names |= {host.lower(), name, f"{name}.local"}
        self.addresses = host is not None
        self.token = token
        self.cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        answer = self._answer(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Frame-Options"] = "DENY"
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        if answer is None:
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            # Before it is accepted: the client gets a 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, send_with_headers)

    def _answer(self, scope: Scope) -> Response | None:
        """What a request gets instead of what it wants, or None."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_mine(hosts[0]):
            return PlainTextResponse("This host name is not the review app's.", 403)
        for origin in headers.getlist("origin"):
            try:
                allowed = urlsplit(origin).netloc.lower() == hosts[0].lower()
            except ValueError:
                allowed = False
            if not allowed:
                return PlainTextResponse("Other sites may not use this app.", 403)
        visit = (
            scope.get("method") == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not visit:
            return PlainTextResponse("Other sites may not use this app.", 403)
        return None if self.token is None else self._check_token(scope, headers)

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        cookies = cookie_parser(headers.get("cookie", ""))
        if self._is_token(cookies.get(self.cookie, "")):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        given = [value for name, value in query if name == "token"]
        if not given or not self._is_token(given[0]):
            return PlainTextResponse(
                "This review needs its token: open the address in the terminal.", 401
            )
        # Out of the address bar, so that it is not copied along.
        rest = urlencode([item for item in query if item[0] != "token"])
        answer = RedirectResponse(scope["path"] + (rest and f"?{rest}"), 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
        return answer

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self.token.encode())

    def _is_mine(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            # No name, so nothing that could be made to point elsewhere.
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.addresses
