"""What each Ray Train worker runs: the optimiser loop over its share of every global batch."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import ray.train
import ray.train.torch
import torch
from torch import Tensor

from sead_ray.config import RunConfig
from sead_ray.errors import FencedError, InputError
from sead_ray.model.contract import FrameBatch
from sead_ray.model.eval_mode import eval_mode
from sead_ray.model.vad import VAD, build_model
from sead_ray.model.weights import load_model, save_model
from sead_ray.nuscenes.dataset import DrivingBatch, DrivingDataset, QueueStep
from sead_ray.nuscenes.images import MEAN_RGB, STD_RGB, image_geometry, normalise
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.label_store import read_labels
from sead_ray.stages.lease import require_lease
from sead_ray.stages.loader import BatchLoader, loader_workers
from sead_ray.storage import Store
from sead_ray.training.augment import augment_images
from sead_ray.training.criterion import VADCriterion
from sead_ray.training.optim import build_optimizer, build_scheduler

LOG_EVERY = 10  # optimiser steps
PROGRESS_EVERY_S = 2.0
MODEL = "model"  # folder of the weights in a checkpoint


def train_worker(arguments: dict[str, Any]) -> None:
    """Entry point of a worker. Resumes from the last checkpoint where there is one.

    What the user must mend (`InputError`) is written down for the driver instead of raised, since Ray Train would
    start the workers again; peers that fail in the exchange with this worker are, and find the note.
    """
    run, note = Store(arguments["run_root"]), layout.train_error(arguments["round"])
    if run.exists(note):
        return
    try:
        _train(arguments)
    except FencedError:  # the note would end the training of the driver that holds the run now
        raise
    except InputError as error:
        run.write_json(note, {"error": str(error)})


def _train(arguments: dict[str, Any]) -> None:
    config = RunConfig.model_validate(arguments["config"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if config.train.deterministic:
        torch.set_num_threads(1)  # sums of several threads have no fixed order
        torch.use_deterministic_algorithms(True, warn_only=True)
    elif device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    trainer = _Trainer(config, arguments, rank, world, device)
    trainer.restore(ray.train.get_checkpoint())
    try:
        trainer.train()
    finally:
        trainer.loader.close()


def shard(order: Sequence[int], step: int, global_batch: int, rank: int, world: int) -> list[int]:
    """Rank `rank`'s samples of global batch `step`: nobody gets one twice, none is left out."""
    return list(order[step * global_batch : (step + 1) * global_batch][rank::world])


