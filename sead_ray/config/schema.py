"""What every section is made of: a frozen schema that refuses unknown keys, and types that several sections share."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


def _split(value: Any) -> Any:
    """A name, or a list of names; on the command line a list is JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"a list of scene names must be JSON ({error})") from None
    if isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value):
        return list(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError("must be the name of a split, the path of a file of scene names, or a list of scene names")


# Any, since pydantic-settings would make a list of every string that is given for a union with lists.
Split = Annotated[Any, BeforeValidator(_split)]  # str | list[str]
NoSplit = Annotated[Any, BeforeValidator(lambda value: None if value is None else _split(value))]


Labels = dict[str, str]  # of Ray's nodes: {"ray.io/market-type": "spot"}, {"ray.io/accelerator-type": "in(H100, A100)"}
Resources = dict[str, Annotated[float, Field(gt=0)]]  # custom ones, of `ray start --resources`


def _workers(value: Any) -> Any:
    """A number, or [least, most]; on the command line the list is JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise ValueError(f"must be a number or [least, most], not {value!r}") from None
    bounds = list(value) if isinstance(value, (list, tuple)) else [value, value]
    if len(bounds) != 2 or any(type(bound) is not int for bound in bounds) or not 1 <= bounds[0] <= bounds[1]:
        raise ValueError(f"must be a number from 1 on, or [least, most] with 1 <= least <= most, not {value!r}")
    return bounds if isinstance(value, (list, tuple)) else value


Workers = Annotated[Any, BeforeValidator(_workers)]  # int | list[int]
