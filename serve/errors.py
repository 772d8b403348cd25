"""What a client can be told."""

from __future__ import annotations


class ApiError(Exception):
    """A request that is answered with `status`, one sentence, and the path of the culprit."""

    def __init__(self, status: int, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
