"""The benchmark's tables, of the rounds that are evaluated so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sead_ray.config import RunConfig, SelectConfig
from sead_ray.report.benchmark import CellRound, Row, figure_5, table_1, table_2, table_3
from sead_ray.report.benchmark_plots import figure
from sead_ray.report.benchmark_text import TITLES, markdown
from sead_ray.report.rounds import evaluation_of, rounds_table
from sead_ray.stages import layout
from sead_ray.stages.benchmark_cells import Cell, cell_config
from sead_ray.storage import Store


def write_tables(root: Store, config: RunConfig, cells: Sequence[Cell]) -> dict[str, list[Row]]:
    """Parquet, Markdown and SVG of every table, from the rounds that are evaluated so far."""
    found = [row for cell in cells for row in cell_rounds(root, config, cell)]
    tables = {
        "table_1": table_1(found),
        "table_2": table_2(found),
        "table_3": table_3(found),
        "figure_5": figure_5(found),
    }
    root.write_bytes("tables/rounds.parquet", _parquet([_flat(row) for row in found]))
    for name, rows in tables.items():
        root.write_bytes(f"tables/{name}.parquet", _parquet(rows))
        root.write_bytes(f"tables/{name}.md", markdown(name, rows, config.model.preset).encode())
        root.write_bytes(f"tables/{name}.svg", figure(name, rows).encode())
    assert set(tables) == set(TITLES)
    return tables


def cell_rounds(root: Store, config: RunConfig, cell: Cell) -> list[CellRound]:
    """The evaluated rounds of a cell."""
    run, mine = root.below(cell.folder), cell_config(root, config, cell)
    if not run.is_published(layout.CLIPS):
        return []
    found = []
    for row in rounds_table(run):
        report = evaluation_of(run, row.round)
        if report is not None and row.round < len(mine.select.rounds):
            percent = _percent(mine.select, row.round, run)
            found.append(
                CellRound(
                    cell.arm, mine.seed, row.round, percent, 100 * row.frames_share, row.l2_m, row.collision_percent,
                    report["slices"],
                )
            )  # fmt: skip
    return found


def _percent(select: SelectConfig, number: int, run: Store) -> float:
    """The budget after a round, in percent of the pool, as it was set (not as rounding made it)."""
    amount = select.rounds[number]
    if select.amounts == "count":
        facts = run.manifest(layout.CLIPS)
        return round(100 * amount / facts["pool_clips" if select.budget_in == "clips" else "pool_frames"], 2)
    return round(amount * (100 if select.amounts == "share" else 1), 6)


def _flat(row: CellRound) -> dict[str, Any]:
    flat: dict[str, Any] = {name: getattr(row, name) for name in ("arm", "seed", "round", "percent", "frames_percent")}
    for metric in ("l2_m", "collision_percent"):
        flat |= {f"{metric}_{horizon}": value for horizon, value in getattr(row, metric).items()}
    for column, values in row.slices.items():
        flat |= {f"{column.lower().replace(' ', '_')}_{name}": value for name, value in values.items()}
    return flat


def _parquet(rows: Sequence[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink, compression="zstd")
    return sink.getvalue().to_pybytes()
