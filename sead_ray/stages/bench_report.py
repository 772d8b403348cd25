"""How large the report of a large pool is, how long it takes to write, and how soon a browser has it ready for use."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.geometry import Pose
from sead_ray.records import Camera, Clip, ClipScore, Command, Frame, Selection
from sead_ray.report import write_report
from sead_ray.schemas import CLIP_SCHEMA, SCHEMA_VERSION, SCORE_SCHEMA, SELECTION_SCHEMA
from sead_ray.stages import layout
from sead_ray.storage import Store

FRAMES, BOUGHT_SHARE = 40, 0.1
BEHAVIOURS = ("straight", "left", "right", "overtake")
PLACES = ("boston-seaport", "singapore-onenorth", "singapore-queenstown", "singapore-hollandvillage")
CHROMIUM_VARIABLE = "SEAD_CHROMIUM"
CHROMIUM_ARGS = ("--no-sandbox", "--disable-dev-shm-usage")  # pages of our own, also in a container
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


def made_up_run(run: Store, n_clips: int, seed: int = 0) -> RunConfig:
    """A run folder with so many clips of 40 frames and the selections of two rounds; its images do not exist."""
    rng = np.random.default_rng(seed)
    config = RunConfig.model_validate({"run_dir": run.root, "select": {"rounds": [BOUGHT_SHARE, 2 * BOUGHT_SHARE]}})
    run.write_json(layout.CONFIG, config.model_dump(mode="json"))
    frames = _frames()
    run.write_groups(layout.CLIPS_FILE, _clip_groups(n_clips, frames, rng), CLIP_SCHEMA)
    run.publish(layout.CLIPS, {"pool_clips": n_clips})
    tokens = [f"{number:032x}" for number in rng.permutation(n_clips)]
    n_bought = max(1, int(n_clips * BOUGHT_SHARE))
    shifts = np.sort(rng.gamma(4.0, 0.1, n_clips - n_bought))[::-1]
    run.write_table(
        layout.scores_file(1), (_score(*pair, rng).to_row() for pair in zip(tokens[n_bought:], shifts)), SCORE_SCHEMA
    )
    run.publish(layout.scores(1), {})
    for number, strategy in enumerate(("stratified", "sead")):
        bought = tokens[number * n_bought : (number + 1) * n_bought]
        rows = (
            Selection(number, token, 5, 17, rank, float(shifts[rank - 1]) if number else None, "DS-N",
                      f"Rank {rank} of the round; frames 5 to 16 of 40 are its longest run of key frames.", 12)
            for rank, token in enumerate(bought, 1)
        )  # fmt: skip
        run.write_table(layout.selection_file(number), (row.to_row() for row in rows), SELECTION_SCHEMA)
        run.publish(layout.selection(number), {"strategy": strategy})
    return config


def _frames() -> list[dict[str, Any]]:
    """Rows of a clip's frames, the same in all clips."""
    still = Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    camera = Camera("CAM_FRONT", "samples/none.jpg", 1600, 900, 0, np.eye(3), still, still)
    frames = tuple(
        Frame(f"frame-{index}", 500_000 * index, still, still, np.zeros(18), Command.STRAIGHT, (camera,))
        for index in range(FRAMES)
    )
    facts = ("", "", "", "", "pool", "", False, False, "straight", 0.0, 0.0, "can")
    return Clip(*facts, frames).to_row()["frames"]


def _clip_groups(n_clips: int, frames: list[dict[str, Any]], rng: np.random.Generator) -> Iterator[pa.Table]:
    for start in range(0, n_clips, 1000):
        yield pa.Table.from_pylist(
            [
                {
                    "schema_version": SCHEMA_VERSION,
                    "clip_token": f"{number:032x}",
                    "name": f"scene-{number:05d}",
                    "log_token": f"log-{number % 500}",
                    "location": PLACES[number % 4],
                    "split": "pool",
                    "description": "Parked cars, wait at crossing, turn",
                    "is_night": bool(rng.random() < 0.12),
                    "is_rainy": bool(rng.random() < 0.2),
                    "behaviour": BEHAVIOURS[int(rng.integers(4))],
                    "acc_std_mps2": float(rng.gamma(2, 0.3)),
                    "yaw_sum_rad": float(rng.gamma(1, 0.4)),
                    "dynamics_source": "can",
                    "frames": frames,
                }
                for number in range(start, min(start + 1000, n_clips))
            ],
            CLIP_SCHEMA,
        )


def _score(token: str, shift: float, rng: np.random.Generator) -> ClipScore:
    parts = np.full(FRAMES - 1, shift / (FRAMES - 1))
    is_key = [5 <= index < 17 for index in range(FRAMES)]
    return ClipScore(
        token, "made-up", "ok", "", FRAMES, 0.5, (0.6 * parts).tolist(), (0.4 * parts).tolist(), FRAMES - 1,
        float(shift), float(parts[0]), rng.uniform(2, 40, FRAMES).tolist(), is_key, 5, 12, 0.9,
        shift_agents_sum=0.6 * float(shift), shift_map_sum=0.4 * float(shift), plan_m=[0.0, 1.0] * 6,
    )  # fmt: skip


def measure_report(run: Store, n_clips: int) -> str:
    """Makes the run up, writes its report, and opens that in a browser where there is one; says what it took."""
    config = made_up_run(run, n_clips)
    started = time.monotonic()
    path = write_report(run, config.data.root, config)
    seconds = time.monotonic() - started
    written = f"{path}: {n_clips:,} clips, {os.path.getsize(path) / 1e6:.1f} MB, written in {seconds:.1f} s."
    return f"{written}\n{browser_line(path)}"


def browser_line(path: str) -> str:
    """What a browser took for the page, in words; or why it was not asked."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return "No browser was asked: install the extra dev, which brings playwright."
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium_path(), args=[*CHROMIUM_ARGS])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        ready_s, sort_s, filter_s = interaction_times(page, f"file://{path}")
        version = browser.version
        browser.close()
    return (
        f"Chromium {version}: the table takes clicks after {ready_s:.2f} s, sorting takes {sort_s:.2f} s, "
        f"filtering {filter_s:.2f} s."
    )


def interaction_times(page: Any, address: str) -> tuple[float, float, float]:
    """Seconds from the request until a first click on a column has sorted the table; of another sort; of a filter."""
    started = time.monotonic()
    page.goto(address, wait_until="commit")
    page.locator("th[data-column=score] button").click()
    page.locator("th[data-column=score][aria-sort=ascending]").wait_for()
    ready_s = time.monotonic() - started
    started = time.monotonic()
    page.locator("th[data-column=reason] button").click()
    page.locator("th[data-column=reason][aria-sort=ascending]").wait_for()
    sort_s = time.monotonic() - started
    started = time.monotonic()
    page.locator("#clip-filters input[name=text]").fill("scene-00042")
    page.locator("#clip-count").filter(has_text=re.compile("^1 of ")).wait_for()
    return ready_s, sort_s, time.monotonic() - started


def chromium_path() -> str:
    """The browser to drive.

    Raises:
        InputError: there is none; says what to install.
    """
    found = os.environ.get(CHROMIUM_VARIABLE) or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if not found or not os.access(found, os.X_OK):
        raise InputError(
            f"Chromium is not installed: `apt-get install chromium` (Debian), or name one in {CHROMIUM_VARIABLE}."
        )
    return found
