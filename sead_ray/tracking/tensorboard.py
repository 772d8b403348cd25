"""TensorBoard: a folder a round for its training's curves, which then lie over each other, and one for the rounds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tensorboardX import SummaryWriter

from sead_ray.tracking.tracker import RoundRecord


class TensorBoard:
    name = "tensorboard"

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._live: dict[int, SummaryWriter] = {}

    def params(self, values: Mapping[str, Any]) -> None:
        text = yaml.safe_dump(dict(values))
        self._write("settings", lambda writer: writer.add_text("settings", f"```\n{text}\n```", 0))

    def live(self, number: int, step: int, values: Mapping[str, float]) -> None:
        """Into a folder of its own, which goes once the round's is there."""
        if number not in self._live:
            self._live[number] = SummaryWriter(str(self._folder / _live_name(number)), flush_secs=5)
        for name, value in values.items():
            self._live[number].add_scalar(name, value, step)

    def round(self, record: RoundRecord) -> None:
        def write_steps(writer: SummaryWriter) -> None:
            for step, values in record.steps:
                for name, value in values.items():
                    writer.add_scalar(name, value, step)

        def write_metrics(writer: SummaryWriter) -> None:
            for name, value in record.metrics.items():
                writer.add_scalar(name, value, record.number)
            writer.add_text("checkpoint", f"{record.checkpoint.version}: {record.checkpoint.location}", record.number)

        self._write(f"round_{record.number:02d}", write_steps)
        self._write("rounds", write_metrics, f".round_{record.number:02d}")
        if record.number in self._live:
            self._live.pop(record.number).close()
        shutil.rmtree(self._folder / _live_name(record.number), ignore_errors=True)

    def close(self) -> None:
        for writer in self._live.values():
            writer.close()

    def _write(self, name: str, write: Any, suffix: str = ".all") -> None:
        """One event file anew, beside those of other suffixes in its folder, which make one curve with it."""
        folder = self._folder / name
        for old in folder.glob(f"events.*{suffix}"):
            old.unlink()
        writer = SummaryWriter(str(folder), filename_suffix=suffix)
        try:
            write(writer)
        finally:
            writer.close()


def _live_name(number: int) -> str:
    return f"live_round_{number:02d}"
