"""Records keep their content through Parquet; the schemas on disk change only on purpose."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from sead_ray import records
from sead_ray.errors import InputError
from sead_ray.schemas import CLIP_SCHEMA, FEATURE_SCHEMA, LABEL_SCHEMA, SCHEMA_VERSION, SCORE_SCHEMA, SELECTION_SCHEMA
from sead_ray.storage import Store
from tests.hand_made import make_clip, make_labels, make_score, make_selection

SCHEMAS = {
    "clips": CLIP_SCHEMA,
    "labels": LABEL_SCHEMA,
    "scores": SCORE_SCHEMA,
    "selection": SELECTION_SCHEMA,
    "features": FEATURE_SCHEMA,
}


def through_parquet(tmp_path: Path, row: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    store = Store(str(tmp_path))
    store.write_table("rows.parquet", [row], schema)
    (back,) = store.iter_rows("rows.parquet", schema)
    return back


def test_clip_survives_parquet(tmp_path: Path) -> None:
    clip = make_clip()
    back = records.Clip.from_row(through_parquet(tmp_path, clip.to_row(), CLIP_SCHEMA))
    np.testing.assert_equal(asdict(back), asdict(clip))
    assert isinstance(back.frames[0].command, records.Command)
    np.testing.assert_array_equal(back.global_from_lidar, clip.global_from_lidar)
    assert back.global_from_lidar.shape == (3, 4, 4)


def test_labels_survive_parquet(tmp_path: Path) -> None:
    labels = make_labels("f0")
    back = records.FrameLabels.from_row(through_parquet(tmp_path, labels.to_row(), LABEL_SCHEMA))
    assert back.annotations == labels.annotations
    np.testing.assert_equal(asdict(back), asdict(labels))


def test_labels_of_an_empty_frame_survive_parquet(tmp_path: Path) -> None:
    labels = records.FrameLabels("f0", "c", 1, (), ())
    assert records.FrameLabels.from_row(through_parquet(tmp_path, labels.to_row(), LABEL_SCHEMA)) == labels


@pytest.mark.parametrize(
    "score", [make_score(), records.ClipScore("c", "v", "failed", "image x is damaged")], ids=["ok", "failed"]
)
def test_score_survives_parquet(tmp_path: Path, score: records.ClipScore) -> None:
    row = through_parquet(tmp_path, score.to_row(), SCORE_SCHEMA)
    assert row.pop("schema_version") == SCHEMA_VERSION
    assert records.ClipScore(**row) == score


def test_selection_survives_parquet(tmp_path: Path) -> None:
    selection = make_selection()
    row = through_parquet(tmp_path, selection.to_row(), SELECTION_SCHEMA)
    del row["schema_version"]
    assert records.Selection(**row) == selection
    assert selection.score is None


def test_a_clip_has_no_place_for_a_label() -> None:
    labelled = {"annotations", "map_vectors", "translation_m", "size_wlh_m", "instance_token", "category"}
    assert not labelled & set(str(CLIP_SCHEMA).replace(":", " ").replace("<", " ").split())
    assert labelled & set(str(LABEL_SCHEMA).replace(":", " ").replace("<", " ").split())


def test_schemas_are_those_of_the_golden_file(repository_root: Path) -> None:
    """Files of older releases must stay readable. Changed on purpose: raise SCHEMA_VERSION, edit the golden file."""
    golden = (repository_root / "tests/golden/schemas.txt").read_text().splitlines()
    now = [f"version {SCHEMA_VERSION}"]
    now += [f"{table}.{field.name}: {field.type}" for table, schema in SCHEMAS.items() for field in schema]
    assert now[1:] == golden[1:], "a schema changed: raise SCHEMA_VERSION and bring tests/golden/schemas.txt up to date"
    assert now[0] == golden[0], "SCHEMA_VERSION changed: bring tests/golden/schemas.txt up to date"


@pytest.fixture
def repository_root() -> Path:
    return Path(__file__).parent.parent


def refusal(tmp_path: Path, table: pa.Table, schema: pa.Schema) -> str:
    store = Store(str(tmp_path))
    store.write_table("rows.parquet", table.to_pylist(), table.schema)
    with pytest.raises(InputError) as caught:
        list(store.iter_rows("rows.parquet", schema))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/rows.parquet ")
    assert message.endswith(".")
    assert "\n" not in message
    return message


def table_of(schema: pa.Schema, row: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([row], schema=schema)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_newer_version_is_refused_even_without_its_columns(tmp_path: Path, name: str) -> None:
    newer = pa.table({"schema_version": pa.array([1, SCHEMA_VERSION + 1], pa.int32())})
    message = refusal(tmp_path, newer, SCHEMAS[name])
    assert f"schema version {SCHEMA_VERSION + 1}" in message
    assert "upgrade" in message


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    table = table_of(SCORE_SCHEMA, make_score().to_row()).drop_columns(["is_key", "shift_sum"])
    message = refusal(tmp_path, table, SCORE_SCHEMA)
    assert "shift_sum, is_key" in message


def test_scores_of_an_older_version_are_read(tmp_path: Path) -> None:
    later = ["shift_agents_sum", "shift_map_sum", "shift_bev", "shift_bev_sum", "selectable", "plan_m"]
    table, store = table_of(SCORE_SCHEMA, make_score().to_row()).drop_columns(later), Store(str(tmp_path))
    store.write_table("rows.parquet", table.to_pylist(), table.schema)
    names = [name for name in SCORE_SCHEMA.names if name != "schema_version"]
    (row,) = store.iter_rows("rows.parquet", SCORE_SCHEMA, columns=names)
    assert records.ClipScore(**row) == make_score()


def test_a_column_missing_inside_an_annotation_is_named(tmp_path: Path) -> None:
    flat = pa.struct([("instance_token", pa.string()), ("category", pa.string())])
    schema = LABEL_SCHEMA.set(4, pa.field("annotations", pa.list_(flat)))
    row = {**make_labels("f0").to_row(), "annotations": [{"instance_token": "i", "category": "vehicle.car"}]}
    message = refusal(tmp_path, table_of(schema, row), LABEL_SCHEMA)
    assert "annotations.category_index" in message
    assert "annotations.category," not in message


def test_a_column_of_another_kind_is_named(tmp_path: Path) -> None:
    schema = SELECTION_SCHEMA.set(3, pa.field("frame_start", pa.string()))
    row = {**make_selection().to_row(), "frame_start": "0"}
    assert "frame_start" in refusal(tmp_path, table_of(schema, row), SELECTION_SCHEMA)


def test_other_widths_and_extra_columns_are_read(tmp_path: Path) -> None:
    """Annotators' tools write plain lists, 64-bit integers and columns of their own."""
    schema = SCORE_SCHEMA.set(5, pa.field("n_frames", pa.int64())).append(pa.field("tool", pa.large_string()))
    row = {**make_score().to_row(), "tool": "x"}
    back = through_parquet(tmp_path, row, schema)
    (read,) = Store(str(tmp_path)).iter_rows("rows.parquet", SCORE_SCHEMA)
    assert read == back


def test_labels_of_version_1_have_no_attribute(tmp_path: Path) -> None:
    schema, row = LABEL_SCHEMA.field("annotations").type.value_type, make_labels("f0").to_row()
    older = pa.struct([field for field in schema if field.name != "attribute"])
    annotations = [{name: item[name] for name in item if name != "attribute"} for item in row["annotations"]]
    table = table_of(
        LABEL_SCHEMA.set(4, pa.field("annotations", pa.list_(older))),
        {**row, "schema_version": 1, "annotations": annotations},
    )
    store = Store(str(tmp_path))
    pa.parquet.write_table(table, store.path("old.parquet"))
    (back,) = store.iter_rows("old.parquet", LABEL_SCHEMA)
    assert records.FrameLabels.from_row(back).annotations == make_labels("f0").annotations
