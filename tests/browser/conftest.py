"""Debian's Chromium, driven by Playwright; axe-core looks for what keeps people from using a page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from sead_ray.config import BoardConfig
from sead_ray.errors import InputError
from sead_ray.stages.bench_report import CHROMIUM_ARGS, chromium_path
from serve.board.app import build_board
from tests.board.conftest import runs, tokens  # noqa: F401 - fixtures here, too

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")  # no longer: while it lives, Playwright's event loop runs in this thread
def browser() -> Iterator[Browser]:
    try:
        path = chromium_path()
    except InputError as error:
        pytest.fail(str(error), pytrace=False)
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=[*CHROMIUM_ARGS])
        yield chromium
        chromium.close()


@dataclass
class Watched:
    """A page, and what its console said of errors."""

    page: Page
    width: int
    errors: list[str] = field(default_factory=list)

    def require_sound(self) -> None:
        """No serious violation of accessibility, nothing cut off sideways, no console error so far."""
        violations = Axe().run(self.page).response["violations"]
        serious = [
            (found["id"], [node["html"][:120] for node in found["nodes"]][:3])
            for found in violations
            if found["impact"] in ("serious", "critical")
        ]
        assert serious == []
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width
        assert self.errors == []


@pytest.fixture(params=WIDTHS)
def watched(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Watched]:
    """A fresh page at desktop and at phone width."""
    width, height = WIDTHS[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    context.set_default_timeout(20_000)
    watched = Watched(context.new_page(), width)
    watched.page.on("console", lambda line: watched.errors.append(line.text) if line.type == "error" else None)
    watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
    yield watched
    context.close()


@pytest.fixture
def serve_board() -> Iterator[Callable[..., str]]:
    """serve_board(runs_dir=…, …) -> address of a board that runs until the test ends."""
    servers: list[tuple[Any, threading.Thread]] = []

    def start(**settings: Any) -> str:
        app = build_board(BoardConfig(**settings))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)
