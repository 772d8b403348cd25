"""What each Ray Train worker runs: the optimiser loop over its share of every global batch."""

from __future__ import annotations

import json
import os
import tempfile
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
from sead_ray.model.contract import FrameBatch
from sead_ray.model.vad import VAD, build_model
from sead_ray.model.weights import load_model, save_model
from sead_ray.nuscenes.dataset import DrivingDataset, Sample
from sead_ray.nuscenes.images import normalise
from sead_ray.records import CLIP_SCHEMA, Clip
from sead_ray.stages import layout
from sead_ray.stages.label_store import read_labels
from sead_ray.stages.prefetch import prefetch
from sead_ray.storage import Store
from sead_ray.targets import FrameTargets
from sead_ray.training.augment import GridMask, photometric_distortion
from sead_ray.training.criterion import VADCriterion
from sead_ray.training.optim import build_optimizer, learning_rate_factor

LOG_EVERY = 10  # optimiser steps


def train_worker(arguments: dict[str, Any]) -> None:
    """Entry point of a worker. Resumes from the last checkpoint where there is one."""
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
        self.criterion = VADCriterion(config.train.loss_preset)
        self.optimizer = build_optimizer(self.model, config.train, pretrained=config.model.backbone_weights is not None)
        total = self.schedule["epochs"] * self.schedule["steps_per_epoch"]
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, total, config.train)
        )
        self.dataset = load_dataset(Store(arguments["run_root"]), config, arguments["bought"], self.seed)
        self.epoch = 0
        self.history: list[dict[str, Any]] = []

    def restore(self, checkpoint: ray.train.Checkpoint | None) -> None:
        if checkpoint is None:
            return
        with checkpoint.as_directory() as path:
            loaded, _ = load_model(Store(path), "", str(self.device))
            self.model.load_state_dict(loaded.state_dict())
            state = torch.load(Path(path) / "trainer.pt", map_location=self.device, weights_only=True)
            self.history = [json.loads(line) for line in (Path(path) / "metrics.jsonl").read_text().splitlines()]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch = state["epoch"] + 1

    def train_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)
        torch.manual_seed(self.seed + 1000 * epoch + self.rank)  # dropout; the same after a restart
        noise = torch.Generator(self.device).manual_seed(self.seed + 1000 * epoch + self.rank)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset)).tolist()
        steps = self.schedule["steps_per_epoch"]
        batches = [shard(order, step, self.schedule["global_batch"], self.rank, self.world) for step in range(steps)]
        for step, (samples, n_global) in enumerate(self._loaded(batches, order)):
            losses = self._step(samples, n_global, noise)
            number = epoch * steps + step + 1
            if number % LOG_EVERY == 0 or step == steps - 1:
                self._log(number, epoch, losses)

    def _loaded(self, batches: list[list[int]], order: list[int]) -> Iterator[tuple[list[Sample], int]]:
        size = self.schedule["global_batch"]
        loaded = prefetch(self.dataset.__getitem__, [batch or [order[0]] for batch in batches], self.config.train.loader_threads)
        for step, samples in enumerate(loaded):
            n_global = min(size, len(order) - step * size)
            # A rank without a sample in a short last batch still has to take part in the gradient exchange.
            yield samples, n_global if batches[step] else 0

    def _step(self, samples: list[Sample], n_global: int, noise: torch.Generator) -> dict[str, Tensor]:
        losses = self._losses(samples, noise)
        total = torch.stack(list(losses.values())).sum()
        # DDP averages over ranks; this weight makes it the mean over the global batch.
        weight = len(samples) * self.world / n_global if n_global else 0.0
        self.optimizer.zero_grad(set_to_none=True)
        (total * weight).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        return {name: value.detach() for name, value in losses.items()}

    def _losses(self, samples: list[Sample], noise: torch.Generator) -> dict[str, Tensor]:
        frames = [self._frame(samples, index, noise) for index in range(self.config.train.queue_length)]
        bf16 = self.config.train.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            history = self._history(frames[:-1])
            output = self.parallel(frames[-1], history)
        targets: list[FrameTargets] = [sample.targets for sample in samples]
        return self.criterion(output, targets)

    def _history(self, frames: list[FrameBatch]) -> Tensor | None:
        """Earlier frames of the queue: eval mode, no gradient, BEV only (VAD)."""
        if not frames:
            return None
        self.model.eval()
        history = None
        with torch.no_grad():
            for frame in frames:
                history = self.model.encode_bev(frame, history)
        self.model.train()
        return history

    def _frame(self, samples: list[Sample], index: int, noise: torch.Generator) -> FrameBatch:
        images = torch.from_numpy(np.stack([sample.images[index] for sample in samples])).to(self.device)
        pixels = normalise(images, samples[0].valid_height)
        if self.config.train.augment:
            pixels = self._augment(pixels, samples[0].valid_height, noise)
        return FrameBatch(
            images=pixels,
            lidar2img=torch.from_numpy(np.stack([sample.lidar2img[index] for sample in samples])).float().to(self.device),
            can_bus=torch.from_numpy(np.stack([sample.can_bus[index] for sample in samples])).float().to(self.device),
        )

    def _augment(self, pixels: Tensor, valid_height: int, noise: torch.Generator) -> Tensor:
        raise NotImplementedError

    def _log(self, number: int, epoch: int, losses: dict[str, Tensor]) -> None:
        if self.rank:
            return
        values = torch.stack([value.float() for value in losses.values()]).tolist()
        terms = dict(zip(losses, values))
        rate = self.scheduler.get_last_lr()[0]
        self.history.append({"step": number, "epoch": epoch, "lr": rate, "loss": sum(values), "losses": terms})

    def report(self, epoch: int) -> None:
        """Publishes the epoch's checkpoint; rank 0 writes it, all ranks meet."""
        if self.rank:
            ray.train.report({"epoch": epoch})
            return
        metrics = {"epoch": epoch, "loss": self.history[-1]["loss"]}
        print(f"epoch {epoch + 1}/{self.schedule['epochs']}: loss {metrics['loss']:.3f}", flush=True)
        with tempfile.TemporaryDirectory() as path:
            save_model(Store(path), "", self.model, {"epoch": epoch})
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
    )
