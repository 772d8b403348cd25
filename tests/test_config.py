"""The settings: frozen, complete defaults from the paper, nothing unknown accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from sead_ray.config import RunConfig, Schema, SelectConfig, ServeConfig
from sead_ray.config.reference import markdown

CONFIGS = sorted((Path(__file__).parent.parent / "jobs" / "configs").glob("*.yaml"))


def schemas(model: type[BaseModel] = RunConfig) -> list[type[BaseModel]]:
    inner = [field.annotation for field in model.model_fields.values()]
    nested = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [model, *(deep for kind in nested for deep in schemas(kind))]


def test_there_are_configurations() -> None:
    assert {"demo.yaml", "nuscenes_sead.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_validate_and_survive_json(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    config = RunConfig.model_validate(values)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_defaults_are_the_papers() -> None:
    config = RunConfig()
    assert config.select.rounds == [0.1, 0.2, 0.3]
    assert config.select.valuable_ratio == pytest.approx(1 / 3)
    assert (config.score.theta_confidence, config.score.theta_distance_m) == (0.5, 5.0)
    assert (config.train.epochs, config.train.global_batch) == (20, 8)
    assert (config.train.learning_rate, config.train.weight_decay) == (2e-4, 0.01)


@pytest.mark.parametrize("schema", [*schemas(), ServeConfig], ids=lambda schema: schema.__name__)
def test_every_schema_is_frozen_and_refuses_unknown_keys(schema: type[BaseModel]) -> None:
    assert issubclass(schema, Schema)
    with pytest.raises(ValidationError, match="extra_forbidden"):
        schema.model_validate({"no_such_key": 1})
    value = schema()
    name = next(iter(schema.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, name, getattr(value, name))


@pytest.mark.parametrize("rounds", [[], [0.2, 0.1], [0.1, 0.1], [0.0, 0.1], [0.5, 1.1], [-0.1]])
def test_rounds_must_grow_within_the_pool(rounds: list[float]) -> None:
    with pytest.raises(ValidationError, match="rounds"):
        SelectConfig(rounds=rounds)


def test_the_whole_pool_may_be_bought() -> None:
    assert SelectConfig(rounds=[0.5, 1.0]).rounds == [0.5, 1.0]


def test_the_reference_is_of_these_schemas() -> None:
    page = (CONFIGS[0].parents[2] / "docs" / "configuration.md").read_text()
    assert page == markdown(), "run `make docs`"
