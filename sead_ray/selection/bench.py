"""Selection at the size of a fleet, measured: `sead` on streamed scores, k-centre, and scikit-activeml beside it."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sead_ray.config import Schema
from sead_ray.records import Selection
from sead_ray.schemas import SCORE_SCHEMA, SELECTION_SCHEMA
from sead_ray.selection.budget import Budget
from sead_ray.selection.coreset import greedy_k_center
from sead_ray.selection.pool import Pool
from sead_ray.selection.sead import select as sead
from sead_ray.storage import Store

CLIPS_A_FILE = 1_000_000


class SelectionBench(Schema):
    """What `jobs.bench_selection` measures."""

    folder: str = "bench/selection"
    """Where the made-up scores are written (about 120 bytes a clip); reused where they are complete."""
    clips: int = 10_000_000
    share: float = 0.01
    embeddings: int = 100_000
    channels: int = 256
    picks: int = 1_000
    baseline_embeddings: int = 3_000
    """Pool on which scikit-activeml's CoreSet runs too; it keeps all pairwise distances."""
    baseline_picks: int = 100
    threads: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """One line of the answer. `peak_mib` is the whole process, Python and its libraries included."""

    what: str
    size: str
    picks: int
    seconds: float
    peak_mib: float


def run_bench(bench: SelectionBench) -> list[Measured]:
    """Each measurement in a process of its own, so that its peak memory is its own."""
    store = Store(bench.folder)
    write_scores(store, bench.clips, bench.seed)
    n_selected = round(bench.clips * bench.share)
    size = f"{bench.embeddings:,} x {bench.channels}"
    small = f"{bench.baseline_embeddings:,} x {bench.channels}"
    lines = [
        _measure("sead, streamed scores", f"{bench.clips:,} clips", n_selected, bench, _time_sead),
        _measure("coreset", size, bench.picks, bench, _time_coreset),
        _measure("coreset", small, bench.baseline_picks, bench, _time_small_coreset),
    ]
    if importlib.util.find_spec("skactiveml") is not None:
        lines.append(_measure("scikit-activeml CoreSet", small, bench.baseline_picks, bench, _time_scikit_activeml))
    return lines


def format_bench(lines: list[Measured], bench: SelectionBench) -> str:
    rows = [("", "pool", "picks", "seconds", "peak MiB")]
    rows += [(m.what, m.size, f"{m.picks:,}", f"{m.seconds:.1f}", f"{m.peak_mib:.0f}") for m in lines]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    text = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]) for row in rows]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    text.append(f"{bench.threads} threads; distances on {device}; load average {os.getloadavg()[0]:.1f}.")
    if len(lines) == 3:
        text.append("scikit-activeml is not installed: pip install scikit-activeml to have its CoreSet beside ours.")
    return "\n".join(text)


def write_scores(store: Store, clips: int, seed: int) -> None:
    """Scores of so many made-up clips below `scores/`: the real schema, lists empty, a heavy-tailed shift."""
    name = f"scores-{clips}-{seed}"
    if store.is_published(name):
        return
    for start in range(0, clips, CLIPS_A_FILE):
        table = _fake_scores(min(CLIPS_A_FILE, clips - start), np.random.default_rng([seed, start]))
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=131_072)
        store.write_bytes(f"{name}/part-{start // CLIPS_A_FILE:04d}.parquet", sink.getvalue().to_pybytes())
    store.publish(name, {"clips": clips})


def _fake_scores(n: int, rng: np.random.Generator) -> pa.Table:
    digits = rng.bytes(16 * n).hex()
    length = rng.integers(0, 12, n)
    shift = rng.gamma(2.0, 10.0, n)
    known: dict[str, Any] = {
        "schema_version": np.full(n, 2),
        "clip_token": [digits[i * 32 : i * 32 + 32] for i in range(n)],
        "model_version": ["0123456789ab"] * n,
        "status": np.where(rng.random(n) < 0.001, "failed", "ok").tolist(),
        "n_frames": np.full(n, 40),
        "n_transitions": np.full(n, 39),
        "shift_sum": shift,
        "shift_mean": shift / 39,
        "key_start": rng.integers(0, 20, n),
        "key_length": length,
        "selectable": rng.random(n) < 0.9,
    }
    empty = {field.name: pa.nulls(n, field.type) for field in SCORE_SCHEMA if field.name not in known}
    columns = {
        field.name: empty[field.name] if field.name in empty else pa.array(known[field.name], field.type)
        for field in SCORE_SCHEMA
    }
    return pa.table(columns, schema=SCORE_SCHEMA)


def _measure(
    what: str, size: str, picks: int, bench: SelectionBench, work: Callable[[SelectionBench], float]
) -> Measured:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_in_process, args=(sender, bench, work))
    process.start()
    sender.close()
    try:
        seconds, peak_mib = receiver.recv()
    except EOFError:
        raise RuntimeError(f"measuring {what} on {size} ended without an answer") from None
    finally:
        process.join()
    return Measured(what, size, picks, seconds, peak_mib)


def _in_process(sender: Any, bench: SelectionBench, work: Callable[[SelectionBench], float]) -> None:
    pa.set_cpu_count(bench.threads)
    pa.set_io_thread_count(bench.threads)
    torch.set_num_threads(bench.threads)
    seconds = work(bench)
    sender.send((seconds, _peak_mib()))


def _peak_mib() -> float:
    """Largest resident memory of this process alone: `ru_maxrss` would bring the parent's along through the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _time_sead(bench: SelectionBench) -> float:
    """Reading, ranking, reasons, and the selection's own Parquet file."""
    started = time.perf_counter()
    store = Store(bench.folder)
    name = f"scores-{bench.clips}-{bench.seed}"
    files = [f"{name}/{file}" for file in store.list(name, suffix=".parquet")]
    pool = Pool.from_dataset(store.dataset(files, SCORE_SCHEMA), round=1)
    rows = sead(pool, Budget(clips=round(bench.clips * bench.share)), np.random.default_rng(0))
    store.write_table("selection.parquet", _as_rows(rows), SELECTION_SCHEMA)
    return time.perf_counter() - started


def _as_rows(rows: list[Selection]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield row.to_row()


def _embeddings(n: int, bench: SelectionBench) -> np.ndarray:
    return np.random.default_rng(bench.seed).standard_normal((n, bench.channels), np.float32)


def _time_coreset(bench: SelectionBench) -> float:
    return _time_k_center(_embeddings(bench.embeddings, bench), bench.picks)


def _time_small_coreset(bench: SelectionBench) -> float:
    return _time_k_center(_embeddings(bench.baseline_embeddings, bench), bench.baseline_picks)


def _time_k_center(features: np.ndarray, picks: int) -> float:
    started = time.perf_counter()
    greedy_k_center(features, features[:0], picks, np.random.default_rng(0))
    return time.perf_counter() - started


def _time_scikit_activeml(bench: SelectionBench) -> float:
    features = _embeddings(bench.baseline_embeddings, bench)
    strategy = importlib.import_module("skactiveml.pool").CoreSet(random_state=0)
    started = time.perf_counter()
    strategy.query(features, np.full(len(features), np.nan), batch_size=bench.baseline_picks)
    return time.perf_counter() - started
