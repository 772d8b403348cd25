"""Settings of the board."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sead_ray.config.schema import Schema


class BoardConfig(Schema):
    """The board of all runs below a folder."""

    runs_dir: str = "runs"
    """Folder of run folders, local or in a bucket; they may lie up to three folders deep."""
    host: str = "127.0.0.1"
    """Address to listen on. Other machines reach another one than loopback's, and need a token there."""
    port: int = Field(default=8270, ge=0, le=65535)
    """0: any free one, which the board prints."""
    tokens_file: str | None = None
    """Hashes of bearer tokens, made by jobs.make_token. Scope score reads, scope admin also promotes models."""
    auth: Literal["auto", "required"] = "auto"
    """auto: on loopback anybody may read. required: a token is needed there, too, as behind a reverse proxy."""
    tls_cert: str | None = None
    """PEM file of the certificate; with `tls_key` the board speaks HTTPS."""
    tls_key: str | None = None
    session_hours: float = Field(default=12.0, gt=0)
    """How long a browser stays signed in."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> BoardConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key are given together, or not at all")
        return self
