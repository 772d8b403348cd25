"""Pages that show something: the runs, one run, its report, a clip, the fleet's latest clips, two runs compared."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from sead_ray.report.cards import ClipCard, make_card
from sead_ray.report.compare import METRICS, comparison_curve, overlap, round_pairs, settings_that_differ
from sead_ray.report.evaluations import tiles
from sead_ray.report.read import clips_of, scores_of
from sead_ray.report.rounds import HORIZONS, evaluation_of, published_rounds, selection_rows
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store
from serve.board.fleet import fleet_image, latest_clips
from serve.board.model_pages import model_rows
from serve.board.pages import Pages
from serve.board.shelf import Run
from serve.errors import ApiError


def run_router(pages: Pages) -> APIRouter:
    router = APIRouter(dependencies=[Depends(pages.reader)])

    @router.get("/")
    def index(request: Request) -> Response:
        """All runs, with what they are doing."""
        found = [pages.shelf.summary(run) for run in pages.shelf.runs().values()]
        return pages.render(request, "index.html.j2", summaries=found, root=pages.shelf.root.root)

    @router.get("/runs/{slug}")
    def overview(request: Request, slug: str) -> Response:
        """One run: progress, rounds, models."""
        return pages.render(request, "run.html.j2", **_overview(pages, pages.run(slug)))

    @router.get("/runs/{slug}/progress")
    def progress(request: Request, slug: str) -> Response:
        """The progress bars alone, which the page fetches again while the run goes on."""
        summary = pages.shelf.summary(pages.run(slug))
        return pages.render(request, "progress.html.j2", summary=summary)

    @router.get("/runs/{slug}/report")
    def report(slug: str) -> Response:
        policy = {"Content-Security-Policy": "frame-ancestors 'none'"}  # the page has its own, with its script's hash
        return HTMLResponse(pages.report(pages.run(slug)), headers=policy)

    @router.get("/runs/{slug}/clips/{token}")
    def clip(request: Request, slug: str, token: str) -> Response:
        run = pages.run(slug)
        card, number = _card(pages, run, token)
        near_m = run.config().score.theta_distance_m
        return pages.render(request, "clip.html.j2", run=run, card=card, round=number, near_m=near_m)

    @router.get("/runs/{slug}/fleet")
    def fleet(request: Request, slug: str) -> Response:
        run = pages.run(slug)
        return pages.render(request, "fleet.html.j2", run=run, clips=latest_clips(run.store))

    @router.get("/runs/{slug}/fleet/{digest}/{index}.jpg")
    def image(slug: str, digest: str, index: int) -> Response:
        run = pages.run(slug)
        small = fleet_image(run.store, pages.data_of(run), digest, index)
        if small is None:
            raise ApiError(404, "There is no such image.")
        return Response(small, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @router.get("/compare")
    def compare(request: Request, first: str = "", second: str = "") -> Response:
        """Two runs; without two names the form that asks for them."""
        chosen = [pages.run(slug) for slug in (first, second) if slug]
        found = _comparison(pages, *chosen) if len(chosen) == 2 else {}
        runs = list(pages.shelf.runs().values())
        return pages.render(request, "compare.html.j2", runs=runs, first=first, second=second, found=found)

    return router


def _overview(pages: Pages, run: Run) -> dict[str, Any]:
    summary = pages.shelf.summary(run)
    rows = list(summary.rows)
    latest = next((found for row in reversed(rows) if (found := evaluation_of(run.store, row.round))), None)
    registry = Registry(run.store)
    return {
        "run": run,
        "summary": summary,
        "rows": rows,
        "tiles": tiles(rows, latest),
        "horizons": HORIZONS,
        "models": model_rows(run.store, rows),
        "history": list(reversed(registry.history())),
        "previous": registry.previous(),
    }


def _card(pages: Pages, run: Run, token: str) -> tuple[ClipCard, int]:
    """The clip's card, and the round that it is of: the one that bought it, else the last that scored it."""
    clip = clips_of(run.store, {token}).get(token)
    if clip is None:
        raise ApiError(404, "This run has no such clip.")
    config = run.config()
    purchase, score, number = None, None, 0
    for index in published_rounds(run.store):
        if found := scores_of(run.store, index, {token}).get(token):
            score, number = found, index
        bought = [row for row in selection_rows(run.store, index) if row["clip_token"] == token]
        if bought:
            purchase, number = bought[0], index
            break
    delivery = Store(config.labels.delivery) if config.labels.delivery else None
    near_m = config.score.theta_distance_m
    card = make_card(run.store, Store(config.data.root), clip, purchase, score, near_m, "clip", delivery)
    return card, number


def _comparison(pages: Pages, first: Run, second: Run) -> dict[str, Any]:
    rows = list(pages.shelf.rows(first)), list(pages.shelf.rows(second))
    stores = first.store, second.store
    return {
        "runs": (first, second),
        "pairs": round_pairs(*stores, rows),
        "overlap": overlap(*stores, rows),
        "curves": [comparison_curve((first.name, second.name), rows, metric) for metric in METRICS],
        "settings": settings_that_differ(*(run.config().model_dump(mode="json") for run in (first, second))),
    }
