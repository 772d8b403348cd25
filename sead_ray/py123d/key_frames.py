"""Which rows of a log become key frames, half a second apart as VAD knows them, and where it is cut into clips."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.py123d.arrow_log import ArrowLog
from sead_ray.py123d.trajectory import Trajectory

INTERVAL_US = 500_000
MIN_FRAMES = 2  # a shift needs two


def clip_rows(
    log: ArrowLog, trajectory: Trajectory, image_rows: Mapping[str, NDArray[np.int64]], clip_frames: int
) -> list[list[int]]:
    """Rows of `sync` of each clip. A row counts where the ego's pose and all six images are there.

    Args:
        image_rows: a camera's modality -> the row of its image for each row of `sync`, -1 where there is none.

    Raises:
        InputError: the log yields no clip; names the log and what it lacks most.
    """
    times = log.sync.column("timestamp_us").to_numpy()
    usable = np.all([*(rows >= 0 for rows in image_rows.values()), trajectory.covers(times)], axis=0)
    clips = [
        run[start : start + clip_frames]
        for run in half_second_runs(times, np.flatnonzero(usable))
        for start in range(0, len(run), clip_frames)
    ]
    clips = [rows for rows in clips if len(rows) >= MIN_FRAMES]
    if not clips:
        n_images = {modality: int((rows >= 0).sum()) for modality, rows in image_rows.items()}
        rarest = min(n_images, key=lambda modality: n_images[modality])
        raise InputError(
            f"Log {log.name} yields no clip: of its {len(times)} rows {int(usable.sum())} have an ego pose and six "
            f"images ({rarest}, the rarest camera, {n_images[rarest]}), and no two lie half a second apart."
        )
    return clips


def half_second_runs(timestamp_us: NDArray[np.int64], rows: NDArray[np.int64]) -> list[list[int]]:
    """The rows nearest to half a second after each other; a new run begins where none lies within 0.25 to 0.75 s."""
    runs: list[list[int]] = []
    times = timestamp_us[rows]
    position = 0
    while position < len(rows):
        run = [position]
        while True:
            wanted = times[run[-1]] + INTERVAL_US
            near = int(np.clip(np.searchsorted(times, wanted), run[-1] + 1, len(times)))
            options = [index for index in (near - 1, near) if run[-1] < index < len(times)]
            best = min(options, key=lambda index: abs(times[index] - wanted), default=None)
            if best is None or abs(times[best] - wanted) >= INTERVAL_US / 2:
                break
            run.append(best)
        runs.append([int(rows[index]) for index in run])
        position = run[-1] + 1
    return runs
