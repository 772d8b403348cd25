from __future__ import annotations

from collections.abc import Callable

from sead_ray.stages import layout
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store
from tests.browser.conftest import Watched


def test_from_the_runs_to_a_clip(watched: Watched, serve_board: Callable[..., str], runs: Store):
    page, address = watched.page, serve_board(runs_dir=runs.root)
    page.goto(address)
    watched.require_sound()
    page.get_by_role("link", name="demo", exact=True).click()
    page.get_by_role("heading", name="demo", level=1).wait_for()
    watched.require_sound()
    page.get_by_role("link", name="Report").click()
    page.get_by_label("Search").fill("clip08")
    page.get_by_role("button", name="scene-0008").click()
    page.get_by_role("link", name="Open the clip").click()
    page.get_by_role("heading", name="scene-0008", level=1).wait_for()
    watched.require_sound()


def test_two_runs_are_compared(watched: Watched, serve_board: Callable[..., str], runs: Store):
    page = watched.page
    page.goto(serve_board(runs_dir=runs.root))
    page.get_by_role("navigation").get_by_role("link", name="Compare").click()
    page.get_by_label("First").select_option("demo")
    page.get_by_label("Second").select_option("group/other")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Settings that differ").wait_for()
    assert "seed" in page.locator("main").inner_text()
    watched.require_sound()


def test_an_admin_signs_in_and_promotes_a_model(
    watched: Watched,
    serve_board: Callable[..., str],
    runs: Store,
    tokens: dict[str, str],
):
    page, run = watched.page, runs.below("demo")
    page.goto(serve_board(runs_dir=runs.root, tokens_file=tokens["path"]) + "/runs/demo")
    page.get_by_role("link", name="sign in", exact=True).click()
    watched.require_sound()
    page.get_by_label("Token").fill(tokens["admin"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Promote the model of round 1").click()
    page.get_by_text("served", exact=True).wait_for()
    assert Registry(run).current().round == 1
    page.get_by_role("button", name="Promote the model of round 2").click()
    page.get_by_role("button", name="Roll back to model-1").click()
    page.get_by_role("button", name="Promote the model of round 2").wait_for()
    assert Registry(run).current().model_version == "model-1"
    watched.require_sound()


def test_a_round_in_progress_moves_by_itself(watched: Watched, serve_board: Callable[..., str], runs: Store):
    page, run = watched.page, runs.below("group/other")
    with driver_lock(run):
        run.write_json(layout.train_progress(1), {"step": 30, "steps": 120, "loss": 2.5})
        page.goto(serve_board(runs_dir=runs.root) + "/runs/group--other")
        bar = page.get_by_role("progressbar", name="This stage")
        assert bar.evaluate("bar => bar.value / bar.max") == 0.25
        watched.require_sound()
        run.write_json(layout.train_progress(1), {"step": 90, "steps": 120, "loss": 1.5})
        page.get_by_text("90 of 120 steps, loss 1.500").wait_for()
        assert bar.evaluate("bar => bar.value / bar.max") == 0.75
    assert watched.errors == []
