"""What each Ray Train worker runs: the optimiser loop over its share of every global batch."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from torch import nn

from sead_ray.benchmark.timing import reserved_gib
from sead_ray.config import RunConfig
from sead_ray.cpus import usable_cpus
from sead_ray.errors import FencedError, InputError
from sead_ray.model.vad import VAD, build_model
from sead_ray.model.weights import load_model, save_model
from sead_ray.nuscenes.images import image_geometry
from sead_ray.stages import layout
from sead_ray.stages.cluster import starting, switch_threads_often
from sead_ray.stages.decoder_choice import first_clip
from sead_ray.stages.feed import DeviceFeed, OnItsWay
from sead_ray.stages.lease import require_lease
from sead_ray.stages.loader import BatchLoader, Draw, loader_workers
from sead_ray.stages.process_group import worker_device
from sead_ray.stages.recordings import Recordings
from sead_ray.stages.start_up import StartUp
from sead_ray.stages.train_data import load_dataset
from sead_ray.stages.train_decoder import decodes_here
from sead_ray.storage import Store
from sead_ray.training.augment import draw
from sead_ray.training.batch import TrainingBatch
from sead_ray.training.criterion import VADCriterion
from sead_ray.training.forward import TrainForward, lay_out, precision_on, predictions, trains_norms
from sead_ray.training.optim import build_optimizer, build_scheduler
from sead_ray.training.recorded_criterion import RecordedCriterion

LOG_EVERY = 10  # optimiser steps
PROGRESS_EVERY_S = 2.0
AWAIT_S = 0.2  # between two looks at what the driver has written
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
    device = worker_device()
    if device.type == "cpu":
        threads = max(1, usable_cpus() // context.get_local_world_size())
        torch.set_num_threads(1 if config.train.deterministic else threads)  # sums of several have no fixed order
    else:
        switch_threads_often()
        torch.cuda.set_device(device)  # before anything is recorded there
        torch.backends.cudnn.benchmark = not config.train.deterministic  # batches keep their shape
    if config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    on_gpu = decodes_here(arguments.get("decoder", "cpu"), config, device)
    # Not the default stream where a JPEG engine works too: its calls wait for all that is under way there.
    with torch.cuda.stream(torch.cuda.Stream(device) if on_gpu else None):
        trainer = _Trainer(config, arguments, rank, world, device)
        work = arguments["work"] or trainer.get_ready()
        trainer.take_up(work["bought"], work["schedule"], on_gpu)
        trainer.restore(ray.train.get_checkpoint())
        try:
            trainer.train()
        finally:
            trainer.loader.close()


def shard(order: Sequence[int], step: int, global_batch: int, rank: int, world: int) -> list[int]:
    """Rank `rank`'s samples of global batch `step`: nobody gets one twice, none is left out."""
    return list(order[step * global_batch : (step + 1) * global_batch][rank::world])


def exchanging(forward: TrainForward) -> nn.Module:
    """The module, exchanging gradients with other workers where there are any: while the backward pass goes on,
    unless that is replayed from a recording, whose gradients are all there at its end.
    """
    settings = {"gradient_as_bucket_view": True, "broadcast_buffers": trains_norms(forward)}
    return ray.train.torch.prepare_model(forward, move_to_device=False, parallel_strategy_kwargs=settings)


def _await(there: Callable[[], bool]) -> None:
    while not there():
        time.sleep(AWAIT_S)


