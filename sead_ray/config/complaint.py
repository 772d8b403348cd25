"""What pydantic finds wrong with a configuration, in our words."""

from __future__ import annotations

from pydantic import ValidationError


def complaint(error: ValidationError, file: str | None = None) -> str:
    """The first of pydantic's complaints as one sentence that names the key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f" in {file}" if file else ""
    if first["type"] == "extra_forbidden":
        return f"Unknown configuration key {key}{where}."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # a rule over several keys, which it names
        return f"Configuration{where}: {message}."
    return (
        f"Configuration key {key or '(top level)'}{where}: {message[:1].lower()}{message[1:]} (got {first['input']!r})."
    )
