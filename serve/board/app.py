"""The board as a FastAPI application: pages made on the server, two forms that change something, little script."""

from __future__ import annotations

import logging
import uuid
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from sead_ray.config import BoardConfig
from sead_ray.errors import InputError, RunBusyError
from sead_ray.storage import Store
from serve.board.access import Access
from serve.board.model_pages import model_router
from serve.board.pages import Pages
from serve.board.run_pages import run_router
from serve.board.shelf import Shelf
from serve.board.sign_in_pages import sign_in_router
from serve.errors import ApiError

POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
}
FILES = {"style.css": "text/css", "board.js": "text/javascript"}

log = logging.getLogger("sead_ray.board")


def build_board(config: BoardConfig) -> FastAPI:
    """The whole application.

    Raises:
        InputError: the folder of runs does not exist; tokens are needed and there are none.
    """
    root = Store(config.runs_dir)
    if root.is_local and not root.exists(""):
        raise InputError(f"The folder of runs {root.root} does not exist: name one with --runs_dir.")
    pages = Pages(Shelf(root), Access(config))
    board = FastAPI(title="sead_ray board", docs_url=None, redoc_url=None, openapi_url=None)
    for router in (run_router(pages), model_router(pages), sign_in_router(pages)):
        board.include_router(router)
    _add_files(board)
    _add_errors(board, pages)

    @board.middleware("http")
    async def _headers(request: Request, proceed: Any) -> Response:
        response = await proceed(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return board


def _add_files(board: FastAPI) -> None:
    style = resources.files("sead_ray.report").joinpath("templates/style.css").read_text("utf-8")
    folder = resources.files("serve.board").joinpath("templates")
    contents = {
        "style.css": style + folder.joinpath("board.css").read_text("utf-8"),
        "board.js": folder.joinpath("board.js").read_text("utf-8"),
    }

    @board.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in contents:
            raise ApiError(404, "There is no such file.")
        return Response(contents[name], media_type=FILES[name], headers={"Cache-Control": "max-age=60"})

    @board.get("/healthz")
    def healthz() -> Response:
        return PlainTextResponse("ok\n")


def _add_errors(board: FastAPI, pages: Pages) -> None:
    """Every failure as a page: a sentence, never a trace."""

    def page(request: Request, status: int, sentence: str) -> Response:
        if status == 401 and request.method == "GET":
            return pages.render(request, "sign_in.html.j2", 401, problem="", target=request.url.path)
        return pages.render(request, "error.html.j2", status, sentence=sentence)

    @board.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> Response:
        return page(request, error.status, error.detail)

    @board.exception_handler(InputError)
    async def _input_error(request: Request, error: InputError) -> Response:
        return page(request, 409, str(error))

    @board.exception_handler(RunBusyError)
    async def _busy(request: Request, error: RunBusyError) -> Response:
        return page(request, 409, str(error))

    @board.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return page(request, 422, f"The address or form is not valid: {error.errors()[0]['loc'][-1]}.")

    @board.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return page(request, error.status_code, f"{error.detail}.")

    @board.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> Response:
        error_id = uuid.uuid4().hex[:12]
        log.error("error_id=%s", error_id, exc_info=error)
        sentence = f"The board failed on this page; its log says more under {error_id}."
        return HTMLResponse(pages.text(request, "error.html.j2", sentence=sentence), 500, headers=HEADERS)
