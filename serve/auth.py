"""Who may ask: bearer tokens on every route below /v1, unless the service is bound to loopback and has no tokens."""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.tokens import Grant, Scope, find_grant, parse_grants, read_grants
from serve.errors import ApiError

RELOAD_S = 1.0  # a revoked token stops within 5 s
SHOWN_NAME = 200  # of a name that a client chose
TOKENS_VARIABLE = "SEAD_SERVE_TOKENS"  # lines of a tokens file; `;` ends a line too
LOCAL_CALLER = Grant("", "admin", "loopback")

log = logging.getLogger("ray.serve.sead_ray")
_bearer = HTTPBearer(auto_error=False, description="A token of jobs.make_token")


def is_loopback(host: str | None) -> bool:
    """Whether only this machine reaches what is bound to `host`; what is unknown counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class Authority:
    """Knows the tokens. A file is read again at most every `RELOAD_S`, so that a removed line stops its token.

    A file that can no longer be read, or has a bad line, grants nothing to anybody until it is mended.
    """

    def __init__(self, config: ServeConfig, bound_to: str | None) -> None:
        """
        Args:
            bound_to: address that the HTTP server listens on; None: not known.

        Raises:
            InputError: tokens are needed and there are none, or they cannot be read.
        """
        self._file = config.tokens_file
        text = os.environ.get(TOKENS_VARIABLE, "").replace(";", "\n")
        self._fixed = parse_grants(text, TOKENS_VARIABLE)
        self._grants = self._fixed + (read_grants(self._file) if self._file else [])
        self._read_at = time.monotonic()
        self.is_required = config.auth == "required" or bool(self._file or self._fixed) or not is_loopback(bound_to)
        if self.is_required and not (self._file or self._fixed):
            raise InputError(
                f"The service is reachable at {bound_to or 'an unknown address'} and needs tokens: make one with "
                f"jobs.make_token and set tokens_file (or {TOKENS_VARIABLE}), or bind the service to 127.0.0.1."
            )

    def grant(self, token: str) -> Grant | None:
        self._reload()
        return find_grant(self._grants, token)

    def _reload(self) -> None:
        if self._file is None or time.monotonic() - self._read_at < RELOAD_S:
            return
        self._read_at = time.monotonic()
        try:
            self._grants = self._fixed + read_grants(self._file)
        except InputError as error:
            log.error("%s Until it is mended, no token of it is taken.", error)
            self._grants = self._fixed


def requires(authority: Authority, scope: Scope) -> Callable[..., Any]:
    """A dependency that lets only callers with `scope` in, before anything of the body is read."""

    async def caller(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Grant:
        if not authority.is_required:
            require_known_query(request)
            return LOCAL_CALLER
        grant = authority.grant(credentials.credentials) if credentials else None
        if grant is None:
            what = "is not known, or no longer" if "authorization" in request.headers else "is missing"
            raise ApiError(401, f"The bearer token {what}.", headers={"WWW-Authenticate": "Bearer"})
        if not grant.allows(scope):
            raise ApiError(403, f"This needs a token with scope {scope}; yours has {grant.scope}.")
        require_known_query(request)
        return grant

    return Depends(caller)


def require_known_query(request: Request) -> None:
    """Refuses what the route does not ask for: a misspelt parameter would be passed over in silence."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            raise ApiError(422, f"Unknown query parameter {name[:SHOWN_NAME]!r}.", name[:SHOWN_NAME])
