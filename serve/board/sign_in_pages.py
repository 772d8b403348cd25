"""Signing in and out with a token of jobs.make_token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from serve.board.access import COOKIE
from serve.board.pages import Pages


def sign_in_router(pages: Pages) -> APIRouter:
    router = APIRouter()

    @router.get("/sign_in")
    def ask(request: Request, target: str = "/") -> Response:
        return pages.render(request, "sign_in.html.j2", problem="", target=_own(target))

    @router.post("/sign_in")
    def sign_in(
        request: Request, token: Annotated[str, Form(max_length=200)], target: Annotated[str, Form()] = "/"
    ) -> Response:
        cookie = pages.access.sign_in(token.strip())
        if cookie is None:
            problem = "This token is not known, or no longer."
            return pages.render(request, "sign_in.html.j2", 401, problem=problem, target=_own(target))
        response = RedirectResponse(_own(target), 303)
        secure = pages.access.is_secure or request.url.scheme == "https"
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=secure, path="/")
        return response

    @router.post("/sign_out")
    def sign_out(request: Request, form_key: Annotated[str, Form()] = "") -> Response:
        pages.access.require_own_form(request, form_key)
        pages.access.sign_out(request)
        response = RedirectResponse("/", 303)
        response.delete_cookie(COOKIE, path="/")
        return response

    return router


def _own(target: str) -> str:
    """A path of this board, never another site's address."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_path and target.isprintable() and "\\" not in target else "/"