class _Trainer:
    """One worker's model, optimiser and data.

    The order of samples depends on (seed, round, epoch) alone, and each step draws from (seed, step, rank) alone: a
    checkpoint that says how many steps of which epoch are done goes on exactly there.
    """

    def __init__(
        self, config: RunConfig, arguments: dict[str, Any], rank: int, world: int, device: torch.device
    ) -> None:
        self.config, self.rank, self.world, self.device = config, rank, world, device
        self.start_up = StartUp()
        self.seed = np.random.SeedSequence([config.seed, arguments["round"]]).generate_state(1)[0].item()
        self.run, self.round = Store(arguments["run_root"]), arguments["round"]
        torch.manual_seed(self.seed)  # the same start on every rank
        with starting(device):
            self.model: VAD = build_model(config.model).to(device)
        self.forward = TrainForward(self.model, precision_on(device, config.train.precision)).train()
        lay_out(self.model, self.forward.precision, device)
        self.criterion = RecordedCriterion(VADCriterion(config.train.loss_preset))
        self.optimizer = build_optimizer(self.model, config.train, config.model.backbone_weights is not None)
        self.lease = arguments.get("lease")
        self.epoch = self.steps_done = 0  # steps of this epoch
        self.history: list[dict[str, Any]] = []
        self.recordings = Recordings(self.forward, self.criterion, config.train, device)
        self._unlogged: tuple[dict[str, Any], list[str], OnItsWay] | None = None
        self._shown = 0.0
        self.start_up.mark("model")

    def get_ready(self) -> dict[str, Any]:
        """What the driver wants to be trained on, once it knows; meanwhile whole batches of the pool's images are
        recorded."""
        if self.recordings.possible:
            _await(lambda: self.run.is_published(layout.CLIPS))
            self.start_up.mark("preparation")
            self.recordings.record(image_geometry(first_clip(self.run).frames[0], self.config.image), self._whole)
            self.start_up.mark("recording")
        key = layout.train_work(self.round)
        _await(lambda: self.run.exists(key))
        self.start_up.mark("selection")
        return self.run.read_json(key)

    def take_up(self, bought: dict[str, list[int]], schedule: dict[str, Any], on_gpu: bool) -> None:
        """`on_gpu`: whether this worker's GPU decodes its images."""
        config, self.schedule = self.config, schedule
        self.dataset = load_dataset(self.run, config, bought, self.seed, encoded=on_gpu)
        here = ray.train.get_context().get_local_world_size()
        n_workers = loader_workers(config.train, self.dataset, self.device.type == "cuda", here)
        self.loader = BatchLoader(self.dataset, n_workers, config.train.loader_threads)
        self.total_steps = schedule["epochs"] * schedule["steps_per_epoch"]
        self.scheduler = build_scheduler(self.optimizer, self.total_steps, config.train)
        self.start_up.mark("data")

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
        loaded = self.loader.stream(part for part, _ in self._parts())  # its processes start while the GPU records
        for samples in self._sizes():
            self.recordings.record(self.dataset.image_geometry, samples)
        self.start_up.mark("recording")
        self.parallel = exchanging(self.forward)
        with DeviceFeed(self._batches(loaded), self.device) as self.feed:
            for batch in self.feed:
                self.start_up.mark("first batch")
                self._train_step(batch)
                self._end_step()

    @property
    def _number(self) -> int:
        """Optimiser steps done in all."""
        return self.epoch * self.schedule["steps_per_epoch"] + self.steps_done

    def _end_step(self) -> None:
        """Counts the step, and reports where the configuration says so."""
        steps, train = self.schedule["steps_per_epoch"], self.config.train
        self.steps_done += 1
        self._log_when_due()
        if self.steps_done < steps:
            if train.checkpoint_steps and self._number % train.checkpoint_steps == 0:
                self.report()
            return
        self.epoch, self.steps_done = self.epoch + 1, 0
        if self.epoch % train.checkpoint_epochs == 0 or self.epoch == self.schedule["epochs"]:
            self.report()

    def _parts(self) -> Iterator[tuple[list[Draw], float]]:
        """This rank's part of each global batch that is not done, and its weight: DDP averages over ranks, and the
        gradient shall be the mean over the global batch.

        A rank without a sample in a short last batch gets a stand-in with weight 0: it still has to take part in the
        gradient exchange.
        """
        size, first = self.schedule["global_batch"], self.steps_done
        for epoch in range(self.epoch, self.schedule["epochs"]):
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset)).tolist()
            for step in range(first, self.schedule["steps_per_epoch"]):
                part = shard(order, step, size, self.rank, self.world)
                weight = len(part) * self.world / min(size, len(order) - step * size)
                yield [(epoch, index) for index in part or [order[0]]], weight
            first = 0

    def _batches(self, loaded: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        """With their weights, and the random numbers of their augmentation."""
        geometry = self.dataset.image_geometry
        height, width = geometry.padded_height, geometry.width
        for number, ((_, weight), batch) in enumerate(zip(self._parts(), loaded, strict=True), self._number):
            steps, samples, cameras = batch.lidar2img.shape[:3]
            draws = None
            if self.config.train.augment:
                noise = torch.Generator().manual_seed(self._step_seed(number))
                draws = draw(steps, samples, cameras, height, width, noise)
            yield replace(batch, weight=weight, draws=draws)

    @property
    def _whole(self) -> int:
        """Samples of a batch that is not an epoch's last."""
        size = self.config.train.global_batch
        return len(shard(range(size), 0, size, self.rank, self.world))

    def _sizes(self) -> list[int]:
        """Samples that a batch can have, the most first: an epoch's last may be smaller."""
        order, size, steps = range(len(self.dataset)), self.schedule["global_batch"], self.schedule["steps_per_epoch"]
        parts = (shard(order, step, size, self.rank, self.world) for step in (0, steps - 1))
        return sorted({max(1, len(part)) for part in parts}, reverse=True)

    def _step_seed(self, number: int) -> int:
        return np.random.SeedSequence([self.seed, number, self.rank]).generate_state(1)[0].item()

    def _train_step(self, batch: TrainingBatch) -> None:
        torch.manual_seed(self._step_seed(self._number))  # dropout
        terms = self.criterion(predictions(self.parallel, batch), batch.targets)
        self.optimizer.zero_grad(set_to_none=True)
        (terms.sum() * batch.weight).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.losses = self.criterion.names, terms.detach() * (batch.weight / self.world)

    def _log_when_due(self) -> None:
        """All ranks come here: what is logged is the mean over the global batch, whatever their number."""
        self._log()
        at_end = self.steps_done == self.schedule["steps_per_epoch"]
        every = (LOG_EVERY, self.config.train.checkpoint_steps)
        if not at_end and all(not steps or self._number % steps for steps in every):
            return
        names, terms = self.losses
        if self.world > 1:
            torch.distributed.all_reduce(terms)
        if self.rank:
            return
        rate = self.scheduler.get_last_lr()[0]
        entry = {"step": self._number, "epoch": self.epoch, "workers": self.world, "lr": rate, "time_s": time.time()}
        entry |= {"waited_s": self.feed.waited_s, "memory_gib": reserved_gib(self.device)}
        self._unlogged = entry, names, OnItsWay(terms)

    def _log(self) -> None:
        """Writes down the step that was due, a step later, when its losses have reached the host: nobody waits."""
        if self._unlogged is None:
            return
        entry, names, terms = self._unlogged
        self._unlogged = None
        losses = dict(zip(names, terms.get().tolist(), strict=True))
        number, total = entry["step"], sum(losses.values())
        entry |= {"loss": total, "losses": losses}
        if not self.history:
            entry |= {"start_up_s": self.start_up.seconds, "decoder": "gpu" if self.dataset.encoded else "cpu"}
        self.history.append(entry)
        if not math.isfinite(total):
            raise RuntimeError(f"the loss is not finite at step {number}: {losses}")
        if number == self.total_steps or time.monotonic() - self._shown > PROGRESS_EVERY_S:
            self._shown = time.monotonic()
            progress = {"step": number, "steps": self.total_steps, "loss": total}
            self.run.write_json(layout.train_progress(self.round), progress)

    def report(self) -> None:
        """Publishes a checkpoint; rank 0 writes it, all ranks meet."""
        self._log()
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
