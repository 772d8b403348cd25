"""The selection stage on a finished run: other strategies on its scores, exclusions, budgets, explanations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from jobs.cli import run_job
from jobs.select_clips import SelectClipsConfig, job
from sead_ray.config import RunConfig, SelectConfig
from sead_ray.errors import InputError
from sead_ray.schemas import FEATURE_SCHEMA, SCORE_SCHEMA
from sead_ray.selection import NEEDS_LABELLED
from sead_ray.stages import layout
from sead_ray.stages.features import extract_start_features
from sead_ray.stages.plan import describe_plan
from sead_ray.stages.rounds import buy
from sead_ray.stages.score import read_scores, score_pool
from sead_ray.stages.select import explain_clip, read_pool, read_selection, scoring_scope, select_round
from sead_ray.storage import Store


@pytest.fixture
def begun(loop_run: Store, loop_config: RunConfig, tmp_path: Path) -> tuple[Store, RunConfig]:
    """The loop's run with round 1 scored and nothing bought in it; `_with` changes how it selects."""
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS, layout.selection(0), layout.model(0), layout.scores(1)):
        shutil.copytree(loop_run.path(folder), run.path(folder), copy_function=lambda a, b: Path(b).hardlink_to(a))
    return run, loop_config.model_copy(update={"run_dir": run.root})


def _with(config: RunConfig, **select) -> RunConfig:
    return config.model_copy(update={"select": config.select.model_copy(update=select)})


def test_the_loops_selection_comes_out_again(begun: tuple[Store, RunConfig], loop_run: Store) -> None:
    run, config = begun
    assert select_round(run, config, 1, read_pool(run, config)) == read_selection(loop_run, 1)


@pytest.mark.parametrize("name", ["random", "sead", "activead", "weighted"])
def test_strategies_that_score_the_rest_only(begun: tuple[Store, RunConfig], name: str) -> None:
    run, config = begun
    rows = select_round(run, _with(config, incremental=name), 1, read_pool(run, config))
    assert len(rows) == 3
    assert not {row.clip_token for row in rows} & {row.clip_token for row in read_selection(run, 0)}
    assert all(row.stratum and row.round == 1 for row in rows)


def test_labelled_clips_are_scored_and_marked_where_their_features_count(
    begun: tuple[Store, RunConfig], loop_run: Store, ray_cluster: None
) -> None:
    run, config = begun
    run.remove(layout.scores(1))
    config = _with(config, incremental="coreset", shift="bev")
    scope = scoring_scope(run, config, 1)
    assert scope["exclude"] == set()
    score_pool(run, config, 1, layout.model(0), **scope)
    scores, before = read_scores(run, 1), read_scores(loop_run, 1)
    bought = {row.clip_token for row in read_selection(run, 0)}
    assert len(scores) == 9
    assert {token for token, score in scores.items() if not score.selectable} == bought
    for token, score in before.items():
        assert scores[token].shift_sum == pytest.approx(score.shift_sum, rel=1e-4)
        assert score.shift_sum == pytest.approx(score.shift_agents_sum + score.shift_map_sum)
        assert (score.shift_bev, score.shift_bev_sum) == ([], None)
        assert scores[token].shift_bev_sum == pytest.approx(sum(scores[token].shift_bev))
        assert scores[token].shift_bev_sum > 0
    pool = read_pool(run, config)
    for name in sorted(NEEDS_LABELLED):
        rows = select_round(run, _with(config, incremental=name, vaal_steps=3), 1, pool)
        assert len({row.clip_token for row in rows} - bought) == 3


def test_start_features_serve_activeft_and_vaal_on_images(
    begun: tuple[Store, RunConfig], loop_run: Store, tmp_path: Path, ray_cluster: None
) -> None:
    run, config = begun
    extract_start_features(run, config)
    rows = list(run.iter_rows(layout.FEATURES_FILE, FEATURE_SCHEMA))
    assert len(rows) == 9
    assert {len(row["embedding"]) for row in rows} == {64}  # channels of the last stage that this backbone gives
    assert {len(row["front_image"]) for row in rows} == {32 * 32 * 3}
    assert len({row["front_image"] for row in rows}) > 1
    pool = read_pool(run, config)
    later = _with(config, incremental="activeft", activeft_steps=5)
    images = _with(config, incremental="vaal", vaal_input="front_image", vaal_steps=2)
    bought = {row.clip_token for row in read_selection(run, 0)}
    for changed in (later, images):
        assert not {row.clip_token for row in select_round(run, changed, 1, pool)} & bought
    # the job extracts them itself, and finds the same
    other = Store(str(tmp_path / "first"))
    for folder in (layout.CLIPS, layout.LABELS):
        shutil.copytree(loop_run.path(folder), other.path(folder), copy_function=lambda a, b: Path(b).hardlink_to(a))
    first = _with(config, initial="activeft", activeft_steps=5).model_copy(update={"run_dir": other.root})
    assert "2 clips, 16 frames" in job(SelectClipsConfig.model_validate({**first.model_dump(), "round": 0}))
    assert "ActiveFT" in read_selection(other, 0)[0].reason
    again = list(other.iter_rows(layout.FEATURES_FILE, FEATURE_SCHEMA))
    np.testing.assert_allclose([r["embedding"] for r in again], [r["embedding"] for r in rows], rtol=1e-4, atol=1e-6)


