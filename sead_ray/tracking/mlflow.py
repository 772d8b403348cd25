"""MLflow: one run a run folder, found again by its tag, so that a restarted driver goes on in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from sead_ray.config import TrackConfig
from sead_ray.storage import Store
from sead_ray.tracking.tracker import RoundRecord

RUN_TAG = "sead_ray.run"
MAX_PARAMS, MAX_METRICS = 100, 1000  # of one call
MAX_VALUE = 500  # characters of a parameter that every server takes


class MLflow:
    name = "mlflow"

    def __init__(self, run: Store, config: TrackConfig) -> None:
        self._run, self._config = run, config
        self._client = MlflowClient(config.mlflow_uri)  # None: MLFLOW_TRACKING_URI
        self._id: str | None = None

    def params(self, values: Mapping[str, Any]) -> None:
        """A parameter of MLflow never changes: those of a run that goes on are the first ones."""
        known = self._client.get_run(self._run_id).data.params
        new = [Param(key, str(value)[:MAX_VALUE]) for key, value in values.items() if key not in known]
        for part in _parts(new, MAX_PARAMS):
            self._client.log_batch(self._run_id, params=part)

    def live(self, number: int, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(f"round_{number:02d}/live/{name}", value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def round(self, record: RoundRecord) -> None:
        """Metrics of steps carry the round in their names, since each round's steps begin anew."""
        now = int(time.time() * 1000)
        prefix = f"round_{record.number:02d}"
        metrics = [
            Metric(f"{prefix}/{name}", value, now, step)
            for step, values in record.steps
            for name, value in values.items()
        ]
        metrics += [Metric(name, value, now, record.number) for name, value in record.metrics.items()]
        for part in _parts(metrics, MAX_METRICS):
            self._client.log_batch(self._run_id, metrics=part)
        facts = vars(record.checkpoint)
        tag = RunTag(f"checkpoint.{prefix}", f"{facts['version']} {facts['location']}")
        self._client.log_batch(self._run_id, tags=[tag])
        self._client.log_dict(self._run_id, {**facts, "files": dict(facts["files"])}, f"checkpoints/{prefix}.json")
        if self._config.upload_models:
            self._upload(record, prefix)

    def close(self) -> None:
        if self._id:
            self._client.set_terminated(self._id)

    def _upload(self, record: RoundRecord, prefix: str) -> None:
        model = Store(record.checkpoint.location)
        for name in record.checkpoint.files:
            with model.local_copy(name) as folder:
                self._client.log_artifact(self._run_id, str(folder / name), f"checkpoints/{prefix}")

    @property
    def _run_id(self) -> str:
        if self._id is None:
            self._id = self._found() or self._created()
            self._client.update_run(self._id, status="RUNNING")
        return self._id

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._config.experiment)
        return found.experiment_id if found else self._client.create_experiment(self._config.experiment)

    def _found(self) -> str | None:
        runs = self._client.search_runs([self._experiment()], f"tags.`{RUN_TAG}` = '{self._run.root}'", max_results=1)
        return runs[0].info.run_id if runs else None

    def _created(self) -> str:
        name = self._run.root.rstrip("/").rpartition("/")[2]
        return self._client.create_run(self._experiment(), tags={RUN_TAG: self._run.root}, run_name=name).info.run_id


def _parts(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
