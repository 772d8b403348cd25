"""A run whose data and run folder lie in a bucket is the same run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.fs as pafs

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.pool_table import read_pool
from sead_ray.stages.rounds import buy, train_round
from sead_ray.stages.score import score_pool
from sead_ray.stages.select import read_selection
from sead_ray.storage import Store


def test_selection_training_and_scoring_give_the_same_bytes(
    loop_run: Store, loop_config: RunConfig, s3_world: str, s3_bucket: str, tmp_path: Path
) -> None:
    """Images, clips, labels, checkpoints and scores go through S3's API; a local run of the same settings beside it."""
    bucket, local = Store(f"{s3_bucket}/loop"), Store(str(tmp_path / "local"))
    for folder in (layout.CLIPS, layout.LABELS):  # that preparation writes the same there: test_prepare
        pafs.copy_files(loop_run.path(folder), bucket.path(folder))
    one_by_one = loop_config.score.model_copy(update={"clips_per_batch": 1})  # batches of two come as they come
    there = loop_config.data.model_copy(update={"root": s3_world})
    remote = loop_config.model_copy(update={"run_dir": bucket.root, "data": there, "score": one_by_one})

    buy(bucket, remote, 0, read_pool(bucket, remote))
    train_round(bucket, remote, 0)
    for file in (layout.selection_file(0), f"{layout.model(0)}/weights.safetensors"):
        assert bucket.read_bytes(file) == loop_run.read_bytes(file), file

    for folder in (layout.CLIPS, layout.selection(0), layout.model(0)):
        shutil.copytree(loop_run.path(folder), local.path(folder))
    for run, config in ((local, loop_config.model_copy(update={"score": one_by_one})), (bucket, remote)):
        bought = {item.clip_token for item in read_selection(run, 0)}
        score_pool(run, config, 1, layout.model(0), exclude=bought)
        buy(run, config, 1, read_pool(run, config))
    for file in (layout.scores_file(1), layout.selection_file(1)):
        assert bucket.read_bytes(file) == local.read_bytes(file), file
