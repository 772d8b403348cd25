"""Who may look, and who may change something. Reading needs no token on loopback only; promoting always needs one."""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass

from fastapi import Request

from sead_ray.config import BoardConfig, ServeConfig
from sead_ray.tokens import Grant, Scope
from serve.auth import Authority, is_loopback
from serve.errors import ApiError

COOKIE = "sead_board"
MOST_SESSIONS = 1000
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Session:
    """A signed-in browser. `form_key`: stands in its forms, where no other site can know it."""

    token: str
    form_key: str
    ends_at: float


class Access:
    """Tokens come in a header, or in the session of a cookie; both are checked against the tokens file each time."""

    def __init__(self, config: BoardConfig) -> None:
        """Raises `InputError` where tokens are needed and there are none, or they cannot be read."""
        self._authority = Authority(ServeConfig(tokens_file=config.tokens_file, auth=config.auth), config.host)
        self.is_open = is_loopback(config.host) and config.auth == "auto"
        self.is_secure = config.tls_cert is not None
        self._keep_s = config.session_hours * 3600
        self._sessions: dict[str, Session] = {}

    def sign_in(self, token: str) -> str | None:
        """The cookie of a new session; None where the token is not known."""
        if self._authority.grant(token) is None:
            return None
        now = time.monotonic()
        self._sessions = {key: session for key, session in self._sessions.items() if session.ends_at > now}
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        cookie = secrets.token_urlsafe(32)
        self._sessions[cookie] = Session(token, secrets.token_urlsafe(24), now + self._keep_s)
        return cookie

    def sign_out(self, request: Request) -> None:
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)

    def grant(self, request: Request) -> Grant | None:
        """Of the caller; None without a token, or with one that is not known, or no longer."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return self._authority.grant(token.strip())
        session = self._session(request)
        return self._authority.grant(session.token) if session else None

    def form_key(self, request: Request) -> str:
        session = self._session(request)
        return session.form_key if session else ""

    def require(self, request: Request, scope: Scope) -> None:
        """Raises `ApiError` 401 or 403; 421 where another site's name was made to point at this machine."""
        if self.is_open and _host_name(request) not in LOCAL_NAMES:
            raise ApiError(421, "This board is for this machine: ask for it at localhost or 127.0.0.1.")
        if self.is_open and scope == "score":
            return
        grant = self.grant(request)
        if grant is None:
            raise ApiError(401, "Sign in with a token first.")
        if not grant.allows(scope):
            raise ApiError(403, f"This needs a token with scope {scope}; yours has {grant.scope}.")

    def require_own_form(self, request: Request, form_key: str) -> None:
        """A form that another site sent in a browser's name is refused; programs send their token themselves."""
        if "authorization" in request.headers:
            return
        own = self.form_key(request)
        if not own or not hmac.compare_digest(own, form_key):
            raise ApiError(403, "The form is not of this session: load the page again.")

    def _session(self, request: Request) -> Session | None:
        session = self._sessions.get(request.cookies.get(COOKIE, ""))
        return session if session and session.ends_at > time.monotonic() else None


def _host_name(request: Request) -> str:
    host = request.headers.get("host", "")
    return host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host
