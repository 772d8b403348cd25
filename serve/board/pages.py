"""What every page of the board shares: the runs, who asks, and how a template becomes an answer."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from sead_ray.report import render_report
from sead_ray.report.environment import environment
from sead_ray.storage import Store
from serve.board.access import Access
from serve.board.shelf import Run, Shelf
from serve.errors import ApiError

REPORTS_KEPT = 4


class Pages:
    """Templates, and the reports that were rendered lately."""

    def __init__(self, shelf: Shelf, access: Access) -> None:
        self.shelf, self.access = shelf, access
        self._templates = environment("serve.board")
        self._reports: dict[str, tuple[object, str]] = {}
        self._turn = threading.Lock()

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.text(request, template, **values), status)

    def text(self, request: Request, template: str, **values: Any) -> str:
        grant = self.access.grant(request)
        who = {
            "signed_in_as": grant.name if grant else "",
            "is_admin": bool(grant and grant.allows("admin")),
            "form_key": self.access.form_key(request),
            "is_open": self.access.is_open,
        }
        return self._templates.get_template(template).render(**who, **values)

    def reader(self, request: Request) -> None:
        """A dependency of every page that shows something."""
        self.access.require(request, "score")

    def run(self, slug: str) -> Run:
        """Raises `ApiError` 404 where there is none."""
        run = self.shelf.get(slug)
        if run is None:
            raise ApiError(404, "There is no such run.")
        return run

    def report(self, run: Run) -> str:
        """The run's report as it stands; rendered once for as long as no stage is published."""
        stamp = self.shelf.stamp(run)
        with self._turn:
            known = self._reports.pop(run.slug, None)
            if known is None or known[0] != stamp:
                config = run.config()
                known = stamp, render_report(run.store, config.data.root, config, board=f"/runs/{run.slug}")
            self._reports[run.slug] = known
            while len(self._reports) > REPORTS_KEPT:
                self._reports.pop(next(iter(self._reports)))
        return known[1]

    @staticmethod
    def data_of(run: Run) -> Store:
        return Store(run.config().data.root)
