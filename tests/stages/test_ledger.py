"""The ledger of finished clips: nothing is lost or doubled, whatever was merged and wherever it was killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sead_ray.stages import ledger as module
from sead_ray.stages.ledger import Ledger
from sead_ray.storage import Store

SCHEMA = pa.schema([("clip_token", pa.string()), ("value", pa.float64())])
N_CLIPS = 240


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred clips are many here."""
    for name, value in {"PARTS_A_RUN": 16, "RUN_GROUP": 8, "SLICE_ROWS": 64, "GROUP_ROWS": 32}.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path)), "parts", SCHEMA)


def tokens_in_any_order() -> list[str]:
    return [f"clip-{number:04d}" for number in np.random.default_rng(0).permutation(N_CLIPS)]


def fill(ledger: Ledger, clips_a_part: int) -> list[str]:
    tokens = tokens_in_any_order()
    for start in range(0, N_CLIPS, clips_a_part):
        some = tokens[start : start + clips_a_part]
        ledger.add([{"clip_token": token, "value": float(token[5:])} for token in some])
    return tokens


def read(ledger: Ledger, tokens: list[str]) -> list[pa.Table]:
    return list(ledger.merged(pa.array(tokens)))


@pytest.mark.parametrize("clips_a_part", [1, 7, N_CLIPS])
def test_what_comes_out_is_sorted_whole_and_the_same_however_it_was_written(ledger: Ledger, clips_a_part: int) -> None:
    tokens = fill(ledger, clips_a_part)
    tables = read(ledger, tokens)
    assert all(len(table) == 32 for table in tables[:-1])  # of equal groups: the file's bytes tell nothing of the way
    rows = pa.concat_tables(tables).to_pylist()
    assert [row["clip_token"] for row in rows] == sorted(tokens)
    assert [row["value"] for row in rows] == list(map(float, range(N_CLIPS)))


def test_parts_become_few_files(ledger: Ledger) -> None:
    tokens = fill(ledger, 2)
    ledger.compact()
    names = ledger.run.list("parts")
    assert sum(name.startswith("run-") for name in names) == 120 // 16
    assert len(names) == 120 // 16 + 120 % 16
    assert sorted(ledger.done().to_pylist()) == sorted(tokens)


def test_a_merge_killed_before_its_parts_were_removed_doubles_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = fill(ledger, 4)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.compact()
    assert set(ledger.done().to_pylist()) == set(tokens)
    assert pa.concat_tables(read(ledger, tokens)).column("clip_token").to_pylist() == sorted(tokens)


def test_a_clip_that_was_done_twice_counts_once_and_a_missing_one_is_an_error(ledger: Ledger) -> None:
    tokens = fill(ledger, 10)
    ledger.add([{"clip_token": tokens[3], "value": float(tokens[3][5:])}])
    assert sum(map(len, read(ledger, tokens))) == N_CLIPS
    assert [row["clip_token"] for row in ledger.rows(tokens[:2])] == sorted(tokens[:2])  # of a part of the clips
    with pytest.raises(RuntimeError, match="lacks 1 of 241"):
        read(ledger, [*tokens, "clip-none"])


def test_parts_are_merged_while_others_are_added(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_EVERY_S", 0.001)
    with ledger.compacting():
        tokens = fill(ledger, 1)
    assert len(ledger.run.list("parts")) < N_CLIPS
    assert pa.concat_tables(read(ledger, tokens)).column("clip_token").to_pylist() == sorted(tokens)


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert len(ledger.done()) == 0
    assert read(ledger, []) == []
