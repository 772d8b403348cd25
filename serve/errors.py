"""What a client can be told."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """A request that is answered with `status`, one sentence, the path of the culprit, and HTTP headers."""

    def __init__(
        self, status: int, detail: str, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers


def busy(detail: str, retry_after_s: int = 5) -> ApiError:
    """429: the client may come again after `retry_after_s` seconds."""
    return ApiError(429, detail, headers={"Retry-After": str(retry_after_s)})