class _Trainer:
    """One worker's model, optimiser and data.

    The order of samples depends on (seed, round, epoch) alone, and each step draws from (seed, step, rank) alone: a
    checkpoint that says how many steps of which epoch are done goes on exactly there.
    """

    def __init__(
        self, config: RunConfig, arguments: dict[str, Any], rank: int, world: int, device: torch.device
    ) -> None:
        self.config, self.rank, self.world, self.device = config, rank, world, device
        self.schedule = arguments["schedule"]
        self.seed = np.random.SeedSequence([config.seed, arguments["round"]]).generate_state(1)[0].item()
        torch.manual_seed(self.seed)  # the same start on every rank
        self.model: VAD = build_model(config.model).to(device)
        self.parallel = ray.train.torch.prepare_model(
            self.model, move_to_device=False, parallel_strategy_kwargs={"find_unused_parameters": True}
        )
        self.criterion = VADCriterion(config.train.loss_preset)
        self.optimizer = build_optimizer(self.model, config.train, config.model.backbone_weights is not None)
        total_steps = self.schedule["epochs"] * self.schedule["steps_per_epoch"]
        self.scheduler = build_scheduler(self.optimizer, total_steps, config.train)
        self.run, self.round = Store(arguments["run_root"]), arguments["round"]
        self.lease = arguments.get("lease")
        self.dataset = load_dataset(self.run, config, arguments["bought"], self.seed)
        n_workers = loader_workers(config.train, self.dataset, device.type == "cuda")
        self.loader = BatchLoader(self.dataset, n_workers, config.train.loader_threads, device.type == "cuda")
        self.epoch = self.steps_done = 0  # steps of this epoch
        self.history: list[dict[str, Any]] = []
        self._shown = 0.0

    def restore(self, checkpoint: ray.train.Checkpoint | None) -> None:
        if checkpoint is None:
            return
        with checkpoint.as_directory() as path:
            loaded, _ = load_model(Store(path), MODEL, str(self.device))
            self.model.load_state_dict(loaded.state_dict())
            state = torch.load(Path(path) / "trainer.pt", map_location=self.device, weights_only=True)
            self.history = [json.loads(line) for line in (Path(path) / "metrics.jsonl").read_text().splitlines()]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch, self.steps_done = state["order"]["epoch"], state["order"]["steps_done"]

    def train(self) -> None:
        """From where the checkpoint left off to the end of the last epoch."""
        steps, every = self.schedule["steps_per_epoch"], self.config.train.checkpoint_steps
        while self.epoch < self.schedule["epochs"]:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset)).tolist()
            for batch, weight in self._loaded(order):
                self._train_step(batch, weight)
                if self.steps_done < steps and every and self._number % every == 0:
                    self.report()
            self.epoch, self.steps_done = self.epoch + 1, 0
            if self.epoch % self.config.train.checkpoint_epochs == 0 or self.epoch == self.schedule["epochs"]:
                self.report()

    @property
    def _number(self) -> int:
        """Optimiser steps done in all."""
        return self.epoch * self.schedule["steps_per_epoch"] + self.steps_done

    def _loaded(self, order: list[int]) -> Iterator[tuple[DrivingBatch, float]]:
        """This rank's part of each global batch of the epoch that is not done, and its weight: DDP averages over
        ranks, and the gradient shall be the mean over the global batch.

        A rank without a sample in a short last batch gets a stand-in with weight 0: it still has to take part in the
        gradient exchange.
        """
        size = self.schedule["global_batch"]
        steps = range(self.steps_done, self.schedule["steps_per_epoch"])
        parts = [shard(order, step, size, self.rank, self.world) for step in steps]
        batches = self.loader.batches(self.epoch, [part or [order[0]] for part in parts])
        for step, part, batch in zip(steps, parts, batches, strict=True):
            yield batch, len(part) * self.world / min(size, len(order) - step * size)

    def _train_step(self, batch: DrivingBatch, weight: float) -> None:
        seed = np.random.SeedSequence([self.seed, self._number, self.rank]).generate_state(1)[0].item()
        torch.manual_seed(seed)  # dropout
        noise = torch.Generator().manual_seed(seed)
        losses = self._step(batch, weight, noise)
        self.steps_done += 1
        at_end = self.steps_done == self.schedule["steps_per_epoch"]
        checkpoint = self.config.train.checkpoint_steps
        if self.rank == 0 and (
            self._number % LOG_EVERY == 0 or at_end or (checkpoint and self._number % checkpoint == 0)
        ):
            self._log(losses)

    def _step(self, batch: DrivingBatch, weight: float, noise: torch.Generator) -> dict[str, Tensor]:
        losses = self._losses(batch, noise)
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        (total * weight).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        return {name: value.detach() for name, value in losses.items()}

    def _losses(self, batch: DrivingBatch, noise: torch.Generator) -> dict[str, Tensor]:
        *history, current = batch.steps
        bf16 = self.config.train.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            bev = self._history([self._frame(step, noise, grid=False) for step in history])
            output = self.parallel(self._frame(current, noise, grid=True), bev)
        return self.criterion(output, batch.targets)

    def _history(self, frames: list[FrameBatch]) -> Tensor | None:
        """Earlier frames of the queue: eval mode, no gradient, BEV only (VAD)."""
        bev = None
        with torch.no_grad(), eval_mode(self.model):
            for frame in frames:
                bev = self.model.encode_bev(frame, bev)
        return bev

    def _frame(self, step: QueueStep, noise: torch.Generator, grid: bool) -> FrameBatch:
        images = normalise(step.images.to(self.device, non_blocking=True), step.valid_height)
        if self.config.train.augment:
            images = augment_images(images, noise, MEAN_RGB, STD_RGB, grid=grid)
        return FrameBatch(images, step.lidar2img.to(self.device), step.can_bus.to(self.device))

    def _log(self, losses: dict[str, Tensor]) -> None:
        number, epoch = self._number, self.epoch
        values = torch.stack([value.float() for value in losses.values()]).tolist()
        terms = dict(zip(losses, values))
        rate = self.scheduler.get_last_lr()[0]
        entry = {"step": number, "epoch": epoch, "workers": self.world, "lr": rate, "loss": sum(values)}
        self.history.append({**entry, "losses": terms})
        if not math.isfinite(sum(values)):
            raise RuntimeError(f"the loss is not finite at step {number}: {terms}")
        done = number == self.schedule["epochs"] * self.schedule["steps_per_epoch"]
        if done or time.monotonic() - self._shown > PROGRESS_EVERY_S:
            self._shown = time.monotonic()
            self.run.write_json(layout.train_progress(self.round), {"step": number, "loss": sum(values)})

    def report(self) -> None:
        """Publishes a checkpoint; rank 0 writes it, all ranks meet."""
        if self.rank:
            ray.train.report({"epoch": self.epoch})
            return
        require_lease(self.run, self.lease)  # a driver that lost the run may still have workers
        order = {"epoch": self.epoch, "steps_done": self.steps_done}
        with tempfile.TemporaryDirectory() as path:
            save_model(Store(path), MODEL, self.model, {**order, "image": self.config.image.model_dump()})
            state = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(), "order": order}
            torch.save(state, Path(path) / "trainer.pt")
            lines = "".join(json.dumps(entry) + "\n" for entry in self.history)
            (Path(path) / "metrics.jsonl").write_text(lines)
            metrics = {"epoch": self.epoch, "loss": self.history[-1]["loss"]}
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))


def load_dataset(run: Store, config: RunConfig, bought: dict[str, list[int]], seed: int) -> DrivingDataset:
    """The bought frames with their labels; whole clips are read, since history frames need no label."""
    tokens = sorted(token for token, frames in bought.items() if frames)
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, where=pc.field("clip_token").isin(tokens))
    clips = [Clip.from_row(row) for row in rows]
    if config.train.targets == "as_paper":
        wanted = {frame.token for clip in clips for frame in clip.frames}
    else:
        wanted = {clip.frames[index].token for clip in clips for index in bought[clip.clip_token]}
    labels = read_labels(run, config, wanted, set(tokens))
    return DrivingDataset(
        clips=clips,
        bought=bought,
        labels=labels,
        data_root=config.data.root,
        image=config.image,
        queue_length=config.train.queue_length,
        targets=config.train.targets,
        seed=seed,
        cache_frames=_cache_frames(clips, config),
    )


def _cache_frames(clips: list[Clip], config: RunConfig) -> int:
    geometry = image_geometry(clips[0].frames[0], config.image)
    frame_bytes = len(clips[0].frames[0].cameras) * geometry.padded_height * geometry.width * 3
    return int(config.train.cache_gib * 2**30 / frame_bytes)
