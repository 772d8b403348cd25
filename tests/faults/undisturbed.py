"""The run that every disturbed one is compared with, and folders that begin in the middle of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sead_ray.config import (
    DataConfig,
    ImageConfig,
    ModelConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
    TrainConfig,
    WorldConfig,
)
from sead_ray.stages import layout
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.stages.rounds import buy, claim_config, train_round
from sead_ray.stages.score import score_pool
from sead_ray.stages.select import read_pool, scoring_scope
from sead_ray.storage import Store
from tests.faults.cluster import environment

REPOSITORY = Path(__file__).parents[2]
WORLD = WorldConfig(generate=True, scenes=20, frames=8, image_width=160, image_height=90, val_share=0.1, seed=3)
# Every part of VAD, small enough for seconds on two cores.
MODEL = ModelConfig(
    preset="vad_nano",
    overrides={
        "embed_dims": 32,
        "ffn_dims": 64,
        "backbone_channels": 16,
        "bev_h": 20,
        "bev_w": 10,
        "encoder_layers": 1,
        "agent_queries": 20,
        "map_instances": 10,
    },
)


def fault_config(folder: Path) -> RunConfig:
    """One clip a batch, so that results do not depend on who came together; a checkpoint after every step. Decoders
    have another share of a CPU than actors, else Ray Data would let the actors decode. Kills are many, and shall not
    put a clip into quarantine that they happen to hit again and again."""
    return RunConfig(
        run_dir=str(folder / "run"),
        seed=1,
        data=DataConfig(root=str(folder / "world")),
        world=WORLD,
        image=ImageConfig(width=160),
        model=MODEL,
        train=TrainConfig(
            epochs=2,
            global_batch=4,
            learning_rate=1e-3,
            num_workers=2,
            cpus_per_worker=0.5,
            checkpoint_steps=1,
            deterministic=True,
            max_failures=-1,
        ),
        score=ScoreConfig(
            clips_per_batch=1,
            max_actors=2,
            max_decoders=2,
            cpus_per_decoder=0.25,
            max_attempts=99,
            no_progress_timeout_s=240,
        ),
        select=SelectConfig(rounds=[0.15, 0.4], without_key_frame="keep_clip"),
    )


@dataclass(frozen=True)
class Undisturbed:
    """A run that has come to the second round's purchase."""

    config: RunConfig

    @property
    def run(self) -> Store:
        return Store(self.config.run_dir)

    def begun(self, folder: Path, *stages: str, **train: Any) -> RunConfig:
        """A new run folder in which `stages` (folders of the layout) are published already; `train`: other settings of
        the training."""
        run = Store(str(folder / "run"))
        for stage in (layout.CLIPS, layout.LABELS, *stages):
            shutil.copytree(self.run.path(stage), run.path(stage))
        trained = self.config.train.model_copy(update=train)
        config = self.config.model_copy(update={"run_dir": run.root, "train": trained})
        (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
        return config


def run_undisturbed(folder: Path) -> Undisturbed:
    """A round with its training, the next one's scores and purchase, on the Ray that this process has joined or
    starts."""
    config = fault_config(folder)
    run = Store(config.run_dir)
    claim_config(run, config)
    ensure_world(config)
    prepare(run, config)
    pool = read_pool(run, config)
    buy(run, config, 0, pool)
    train_round(run, config, 0)
    score_pool(run, config, 1, layout.model(0), **scoring_scope(run, config, 1))
    buy(run, config, 1, pool)
    return Undisturbed(config)


class Driver:
    """One of the jobs as a process of its own, which joins the cluster at `address` (empty: starts its own)."""

    def __init__(self, folder: Path, address: str, job: str, *options: str) -> None:
        self.log = folder / "driver.log"
        self._seen = self.log.stat().st_size if self.log.exists() else 0
        variables = environment(address)
        variables["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), variables.get("PYTHONPATH", "")])
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"jobs.{job}", "--config", str(folder / "config.yaml"), *options],
                cwd=REPOSITORY,
                env=variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """What this driver has said."""
        with self.log.open("rb") as file:
            file.seek(self._seen)
            return file.read().decode(errors="replace")

    def ended(self, timeout_s: float = 240) -> int:
        """Its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver is stuck; it said: {self.output[-3000:]}") from None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
