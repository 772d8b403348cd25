"""jobs.view_clip on a whole run: the model looks, and a viewer's file comes out."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.view_clip import ViewClipConfig, job, plan
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages.view_clip import find_clip, view_of
from sead_ray.storage import Store


def test_a_clip_is_shown_with_what_the_newest_model_says(
    loop_run: Store, loop_config: RunConfig, tmp_path: Path
) -> None:
    name = find_clip(loop_run, _first_clip(loop_run)).name
    config = ViewClipConfig(**loop_config.model_dump(), clip=name, to="mcap", output=str(tmp_path))
    assert "with the model of round 1" in plan(config)
    assert job(config) == str(tmp_path / f"{name}.mcap")
    assert (tmp_path / f"{name}.mcap").read_bytes().startswith(b"\x89MCAP0")
    views = view_of(loop_run, loop_config, find_clip(loop_run, name), 1)
    assert all(view.plan_m is not None and view.plan_m.shape == (7, 3) for view in views)
    assert all("shift_agents" in view.numbers for view in views[1:])
    assert any(view.labels for view in views)


def test_what_is_not_there_is_named(loop_run: Store, loop_config: RunConfig) -> None:
    with pytest.raises(InputError, match="has no clip scene-9999"):
        plan(ViewClipConfig(**loop_config.model_dump(), clip="scene-9999"))
    with pytest.raises(InputError, match=r"jobs\.view_clip TOKEN"):
        plan(ViewClipConfig(**loop_config.model_dump()))
    with pytest.raises(InputError, match="round 7 has no model"):
        plan(ViewClipConfig(**loop_config.model_dump(), clip=_first_clip(loop_run), round=7))


def _first_clip(run: Store) -> str:
    return next(iter(run.read_json("rounds/00/selection/label_request.json")["clips"]))
