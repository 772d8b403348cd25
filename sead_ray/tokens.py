"""Bearer tokens of the scoring service: made, written down as hashes, looked up in constant time.

A line of a tokens file is `<SHA-256 of the token, hex> <scope> <name>`; `#` begins a comment. A token is 256 random
bits, so that a plain SHA-256 cannot be searched; a slow, salted hash is for passwords, which people choose.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sead_ray.errors import InputError

Scope = Literal["score", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "sead_"  # lets secret scanners find one that was committed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Grant:
    """What one token allows. admin includes score.

    Attributes:
        sha256: of the token, in hex.
        name: who holds it, as logs call them.
    """

    sha256: str
    scope: Scope
    name: str

    def allows(self, scope: Scope) -> bool:
        return self.scope in (scope, "admin")

    def may_see(self, owner: str) -> bool:
        """Its own things, and anybody's for an admin."""
        return self.name == owner or self.allows("admin")

    def line(self) -> str:
        return f"{self.sha256} {self.scope} {self.name}"


def new_token(scope: Scope, name: str) -> tuple[str, Grant]:
    """A token, which exists nowhere else, and what is kept of it.

    Raises:
        InputError: the name is not one word of letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"The token name {name!r} must be 1 to 64 letters, digits, dots, dashes or underscores.")
    token = PREFIX + secrets.token_urlsafe(32)
    return token, Grant(digest(token), scope, name)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def find_grant(grants: Sequence[Grant], token: str) -> Grant | None:
    """The token's grant. Every grant is compared, each in constant time: how long it takes says nothing."""
    wanted, found = digest(token), None
    for grant in grants:
        if hmac.compare_digest(grant.sha256, wanted):
            found = grant
    return found


def parse_grants(text: str, source: str) -> list[Grant]:
    """The grants of a tokens file.

    Raises:
        InputError: names the first line that is none, without repeating what it holds: it may be a bare token.
    """
    grants: list[Grant] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) != 3 or not _SHA256.fullmatch(fields[0]) or fields[1] not in SCOPES:
            raise InputError(f"Line {number} of {source} is not `<sha256> <{'|'.join(SCOPES)}> <name>`.")
        if not _NAME.fullmatch(fields[2]) or fields[2] in [grant.name for grant in grants]:
            raise InputError(
                f"Line {number} of {source} has a name that is not a single word, or that another line has too."
            )
        grants.append(Grant(fields[0], fields[1], fields[2]))
    return grants


def read_grants(path: str) -> list[Grant]:
    """The grants of the tokens file at `path`; `InputError` where it cannot be read or has a bad line."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_grants(file.read(), path)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text in UTF-8.") from None
    except OSError as error:
        raise InputError(f"The tokens file {path} cannot be read: {error.strerror}.") from None


def append_grant(path: str, grant: Grant) -> None:
    """Adds a line; a new file is readable by its owner only.

    Raises:
        InputError: the file holds a token of that name, or is damaged, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise InputError(f"The tokens file {path} cannot be written: {error.strerror}.") from None
    with open(descriptor, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two of these at once would both find the name free
        text = file.read()
        if grant.name in [known.name for known in parse_grants(text, path)]:
            raise InputError(f"{path} holds a token named {grant.name} already: remove its line first.")
        file.write(("" if not text or text.endswith("\n") else "\n") + grant.line() + "\n")
