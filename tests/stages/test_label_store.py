"""Labels: the oracle's, or those that annotators delivered, complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sead_ray.config import LabelConfig, RunConfig
from sead_ray.errors import InputError, LabelsPending
from sead_ray.schemas import LABEL_SCHEMA, SCHEMA_VERSION
from sead_ray.stages import layout
from sead_ray.stages.label_store import (
    labelled_frames,
    read_labels,
    requested_frames,
    require_delivery,
    write_request,
)
from sead_ray.storage import Store
from tests.hand_made import make_labels, make_selection

WAIT = RunConfig(labels=LabelConfig(mode="wait"))
FRAMES = {"clip-a": ["a0", "a1"], "clip-b": ["b3"]}


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """A run whose own labels hold the val clip's only, as in `labels.mode: wait`."""
    store = Store(str(tmp_path / "run"))
    rows = [make_labels(f"v{index}", "val").to_row() for index in range(3)]
    store.write_table(layout.LABELS_FILE, rows, LABEL_SCHEMA)
    return store


def deliver(store: Store, name: str, frames: dict[str, list[str]], version: int = SCHEMA_VERSION) -> None:
    rows = [make_labels(token, clip).to_row() for clip, tokens in frames.items() for token in tokens]
    store.write_table(name, [{**row, "schema_version": version} for row in rows], LABEL_SCHEMA)


def test_only_the_wanted_frames_are_read(run: Store) -> None:
    found = read_labels(run, RunConfig(), {"v0", "v2"}, {"val"})
    assert found.keys() == {"v0", "v2"}
    assert found["v2"].frame_token == "v2"
    assert len(found["v2"].annotations) == 2


def test_frames_with_labels_are_told_from_those_without(run: Store) -> None:
    deliver(run.below(layout.LABELS_IN), "some.parquet", {"clip-a": ["a0"]})
    assert labelled_frames(run, WAIT, {"v0", "a0", "a1"}) == {"v0", "a0"}
    assert labelled_frames(run, RunConfig(), {"v0", "a0", "a1"}) == {"v0"}


def test_a_frame_without_labels_is_named(run: Store) -> None:
    with pytest.raises(InputError, match=r"2 frame\(s\) have no labels, the first is a0\.") as caught:
        read_labels(run, RunConfig(), {"v0", "b3", "a0"}, {"val", "clip-a", "clip-b"})
    assert "\n" not in str(caught.value)


def test_the_request_says_what_to_label_and_where_to_put_it(run: Store) -> None:
    write_request(run, WAIT, 1, FRAMES)
    request = run.read_json(layout.label_request(1))
    assert request == {
        "round": 1,
        "n_clips": 2,
        "n_frames": 3,
        "deliver_to": run.path(layout.LABELS_IN),
        "clips": FRAMES,
    }


def test_only_bought_frames_are_requested() -> None:
    tokens = {"clip-a": ["a0", "a1", "a2", "a3"], "clip-b": ["b0", "b1"]}
    selections = [make_selection("clip-a", 1, 3), make_selection("clip-b", 0, 0)]
    assert requested_frames(selections, tokens) == {"clip-a": ["a1", "a2"]}


def test_it_waits_until_every_frame_came_in_however_many_files(run: Store) -> None:
    write_request(run, WAIT, 1, FRAMES)
    delivery = run.below(layout.LABELS_IN)

    def pending() -> str:
        with pytest.raises(LabelsPending) as caught:
            require_delivery(run, WAIT, 1)
        return caught.value.request

    assert pending() == run.path(layout.label_request(1))
    deliver(delivery, "first.parquet", {"clip-a": ["a0"]})
    delivery.write_bytes("notes.txt", b"b3 is blurred")
    delivery.write_bytes("second.parquet.tmp", b"half of a file")
    pending()
    deliver(delivery, "second.parquet", {"clip-a": ["a1"], "clip-c": ["not requested"]})
    pending()
    deliver(delivery, "third.parquet", {"clip-b": ["b3"]})
    require_delivery(run, WAIT, 1)
    wanted = {"a0", "a1", "b3", "v1"}
    assert read_labels(run, WAIT, wanted, {"clip-a", "clip-b", "val"}).keys() == wanted


def test_the_delivery_folder_may_be_elsewhere(run: Store, tmp_path: Path) -> None:
    config = RunConfig(labels=LabelConfig(mode="wait", delivery=str(tmp_path / "inbox")))
    write_request(run, config, 0, FRAMES)
    assert run.read_json(layout.label_request(0))["deliver_to"] == str(tmp_path / "inbox")
    deliver(run.below(layout.LABELS_IN), "elsewhere.parquet", FRAMES)
    with pytest.raises(LabelsPending):
        require_delivery(run, config, 0)
    deliver(Store(str(tmp_path / "inbox")), "all.parquet", FRAMES)
    require_delivery(run, config, 0)


def test_the_oracle_neither_waits_nor_reads_deliveries(run: Store) -> None:
    require_delivery(run, RunConfig(), 0)
    deliver(run.below(layout.LABELS_IN), "all.parquet", FRAMES)
    with pytest.raises(InputError, match="a0"):
        read_labels(run, RunConfig(), {"a0"}, {"clip-a"})


def test_a_delivery_of_a_newer_schema_is_refused(run: Store) -> None:
    write_request(run, WAIT, 0, FRAMES)
    deliver(run.below(layout.LABELS_IN), "new.parquet", FRAMES, version=SCHEMA_VERSION + 1)
    for read in (lambda: require_delivery(run, WAIT, 0), lambda: read_labels(run, WAIT, {"a0"}, {"clip-a"})):
        with pytest.raises(InputError, match=r"labels_in/new\.parquet has schema version"):
            read()


def test_a_delivery_that_is_no_parquet_is_named(run: Store) -> None:
    write_request(run, WAIT, 0, FRAMES)
    run.write_bytes(f"{layout.LABELS_IN}/broken.parquet", b"frame_token,category\n")
    with pytest.raises(InputError, match=r"labels_in/broken\.parquet is not a readable Parquet file"):
        require_delivery(run, WAIT, 0)
