"""What each Ray Train worker runs: the optimiser loop over its share of every global batch."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import ray.train
import ray.train.torch
import torch
from torch import Tensor

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.model.contract import FrameBatch
from sead_ray.model.vad import VAD, build_model
from sead_ray.model.weights import load_model, save_model
from sead_ray.nuscenes.dataset import DrivingBatch, DrivingDataset, QueueStep, collate
from sead_ray.nuscenes.images import MEAN_RGB, STD_RGB, image_geometry, normalise
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.label_store import read_labels
from sead_ray.stages.prefetch import prefetch
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
    except InputError as error:
        run.write_json(note, {"error": str(error)})


def _train(arguments: dict[str, Any]) -> None:
    config = RunConfig.model_validate(arguments["config"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    trainer = _Trainer(config, arguments, rank, world, device)
    trainer.restore(ray.train.get_checkpoint())
    for epoch in range(trainer.epoch, arguments["schedule"]["epochs"]):
        trainer.train_epoch(epoch)
        trainer.report(epoch)


def shard(order: Sequence[int], step: int, global_batch: int, rank: int, world: int) -> list[int]:
    """Rank `rank`'s samples of global batch `step`: nobody gets one twice, none is left out."""
    return list(order[step * global_batch : (step + 1) * global_batch][rank::world])


class _Trainer:
    """One worker's model, optimiser and data. The order of samples depends on (seed, round, epoch) alone."""

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
        self._training_modules = [module for module in self.model.modules() if module.training]
        self.criterion = VADCriterion(config.train.loss_preset)
        self.optimizer = build_optimizer(self.model, config.train, config.model.backbone_weights is not None)
        total_steps = self.schedule["epochs"] * self.schedule["steps_per_epoch"]
        self.scheduler = build_scheduler(self.optimizer, total_steps, config.train)
        self.run, self.round = Store(arguments["run_root"]), arguments["round"]
        self.dataset = load_dataset(self.run, config, arguments["bought"], self.seed)
        self.epoch = 0
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
        self.epoch = state["epoch"] + 1

    def train_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)
        torch.manual_seed(self.seed + 1000 * epoch + self.rank)  # dropout; the same after a restart
        noise = torch.Generator().manual_seed(self.seed + 1000 * epoch + self.rank)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset)).tolist()
        steps = self.schedule["steps_per_epoch"]
        batches = [shard(order, step, self.schedule["global_batch"], self.rank, self.world) for step in range(steps)]
        for step, batch in enumerate(self._loaded(batches, order[0])):
            n_local = len(batches[step])
            n_global = min(self.schedule["global_batch"], len(order) - step * self.schedule["global_batch"])
            # DDP averages over ranks; this weight makes the gradient the mean over the global batch.
            losses = self._step(batch, n_local * self.world / n_global, noise)
            number = epoch * steps + step + 1
            if self.rank == 0 and (number % LOG_EVERY == 0 or step == steps - 1):
                self._log(number, epoch, losses)

    def _loaded(self, batches: list[list[int]], stand_in: int) -> Iterator[DrivingBatch]:
        """A rank without a sample in a short last batch gets `stand_in`, with weight 0: it still has to take part in
        the gradient exchange."""
        wanted = [batch or [stand_in] for batch in batches]
        for samples in prefetch(self.dataset.__getitem__, wanted, self.config.train.loader_threads):
            yield collate(samples)

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
        with torch.no_grad(), self._eval_mode():
            for frame in frames:
                bev = self.model.encode_bev(frame, bev)
        return bev

    @contextmanager
    def _eval_mode(self) -> Generator[None, None, None]:
        """`model.eval()` and back. Module by module through `nn.Module.train` this takes longer than the kernels of a
        small model do; and the flags come back as they were (frozen batch norms stay in eval mode)."""
        for module in self._training_modules:
            module.__dict__["training"] = False
        try:
            yield
        finally:
            for module in self._training_modules:
                module.__dict__["training"] = True

    def _frame(self, step: QueueStep, noise: torch.Generator, grid: bool) -> FrameBatch:
        images = normalise(step.images.to(self.device, non_blocking=True), step.valid_height)
        if self.config.train.augment:
            images = augment_images(images, noise, MEAN_RGB, STD_RGB, grid=grid)
        return FrameBatch(images, step.lidar2img.to(self.device), step.can_bus.to(self.device))

    def _log(self, number: int, epoch: int, losses: dict[str, Tensor]) -> None:
        values = torch.stack([value.float() for value in losses.values()]).tolist()
        terms = dict(zip(losses, values))
        rate = self.scheduler.get_last_lr()[0]
        self.history.append({"step": number, "epoch": epoch, "lr": rate, "loss": sum(values), "losses": terms})
        if not math.isfinite(sum(values)):
            raise RuntimeError(f"the loss is not finite at step {number}: {terms}")
        done = number == self.schedule["epochs"] * self.schedule["steps_per_epoch"]
        if done or time.monotonic() - self._shown > PROGRESS_EVERY_S:
            self._shown = time.monotonic()
            self.run.write_json(layout.train_progress(self.round), {"step": number, "loss": sum(values)})

    def report(self, epoch: int) -> None:
        """Publishes the epoch's checkpoint; rank 0 writes it, all ranks meet."""
        if self.rank:
            ray.train.report({"epoch": epoch})
            return
        metrics = {"epoch": epoch, "loss": self.history[-1]["loss"]}
        with tempfile.TemporaryDirectory() as path:
            save_model(Store(path), MODEL, self.model, {"epoch": epoch})
            state = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(), "epoch": epoch}
            torch.save(state, Path(path) / "trainer.pt")
            lines = "".join(json.dumps(entry) + "\n" for entry in self.history)
            (Path(path) / "metrics.jsonl").write_text(lines)
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
