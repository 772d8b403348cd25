"""The registry of promotions: what is served, and what a roll-back brings back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sead_ray.config import ImageConfig, ModelConfig, ScoreConfig
from sead_ray.errors import InputError, RunBusyError
from sead_ray.model.vad import build_model
from sead_ray.model.weights import save_model
from sead_ray.stages import layout
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.promote import chosen_model, newest_round
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store

SMALL = {"bev_h": 4, "bev_w": 4, "agent_queries": 4, "map_instances": 4, "embed_dims": 32, "ffn_dims": 32}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three rounds' models, the last one not published."""
    run = Store(str(tmp_path_factory.mktemp("registry") / "run"))
    torch.manual_seed(0)
    for number in range(3):
        model = build_model(ModelConfig(preset="vad_nano", overrides=SMALL))
        info = {"round": number, "image": ImageConfig().model_dump(), "score": ScoreConfig().model_dump()}
        save_model(run, layout.model(number), model, info)
        if number < 2:
            run.publish(layout.model(number), {})
    return run


@pytest.fixture
def registry(models: Store) -> Registry:
    models.remove(layout.SERVING)
    return Registry(models)


def test_nothing_is_promoted_at_first(registry: Registry):
    assert registry.history() == []
    assert registry.current() is None
    with pytest.raises(InputError, match="no earlier model"):
        registry.roll_back()


def test_promotions_and_rollbacks(registry: Registry):
    """Each roll-back goes one promotion further back; a promotion after it begins from there."""
    first, second, third = (registry.promote(layout.model(number)) for number in range(3))
    assert registry.current() == third
    assert registry.roll_back().model_version == second.model_version
    assert registry.roll_back().model_version == first.model_version
    with pytest.raises(InputError, match="no earlier model"):
        registry.roll_back()
    registry.promote(layout.model(2))
    assert registry.roll_back().model_version == first.model_version
    history = registry.history()
    assert [line.number for line in history] == list(range(1, 8))
    assert [line.action for line in history] == [*["promote"] * 3, *["roll_back"] * 2, "promote", "roll_back"]
    assert [line.round for line in history[:3]] == [0, 1, 2]


def test_what_is_served_already_is_not_promoted_again(registry: Registry):
    first = registry.promote(layout.model(0))
    assert registry.promote(layout.model(0)) == first
    assert len(registry.history()) == 1


def test_stamp_tells_of_a_change(registry: Registry):
    first = registry.promote(layout.model(0))
    before = registry.stamp(first.model_version)
    assert registry.stamp(first.model_version) == before
    registry.promote(layout.model(1))
    assert registry.stamp(first.model_version) != before


def test_one_promotion_at_a_time(registry: Registry, models: Store):
    with driver_lock(models.below(layout.SERVING)), pytest.raises(RunBusyError):
        registry.promote(layout.model(0))
    with driver_lock(models):  # a run under way is in nobody's way
        registry.promote(layout.model(0))


@pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 1}', '{"format_version": 9, "promotions": []}'])
def test_a_damaged_registry_is_named(registry: Registry, models: Store, content: str):
    models.write_bytes(layout.PROMOTIONS, content.encode())
    with pytest.raises(InputError, match=r"promotions\.json"):
        registry.current()


class TestChoosing:
    def test_newest_published_round(self, models: Store):
        assert newest_round(models) == 1
        assert chosen_model(models, None, "") == layout.model(1)
        assert chosen_model(models, 0, "") == layout.model(0)

    def test_from_elsewhere_is_copied(self, registry: Registry, models: Store):
        source = models.path(layout.model(2))
        key = chosen_model(models, None, source)
        assert models.read_bytes(f"{key}/weights.safetensors") == models.read_bytes(
            f"{layout.model(2)}/weights.safetensors"
        )
        assert registry.promote(key).key == key

    def test_mistakes(self, models: Store, tmp_path: Path):
        with pytest.raises(InputError, match="one of the two"):
            chosen_model(models, 0, "x")
        with pytest.raises(InputError, match="round 2 has none"):
            chosen_model(models, 2, "")
        with pytest.raises(InputError, match="no published model"):
            chosen_model(Store(str(tmp_path)), None, "")
        with pytest.raises(InputError, match="does not exist"):
            chosen_model(models, None, str(tmp_path))
