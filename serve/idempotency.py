"""The header by which a request that is sent again is known."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from serve.errors import ApiError

MAX_KEY = 200
IdempotencyKey = Annotated[str | None, Header(description="Sent again, the request changes nothing more.")]


def check_key(key: str | None) -> None:
    if key is not None and not 1 <= len(key) <= MAX_KEY:
        raise ApiError(422, f"An idempotency key has 1 to {MAX_KEY} characters.", "Idempotency-Key")
