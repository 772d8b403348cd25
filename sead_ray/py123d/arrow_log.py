"""One log of py123d: a folder of Arrow files, one for each modality, and `sync.arrow`: what belongs together.

As written by py123d 0.7.0: every file's schema carries its modality's metadata as msgpack under `metadata`; columns are
named `<modality>.<field>`; `sync.arrow` has a UUID and a time stamp a row, and a row number in each modality's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.storage import Store

EGO, BOXES, MAP = "ego_state_se3", "box_detections_se3", "map"


@dataclass(frozen=True)
class ArrowLog:
    """A log at `key`, `logs/<split>/<name>`. Files are read where they are asked for."""

    store: Store
    key: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def path(self, modality: str) -> str:
        return self.store.path(self.file(modality))

    def file(self, modality: str) -> str:
        """Key of a modality's file below the data root."""
        return f"{self.key}/{modality}.arrow"

    @cached_property
    def modalities(self) -> list[str]:
        return [name.removesuffix(".arrow") for name in self.store.list(self.key, ".arrow")]

    def metadata(self, modality: str = "sync") -> dict[str, Any]:
        """What the file says of its sensor; of `sync`: of the log.

        Raises:
            InputError: there is no such file, it has no metadata, or msgpack is not installed.
        """
        packed = (self.store.arrow_file(self.file(modality)).schema.metadata or {}).get(b"metadata")
        if packed is None:
            raise InputError(f"{self.path(modality)} has no metadata of py123d.")
        return _unpacked(packed, self.path(modality))

    def columns(self, modality: str, fields: list[str]) -> pa.Table:
        """The columns `<modality>.<field>`, named by field.

        Raises:
            InputError: there is no such file, or it lacks one of them.
        """
        reader = self.store.arrow_file(self.file(modality), [f"{modality}.{field}" for field in fields])
        return reader.read_all().select([f"{modality}.{field}" for field in fields]).rename_columns(fields)

    @cached_property
    def sync(self) -> pa.Table:
        """`timestamp_us`, `uuid`, and the row number in each modality's file, null where it has no observation."""
        reader = self.store.arrow_file(self.file("sync"))
        table = reader.read_all()
        table = table.rename_columns([name.removeprefix("sync.") for name in table.column_names])
        if missing := sorted({"timestamp_us", "uuid"} - set(table.column_names)):
            raise InputError(f"{self.path('sync')} has no column sync.{missing[0]}.")
        times = table.column("timestamp_us").to_numpy()
        if len(backwards := np.flatnonzero(np.diff(times) <= 0)):
            raise InputError(f"Time goes backwards in {self.path('sync')} at {times[backwards[0] + 1]}.")
        return table

    def rows(self, modality: str) -> NDArray[np.int64]:
        """Row number in the modality's file of each row of `sync`, -1 where there is none."""
        if modality not in self.sync.column_names:
            return np.full(len(self.sync), -1, np.int64)
        numbers = self.sync.column(modality).to_pylist()
        return np.array([-1 if number is None else number for number in numbers], np.int64)


def _unpacked(packed: bytes, path: str) -> dict[str, Any]:
    try:
        import msgpack
    except ImportError:
        raise InputError("data.format=py123d needs msgpack: pip install 'sead-ray[py123d]'.") from None
    try:
        metadata = msgpack.unpackb(packed, raw=False, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise InputError(f"{path} has metadata that is not msgpack ({error}).") from None
    if not isinstance(metadata, dict):
        raise InputError(f"{path} has metadata that is not a map.")
    return metadata
