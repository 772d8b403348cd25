"""The models of a service as its routes see them: which one a request gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Query

from sead_ray.scoring.calibration import Calibration
from sead_ray.wire import ModelInfo
from serve.errors import ApiError
from serve.scorer import Scorer

ModelName = Annotated[
    str | None, Query(alias="model", min_length=1, max_length=64, description="Version of a model of /v1/models")
]


@dataclass(frozen=True)
class Served:
    """A model, and what its scores are compared with. A request keeps the one that it was given."""

    info: ModelInfo
    scorer: Scorer
    calibration: Calibration | None = None


class Models(Protocol):
    """All methods may raise `ApiError` 503 while no model is loaded."""

    async def pick(self, name: str | None) -> Served:
        """The model of that version; None: the present one. Raises `ApiError` 404."""
        ...

    async def all(self) -> Sequence[Served]:
        """The present one first."""
        ...

    async def roll_back(self) -> Served:
        """Brings the model before back. Raises `ApiError` 409 where there is none."""
        ...

    async def promote(self, number: int) -> Served:
        """Serves the model of that round. Raises `ApiError` 404 and 409."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def named(models: Sequence[Served], name: str | None) -> Served:
    for served in models:
        if name in (None, served.info.model_version):
            return served
    raise ApiError(404, "There is no such model here; GET /v1/models names them.", "model")


class OneModel:
    """A model that stays."""

    def __init__(self, scorer: Scorer, calibration: Calibration | None = None) -> None:
        self._scorer, self._calibration = scorer, calibration

    async def all(self) -> list[Served]:
        return [Served(await self._scorer.info(), self._scorer, self._calibration)]

    async def pick(self, name: str | None) -> Served:
        return named(await self.all(), name)

    async def roll_back(self) -> Served:
        raise fixed()

    async def promote(self, number: int) -> Served:
        raise fixed()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


def fixed() -> ApiError:
    return ApiError(409, "This service follows no run: its model stays until it is started with another.")
