"""Settings of scoring."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sead_ray.config.schema import Labels, Resources, Schema


class ScoreConfig(Schema):
    """Feature shift and key frames (SEAD sec. 3.3)."""

    reduce_to: int = Field(default=4, ge=1)
    """Values to which each query's channels are average-pooled before the earth mover's distance.

    4: the smallest of 1, 4, 16, 64, 256 that ranks clips as the unreduced distance does (Spearman >= 0.95), measured
    by `jobs.ablate_shift` on 576 clips and a trained vad_nano; docs/benchmarks/ablate_shift.md."""
    warmup_frames: int = Field(default=0, ge=0)
    """Leading transitions left out of the sum (the first carries a transient of the temporal attention)."""
    rank_by: Literal["sum", "mean"] = "sum"  # Eq. 3
    """A clip's value: the sum of its transitions' shifts, or their mean where clips differ in length."""
    theta_confidence: float = Field(default=0.5, ge=0, le=1)  # SEAD sec. 4.1, theta_tau
    """A detection counts from this confidence on."""
    theta_distance_m: float = Field(default=5.0, gt=0)  # SEAD sec. 4.1, theta_d
    """A frame is key where a road participant is nearer than this."""
    distance_from: Literal["lidar", "ego"] = "lidar"
    """Whence that is measured: LIDAR_TOP, or the ego's origin."""
    max_gap_factor: float = Field(default=1.5, gt=1)
    """No shift is taken across a gap longer than this times the nominal key-frame interval."""
    nominal_interval_s: float = Field(default=0.5, gt=0)
    """Of key frames."""
    pool_over: Literal["channels", "queries"] = "channels"
    """What `reduce_to` pools: each query's channels, or the queries of a frame."""
    bev_shift: bool = False
    """Score the shift of the whole BEV too, pooled to at most 400 tokens; on by itself where `select.shift` is bev."""
    clips_per_batch: int | None = Field(default=None, ge=1)
    """Clips that go through the model together. None: 8 on a GPU, 2 on a CPU, fewer where the object store is small."""
    min_actors: int | None = Field(default=None, ge=1)
    """None: all that `max_actors` allows and the cluster has GPUs for; 1 on a CPU."""
    max_actors: int | None = Field(default=None, ge=1)
    """None: one for each GPU of the cluster; 1 on a CPU."""
    gpus_per_actor: float | None = None
    """None: one GPU an actor where the cluster has GPUs, else none."""
    cpus_per_actor: float | None = Field(default=None, gt=0)
    """As `cpus_per_decoder`."""
    cpus_per_decoder: float | None = Field(default=None, gt=0)
    """Ray's shares of a core. None: half a one, less where the cluster has fewer than four: Ray keeps a part of the
    cluster for each step, and two decoders beside an actor and the tasks behind it must fit into the rest."""
    max_decoders: int | None = Field(default=None, ge=1)
    """Tasks that decode at a time. None: one for each CPU of the cluster, less two for each GPU that scores."""
    decode_on: Literal["auto", "cpu", "gpu"] = "auto"
    """Where the pool's images are decoded. gpu: by the JPEG engine (nvJPEG through torchvision) of the GPU that scores.
    auto: where it is measured to be faster, once a run; small pools, and all without torchvision, on CPUs."""
    actor_labels: Labels = {}
    """Model actors run only on nodes with these labels; Ray's selectors: value, !value, in(a, b), !in(a, b)."""
    actor_resources: Resources = {}
    """Custom resources that a model actor takes: only nodes that have them run it."""
    decoder_labels: Labels = {}
    """The same for the tasks that decode and those behind the model, such as {"role": "cpu"}."""
    decoder_resources: Resources = {}
    """Custom resources that each of these tasks takes."""
    precision: Literal["auto", "fp32", "mixed", "bf16"] = "auto"
    """Of the model. mixed: the image network in bf16, what follows in float32 with TF32 products. auto: mixed on a GPU,
    fp32 on a CPU. Evaluation is always in fp32."""
    max_attempts: int = Field(default=3, ge=1)
    """A clip that fails so often, or with which worker processes die so often, is quarantined with its reason."""
    no_progress_timeout_s: float = Field(default=600.0, gt=0)
    """A stage in which no clip is finished for so long ends with a diagnosis."""
