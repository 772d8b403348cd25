"""A run folder belongs to one configuration; what does not change results may change on a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.rounds import _FREE_KEYS, bought_frames, claim_config
from sead_ray.storage import Store
from tests.hand_made import make_selection


@pytest.fixture
def run(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    claim_config(store, RunConfig())
    return store


def with_key(key: str, value: Any) -> RunConfig:
    values = RunConfig().model_dump()
    *groups, name = key.split(".")
    inner = values
    for group in groups:
        inner = inner[group]
    assert name in inner
    inner[name] = value
    return RunConfig.model_validate(values)


def test_the_same_configuration_goes_on(run: Store) -> None:
    before = run.read_bytes(layout.CONFIG)
    claim_config(run, RunConfig())
    assert run.read_bytes(layout.CONFIG) == before
    assert RunConfig.model_validate(run.read_json(layout.CONFIG)) == RunConfig()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.num_workers", 4),
        ("train.gpus_per_worker", 0.5),
        ("train.cache_gib", 0.0),
        ("score.max_actors", 8),
        ("score.clips_per_batch", 1),
        ("evaluate.max_actors", 3),
        ("labels.delivery", "/inbox"),
        ("run_dir", "moved"),
        ("notice", "hello"),
    ],
)
def test_resources_and_places_may_change(run: Store, key: str, value: Any) -> None:
    config = with_key(key, value)
    claim_config(run, config)
    assert run.read_json(layout.CONFIG) == config.model_dump(mode="json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("data.version", "v1.0-mini"),
        ("image.width", 320),
        ("model.preset", "vad_nano"),
        ("model.overrides", {"embed_dim": 32}),
        ("train.epochs", 3),
        ("train.global_batch", 4),
        ("score.theta_distance_m", 6.0),
        ("select.key_frames", False),
        ("labels.mode", "wait"),
        ("select.rounds", [0.2, 0.3, 0.4]),
        ("select.rounds", [0.1, 0.2, 0.4]),
        ("select.rounds", [0.1, 0.2]),
        ("select.rounds", [0.1, 0.15, 0.2, 0.3]),
    ],
)
def test_what_changes_results_is_refused_by_its_dotted_key(run: Store, key: str, value: Any) -> None:
    before = run.read_bytes(layout.CONFIG)
    with pytest.raises(InputError) as caught:
        claim_config(run, with_key(key, value))
    message = str(caught.value)
    assert f" {key}" in message
    assert run.root in message
    assert "\n" not in message
    assert run.read_bytes(layout.CONFIG) == before


def test_the_budget_may_be_extended_and_stays_extended(run: Store) -> None:
    claim_config(run, with_key("select.rounds", [0.1, 0.2, 0.3, 0.4]))
    assert run.read_json(layout.CONFIG)["select"]["rounds"] == [0.1, 0.2, 0.3, 0.4]
    with pytest.raises(InputError, match=r"select\.rounds"):
        claim_config(run, RunConfig())


def test_every_free_key_exists() -> None:
    values = RunConfig().model_dump()
    for group, names in _FREE_KEYS.items():
        assert group in values
        assert set(names or ()) <= set(values[group] if names else ())


def test_bought_frames_are_the_runs_of_clips_that_have_any() -> None:
    selections = [make_selection("a", 2, 5), make_selection("b", 0, 0), make_selection("c", 0, 1)]
    assert bought_frames(selections) == {"a": [2, 3, 4], "c": [0]}
    assert bought_frames([]) == {}


def test_auto_precision_goes_with_any_and_others_do_not_mix(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    claim_config(run, with_key("train.precision", "fp32"))
    claim_config(run, with_key("train.precision", "auto"))  # another machine, whatever suits it
    claim_config(run, with_key("train.precision", "bf16"))
    with pytest.raises(InputError, match=r"train\.precision"):
        claim_config(run, with_key("train.precision", "fp32"))


def test_a_folder_from_before_a_setting_goes_on_with_its_default(run: Store) -> None:
    before = run.read_json(layout.CONFIG)
    del before["train"]["deterministic"]
    run.write_json(layout.CONFIG, before)
    claim_config(run, RunConfig())
    with pytest.raises(InputError, match=r"train\.deterministic"):
        claim_config(run, with_key("train.deterministic", True))
