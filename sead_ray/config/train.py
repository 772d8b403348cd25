"""Settings of training and of evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sead_ray.config.schema import Labels, Resources, Schema, Workers


class TrainConfig(Schema):
    """Ray Train. Defaults: SEAD sec. 4.1 and VAD's published configuration."""

    epochs: int = Field(default=20, ge=1)  # SEAD sec. 4.1
    """Passes over the labelled frames, from scratch in each round."""
    max_steps: int | None = Field(default=None, ge=1)
    """Caps the optimiser steps of a round; epochs are then cut to fit."""
    min_steps: int = Field(default=0, ge=0)
    """Repeats epochs until at least so many optimiser steps, for small labelled sets."""
    global_batch: int = Field(default=8, ge=1)  # 8 GPUs x 1, SEAD sec. 4.1
    """Samples of an optimiser step, of all workers together."""
    num_workers: Workers = 1
    """A number, or [least, most]: training begins with what is there from `least` on, and grows and shrinks with the
    cluster. The global batch stays the same."""
    resize_every_s: float = Field(default=60.0, ge=0)
    """How often an elastic training looks whether it can have more workers."""
    labels: Labels = {}
    """Workers run only on nodes with these labels, as Ray's label selectors."""
    resources: Resources = {}
    """Custom resources that a worker takes: only nodes that have them run it."""
    gpus_per_worker: float | None = None
    """None: one whole GPU a worker where the cluster has GPUs, else none. A part (0.33) lets several runs share one."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """Of the training process; its loader processes are not counted."""
    loader_workers: int | None = Field(default=None, ge=0)
    """Processes that decode for each training worker; 0: threads of the worker itself. None: its share of the node's
    CPUs, 2 to 14, where it trains on a GPU, decodes on CPUs, and its decoded frames do not fit into `cache_gib`; else
    0."""
    loader_threads: int = Field(default=2, ge=1)
    """Where there are no loader processes; at least 8 where the GPU decodes and they only read."""
    decode_on: Literal["auto", "cpu", "gpu"] = "auto"
    """cpu: the loader decodes; gpu: the JPEG engine of the GPU that trains (torchvision with nvJPEG). auto: the GPU,
    where it can, from the round on before which one waited for its loader for more than a tenth of its time (with
    `overlap` a round later), unless it proves slower."""
    cache_gib: float = Field(default=1.0, ge=0)
    """Memory of a worker for decoded frames, so that small labelled sets are decoded once."""
    checkpoint_epochs: int = Field(default=1, ge=1)
    """A checkpoint after every so many epochs, and after the last: epochs of a small labelled set take seconds."""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Also checkpoint after every so many optimiser steps; None: between epochs only."""
    learning_rate: float = Field(default=2e-4, gt=0)  # SEAD sec. 4.1
    """Of AdamW, at the end of the warm-up; then a cosine."""
    weight_decay: float = 0.01  # SEAD sec. 4.1
    """Of AdamW."""
    warmup_steps: int = 500  # VAD; the smaller of this and 5 % of the run is used
    """Optimiser steps; at most 5 % of the training."""
    warmup_ratio: float = 1 / 3  # VAD
    """Of the learning rate, at the first step."""
    min_learning_rate_ratio: float = 1e-3  # VAD
    """Of the learning rate, at the last step."""
    backbone_learning_rate_mult: float = 0.1
    """With ImageNet weights; without, 1."""
    max_grad_norm: float = 35.0  # VAD
    """Gradients are scaled down to this norm."""
    queue_length: int = Field(default=3, ge=1)  # VAD: history frames and the current one
    """Frames of a sample: the current one and its history."""
    loss_preset: Literal["stage_1", "stage_2", "e2e"] = "e2e"
    """VAD's: stage_1 perception and prediction, stage_2 and e2e with planning."""
    targets: Literal["bought_only", "as_paper"] = "bought_only"
    """bought_only: futures and velocities from bought frames only; as_paper: from all labels of the clip."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: matrix products and convolutions in bfloat16; weights, output branches, geometry, matching and losses in
    float32. auto: bf16 on a GPU, fp32 on a CPU."""
    augment: bool = True
    """GridMask and photometric distortion."""
    max_failures: int = Field(default=3, ge=-1)
    """Failures of workers or of Ray Train's controller that a training run survives; -1: any number."""
    max_preemptions: int = Field(default=-1, ge=-1)
    """Announced losses of nodes that it survives beside them; -1: any number."""
    deterministic: bool = False
    """The same weights, bit for bit, from every training of the same run, at a price: one thread a worker, no atomics,
    no CUDA graphs."""
    no_progress_timeout_s: float = Field(default=1800.0, gt=0)
    """A training in which no step ends for so long, or that gets no workers, ends with a diagnosis; nodes that have
    to start first count, too."""

    @property
    def most_workers(self) -> int:
        return self.num_workers[1] if isinstance(self.num_workers, list) else self.num_workers


class EvaluateConfig(Schema):
    """What is measured of each round's model on the val split."""

    perception: bool = True
    """Detection (nuScenes mAP, NDS), map AP and motion metrics beside planning."""
    clips_per_batch: int | None = Field(default=None, ge=1)
    """None: as `score.clips_per_batch`."""
    max_actors: int | None = Field(default=None, ge=1)
    """None: one for each GPU of the cluster; 1 on a CPU."""
