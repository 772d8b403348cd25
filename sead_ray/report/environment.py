"""Jinja, set up once for the report and for the board: everything that is not marked as markup is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2

from sead_ray.report.rounds import NOTHING, number


def environment(*packages: str) -> jinja2.Environment:
    """Templates of this package, and of `packages` before it (each with a folder `templates`)."""
    loaders: Sequence[jinja2.BaseLoader] = [jinja2.PackageLoader(package) for package in (*packages, "sead_ray.report")]
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["number"] = number
    made.filters["percent"] = lambda share: NOTHING if share is None else f"{100 * share:.1f} %"
    shared: dict[str, Any] = made.globals  # the stubs know no other values than Jinja's own
    shared["nothing"] = NOTHING
    return made
