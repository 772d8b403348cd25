"""JSON lines in the run folder: `tracking/params.json`, and `tracking/round_NN.jsonl`, a file a round, so that it can
lie in a bucket, and is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sead_ray.storage import Store
from sead_ray.tracking.tracker import RoundRecord

FOLDER = "tracking"


class JsonLines:
    name = "jsonl"

    def __init__(self, run: Store) -> None:
        self._run = run

    def params(self, values: Mapping[str, Any]) -> None:
        self._run.write_json(f"{FOLDER}/params.json", dict(values))

    def live(self, number: int, step: int, values: Mapping[str, float]) -> None:
        """Nothing: a file in a bucket cannot grow, and the round's own will hold every logged step."""

    def round(self, record: RoundRecord) -> None:
        rows: list[dict[str, Any]] = [{"kind": "step", "step": step, **values} for step, values in record.steps]
        rows.append({"kind": "round", **record.metrics})
        rows.append({"kind": "checkpoint", **vars(record.checkpoint)})
        lines = [json.dumps({"round": record.number, **row}) for row in rows]
        self._run.write_bytes(f"{FOLDER}/round_{record.number:02d}.jsonl", ("\n".join(lines) + "\n").encode())

    def close(self) -> None:
        pass
