"""The configuration reference (docs/configuration.md), written from the schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sead_ray.config.run import RunConfig
from sead_ray.config.serve import ServeConfig

_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_HEAD = """# Configuration reference

Written by `make docs` from the schemas in [`sead_ray/config/`](../sead_ray/config). Every key can stand in a YAML file
(`--config`), or as an option of a job, such as `--train.epochs 10`; an option wins. Unknown keys are refused.
"""


def markdown() -> str:
    """The whole page."""
    parts = [_HEAD, "## A run\n", _table(RunConfig, "", sections=False)]
    for name, field in RunConfig.model_fields.items():
        if section := _section(field):
            parts += [f"## `{name}`: {_first_line(section)}\n", _table(section, f"{name}.")]
    parts += [
        f"## The scoring service: {_first_line(ServeConfig)}\n",
        "Arguments of `serve run serve.app:build key=value …`, or keys of `args` in `serve/config.yaml`.\n",
        _table(ServeConfig, ""),
    ]
    return "\n".join(parts)


def _table(schema: type[BaseModel], prefix: str, sections: bool = True) -> str:
    lines = ["| key | values | default | |", "|---|---|---|---|", *_rows(schema, prefix, sections)]
    return "\n".join(lines) + "\n"


def _rows(schema: type[BaseModel], prefix: str, sections: bool) -> Iterator[str]:
    for name, field in schema.model_fields.items():
        if section := _section(field):
            if sections:
                yield from _rows(section, f"{prefix}{name}.", sections)
            continue
        cells = (f"`{prefix}{name}`", _values(field), f"`{_shown(field.get_default(call_default_factory=True))}`")
        yield f"| {' | '.join(cells)} | {_cell(field.description or '')} |"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _values(field: FieldInfo) -> str:
    """The type in words that a YAML's writer knows, with its bounds."""
    bounds = [
        f"{sign} {bound:g}"
        for item in field.metadata
        for name, sign in _SIGNS.items()
        if (bound := getattr(item, name, None)) is not None
    ]
    return _cell(", ".join([_words(field.annotation), *bounds]))


def _words(kind: Any) -> str:
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(inside[0])
    if origin is Literal:
        return " / ".join(map(str, inside))
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inside))
    if origin is list:
        return f"list of {_words(inside[0])}"
    if origin is dict:
        return f"{_words(inside[0])} → {_words(inside[1])}"
    return {Any: "see right", NoneType: "null"}.get(kind, kind.__name__)


def _shown(value: Any) -> str:
    return json.dumps(round(value, 4) if isinstance(value, float) else value, ensure_ascii=False)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _first_line(schema: type[BaseModel]) -> str:
    return (schema.__doc__ or schema.__name__).strip().splitlines()[0].rstrip(".")


if __name__ == "__main__":
    print(markdown(), end="")
