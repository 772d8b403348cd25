"""No label leaks: nothing that costs an annotation can change a score, a selection or a foreign target."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from sead_ray.config import LabelConfig, RunConfig
from sead_ray.errors import LabelsPending
from sead_ray.records import FrameLabels
from sead_ray.schemas import LABEL_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.prepare import prepare
from sead_ray.stages.rounds import buy, claim_config
from sead_ray.stages.score import score_pool
from sead_ray.stages.select import bought_before, read_pool
from sead_ray.stages.train_loop import load_dataset
from sead_ray.storage import Store

ANNOTATION_TABLES = ("sample_annotation", "instance", "attribute", "category", "visibility")


def _copy_model(source: Store, target: Store) -> None:
    for name in ("weights.safetensors", "model.json"):
        target.write_bytes(f"{layout.model(0)}/{name}", source.read_bytes(f"{layout.model(0)}/{name}"))
    target.publish(layout.model(0), {})


def _score_and_select(run: Store, config: RunConfig) -> tuple[bytes, bytes]:
    pool = read_pool(run, config)
    buy(run, config, 0, pool)
    taken = {item.clip_token for item in bought_before(run, 1)}
    score_pool(run, config, 1, layout.model(0), exclude=taken)
    buy(run, config, 1, pool)
    return run.read_bytes(layout.scores_file(1)), run.read_bytes(layout.selection_file(1))


def test_scoring_and_selecting_without_annotation_files_gives_the_same_bytes(
    loop_run: Store, loop_config: RunConfig, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(loop_config.data.root, bare, copy_function=lambda src, dst: Path(dst).hardlink_to(src))
    for name in ANNOTATION_TABLES:
        (bare / "v1.0-trainval" / f"{name}.json").unlink()
    config = loop_config.model_copy(
        update={
            "run_dir": str(tmp_path / "run"),
            "data": loop_config.data.model_copy(update={"root": str(bare)}),
            "labels": LabelConfig(mode="wait"),
        }
    )
    run = Store(config.run_dir)
    claim_config(run, config)
    with pytest.raises(Exception, match="sample_annotation"):
        prepare(run, config)  # val's labels are not there; the clips are published before them
    assert run.read_bytes(layout.CLIPS_FILE) == loop_run.read_bytes(layout.CLIPS_FILE)
    _copy_model(loop_run, run)
    scores, selection = _score_and_select(run, config)
    assert selection == loop_run.read_bytes(layout.selection_file(1))
    assert scores == loop_run.read_bytes(layout.scores_file(1))


def test_altering_an_annotation_that_was_not_bought_changes_no_target(
    tiny_run: Store, tiny_config: RunConfig, tmp_path: Path
) -> None:
    pool = read_pool(tiny_run, tiny_config)
    bought = {clip.clip_token: [2, 3, 4] for clip in pool.clips[:3]}
    tokens = {pool.frame_tokens[clip][frame] for clip, frames in bought.items() for frame in frames}
    altered = Store(str(tmp_path / "altered"))
    altered.write_bytes(layout.CLIPS_FILE, tiny_run.read_bytes(layout.CLIPS_FILE))
    rows = [FrameLabels.from_row(row) for row in tiny_run.iter_rows(layout.LABELS_FILE, LABEL_SCHEMA)]
    rows = [labels if labels.frame_token in tokens else _moved(labels) for labels in rows]
    altered.write_table(layout.LABELS_FILE, [labels.to_row() for labels in rows], LABEL_SCHEMA)
    ours = load_dataset(tiny_run, tiny_config, bought, seed=5)
    theirs = load_dataset(altered, tiny_config, bought, seed=5)
    assert len(ours) == 9
    for index in range(len(ours)):
        for name, value in vars(ours[index].targets).items():
            np.testing.assert_array_equal(value, getattr(theirs[index].targets, name), err_msg=name)


def test_altering_a_bought_annotation_does_change_targets(
    tiny_run: Store, tiny_config: RunConfig, tmp_path: Path
) -> None:
    pool = read_pool(tiny_run, tiny_config)
    bought = {pool.clips[0].clip_token: [2, 3, 4]}
    altered = Store(str(tmp_path / "altered"))
    altered.write_bytes(layout.CLIPS_FILE, tiny_run.read_bytes(layout.CLIPS_FILE))
    rows = [_moved(FrameLabels.from_row(row)) for row in tiny_run.iter_rows(layout.LABELS_FILE, LABEL_SCHEMA)]
    altered.write_table(layout.LABELS_FILE, [labels.to_row() for labels in rows], LABEL_SCHEMA)
    ours = load_dataset(tiny_run, tiny_config, bought, seed=5)[0].targets
    theirs = load_dataset(altered, tiny_config, bought, seed=5)[0].targets
    assert len(ours.boxes) != len(theirs.boxes) or (ours.boxes != theirs.boxes).any()


def test_a_waiting_round_goes_on_when_its_labels_are_delivered(
    loop_run: Store, loop_config: RunConfig, tmp_path: Path
) -> None:
    from sead_ray.stages.label_store import read_labels, require_delivery

    config = loop_config.model_copy(update={"run_dir": str(tmp_path / "run"), "labels": LabelConfig(mode="wait")})
    run = Store(config.run_dir)
    prepare(run, config)
    buy(run, config, 0, read_pool(run, config))
    with pytest.raises(LabelsPending):
        require_delivery(run, config, 0)
    request = run.read_json(layout.label_request(0))
    wanted = {token for tokens in request["clips"].values() for token in tokens}
    oracle = loop_run.iter_rows(layout.LABELS_FILE, LABEL_SCHEMA)
    run.write_table(
        f"{layout.LABELS_IN}/batch.parquet", [row for row in oracle if row["frame_token"] in wanted], LABEL_SCHEMA
    )
    require_delivery(run, config, 0)
    assert read_labels(run, config, wanted, set(request["clips"])).keys() == wanted


def _moved(labels: FrameLabels) -> FrameLabels:
    """Every box elsewhere, one fewer, and no map."""
    boxes = [
        dataclasses.replace(item, translation_m=(item.translation_m[0] + 3.0, *item.translation_m[1:]))
        for item in labels.annotations[1:]
    ]
    return dataclasses.replace(labels, annotations=tuple(boxes), map_vectors=())
