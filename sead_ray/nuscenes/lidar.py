"""Where the lidar sweeps of key frames lie. Clips do not hold them: no model of ours reads a point."""

from __future__ import annotations

from collections.abc import Collection

from sead_ray.nuscenes.tables import LIDAR, partner, read_rows, read_table
from sead_ray.storage import Store


def lidar_keys(store: Store, version: str, frame_tokens: Collection[str]) -> dict[str, str]:
    """Path below the data root of each frame's LIDAR_TOP sweep, by frame (sample) token.

    Raises:
        InputError: a missing or damaged table.
    """
    sensors = read_table(store, version, "sensor")
    calibrated = read_table(store, version, "calibrated_sensor")
    lidars = {
        token
        for token, row in calibrated.items()
        if partner(sensors, "sensor", row["sensor_token"], f"calibrated_sensor {token}")["channel"] == LIDAR
    }
    rows = read_rows(
        store,
        version,
        "sample_data",
        lambda row: (
            row["is_key_frame"] and row["calibrated_sensor_token"] in lidars and row["sample_token"] in frame_tokens
        ),
    )
    return {row["sample_token"]: row["filename"] for row in rows}