def test_excluded_and_quarantined_clips_are_never_bought(begun: tuple[Store, RunConfig]) -> None:
    run, config = begun
    pool = read_pool(run, config)
    first, second, *_ = (row.clip_token for row in select_round(run, config, 1, pool))
    run.write_json(layout.QUARANTINE, [second])
    changed = _with(config, exclude=[first])
    tokens = {row.clip_token for row in select_round(run, changed, 1, pool)}
    assert len(tokens) == 3
    assert not tokens & {first, second}
    buy(run, changed, 1, pool)
    assert "select.exclude names it" in explain_clip(run, changed, 1, pool, first)
    assert "quarantined" in explain_clip(run, changed, 1, pool, second)
    with pytest.raises(InputError, match="exclude names clip nobody"):
        select_round(run, _with(config, exclude=["nobody"]), 1, pool)
    run.write_json(layout.QUARANTINE, 5)
    with pytest.raises(InputError, match="JSON list of clip tokens"):
        select_round(run, config, 1, pool)


def test_random_frames_buys_what_the_matched_run_bought(begun: tuple[Store, RunConfig], loop_run: Store) -> None:
    run, config = begun
    pool = read_pool(run, config)
    changed = _with(config, incremental="random_frames", match_run=loop_run.root)
    rows = select_round(run, changed, 1, pool)
    assert sum(row.n_frames_bought for row in rows) == sum(row.n_frames_bought for row in read_selection(loop_run, 1))
    with pytest.raises(InputError, match=r"needs select\.match_run"):
        select_round(run, _with(config, incremental="random_frames"), 1, pool)


def test_a_budget_in_frames(begun: tuple[Store, RunConfig]) -> None:
    run, config = begun
    select = SelectConfig(rounds=[16, 27], amounts="count", budget_in="frames", incremental="random")
    config = config.model_copy(update={"select": select})
    rows = select_round(run, config, 1, read_pool(run, config))
    assert sum(row.n_frames_bought for row in rows) == 11
    assert "16" in describe_plan(config)


def test_a_clip_that_misses_its_score_stops_the_round(begun: tuple[Store, RunConfig]) -> None:
    run, config = begun
    rows = list(run.iter_rows(layout.scores_file(1), SCORE_SCHEMA))
    run.remove(layout.scores(1))
    run.write_table(layout.scores_file(1), rows[1:], SCORE_SCHEMA)
    run.publish(layout.scores(1), {"n_clips": len(rows) - 1})
    with pytest.raises(InputError, match=f"Clip {rows[0]['clip_token']} of the pool has no score"):
        select_round(run, config, 1, read_pool(run, config))


def test_explain_from_the_command_line(
    loop_run: Store, loop_config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = read_pool(loop_run, loop_config)
    first, second = read_selection(loop_run, 0), read_selection(loop_run, 1)
    bought = {row.clip_token for row in (*first, *second)}
    left = next(clip.clip_token for clip in pool.clips if clip.clip_token not in bought)

    def answer(token: str) -> str:
        settings = {**loop_config.model_dump(), "round": 1, "explain": token}
        return job(SelectClipsConfig.model_validate(settings))

    assert "was bought in round 0" in answer(first[0].clip_token)
    assert f"was taken in round 1, rank 1 of 3: {second[0].reason}" in answer(second[0].clip_token)
    why = answer(left)
    assert "was not taken in round 1 (sead): feature shift" in why
    assert f"the last of 3 taken has {second[-1].score:.4g}" in why
    with pytest.raises(InputError, match="holds no clip nobody"):
        answer("nobody")
    with pytest.raises(SystemExit):
        run_job("", job, describe_plan, ["--explain"], schema=SelectClipsConfig)
    assert "explain" in capsys.readouterr().err
