"""Which model is served: promotion and roll-back, for a token with scope admin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from sead_ray.report.rounds import RoundRow
from sead_ray.stages import layout
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store
from serve.board.pages import Pages
from serve.errors import ApiError

FormKey = Annotated[str, Form()]


@dataclass(frozen=True)
class ModelRow:
    """One round's model. `calibrated`: whether percentiles of it are known (jobs.promote_model makes them)."""

    row: RoundRow
    version: str
    status: Literal["served", "promoted before", ""]
    calibrated: bool


def model_rows(run: Store, rows: list[RoundRow]) -> list[ModelRow]:
    """The published models, newest first."""
    registry = Registry(run)
    current, before = registry.current(), {line.model_version for line in registry.history()}
    found = []
    for row in reversed(rows):
        key = layout.model(row.round)
        if not run.is_published(key):
            continue
        version = run.manifest(key).get("model_version", "")
        is_served = current is not None and current.model_version == version
        status = "served" if is_served else "promoted before" if version in before else ""
        found.append(ModelRow(row, version, status, run.exists(layout.calibration(version))))
    return found


def model_router(pages: Pages) -> APIRouter:
    router = APIRouter()

    def changed(request: Request, slug: str, form_key: str) -> Registry:
        """Once the caller may change the run's registry."""
        pages.access.require(request, "admin")
        pages.access.require_own_form(request, form_key)
        return Registry(pages.run(slug).store)

    @router.post("/runs/{slug}/promote")
    def promote(request: Request, slug: str, number: Annotated[int, Form(ge=0)], form_key: FormKey = "") -> Response:
        """Serves round `number`'s model; a running service switches to it."""
        registry = changed(request, slug, form_key)
        if not registry.run.is_published(layout.model(number)):
            raise ApiError(404, f"Round {number} has no published model.")
        registry.promote(layout.model(number))
        return RedirectResponse(f"/runs/{slug}#models", 303)

    @router.post("/runs/{slug}/roll_back")
    def roll_back(request: Request, slug: str, form_key: FormKey = "") -> Response:
        """Brings the model before back."""
        changed(request, slug, form_key).roll_back()
        return RedirectResponse(f"/runs/{slug}#models", 303)

    return router
