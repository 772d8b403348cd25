"""The Ray Data part that preparation and verification share: scenes → tasks → small answers.

A task holds one scene, so memory is bounded by a scene and a killed worker loses one. Tasks, not actors: the next
job finds its worker processes warm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext, TaskPoolStrategy

from sead_ray.config import PrepareConfig
from sead_ray.stages.cluster import connect, on_nodes
from sead_ray.stages.diagnosis import is_timeout, stuck

Work = Callable[..., dict[str, Any]]  # (scene, *arguments) -> answer, both flat rows


def run_scenes(
    work: Work, arguments: Sequence[Any], scenes: Sequence[dict[str, Any]], size: PrepareConfig
) -> Iterator[dict[str, Any]]:
    """Yields `work(scene, *arguments)` of each of `scenes`, in the order in which they end.

    Raises:
        InputError: no scene was finished for `prepare.no_progress_timeout_s`, with what was waited for.
    """
    if not scenes:
        return
    connect()
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = size.no_progress_timeout_s
    n_workers = min(size.max_workers or max(1, int(ray.cluster_resources().get("CPU", 1))), len(scenes))
    # Any: Ray's stubs know no function of map_batches that takes arguments.
    source: Any = ray.data.from_arrow(pa.Table.from_pylist(list(scenes)))
    answers = source.repartition(target_num_rows_per_block=1).map_batches(
        _work_on,
        fn_args=[work, list(arguments)],
        batch_size=1,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=n_workers),
        num_cpus=size.cpus_per_worker,
        **on_nodes(size.labels, size.resources),
    )
    try:
        for table in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_pylist()
    except Exception as error:
        if not is_timeout(error):
            raise
        asked = f"each of {n_workers} tasks asks for {size.cpus_per_worker:g} CPUs"
        raise stuck("No scene was finished", size.no_progress_timeout_s, asked, str(error)) from None


def _work_on(table: pa.Table, work: Work, arguments: list[Any]) -> pa.Table:
    return pa.Table.from_pylist([work(scene, *arguments) for scene in table.to_pylist()])
