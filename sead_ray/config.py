"""Every setting of the project. Frozen pydantic schemas, unknown keys refused; reading them does nothing else.

A YAML under `jobs/configs/` states only what differs from these defaults.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


def _split(value: Any) -> Any:
    """A name, or a list of names; on the command line a list is JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"a list of scene names must be JSON ({error})") from None
    if isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value):
        return list(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError("must be the name of a split, the path of a file of scene names, or a list of scene names")


# Any, since pydantic-settings would make a list of every string that is given for a union with lists.
Split = Annotated[Any, BeforeValidator(_split)]  # str | list[str]
NoSplit = Annotated[Any, BeforeValidator(lambda value: None if value is None else _split(value))]


Labels = dict[str, str]  # of Ray's nodes: {"ray.io/market-type": "spot"}, {"ray.io/accelerator-type": "in(H100, A100)"}
Resources = dict[str, Annotated[float, Field(gt=0)]]  # custom ones, of `ray start --resources`


def _workers(value: Any) -> Any:
    """A number, or [least, most]; on the command line the list is JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise ValueError(f"must be a number or [least, most], not {value!r}") from None
    bounds = list(value) if isinstance(value, (list, tuple)) else [value, value]
    if len(bounds) != 2 or any(type(bound) is not int for bound in bounds) or not 1 <= bounds[0] <= bounds[1]:
        raise ValueError(f"must be a number from 1 on, or [least, most] with 1 <= least <= most, not {value!r}")
    return bounds if isinstance(value, (list, tuple)) else value


Workers = Annotated[Any, BeforeValidator(_workers)]  # int | list[int]


class DataConfig(Schema):
    """A data set and how it is divided."""

    format: Literal["nuscenes", "py123d"] = "nuscenes"
    """nuscenes: tables and images as they come; py123d: Arrow logs that py123d made of nuPlan, PandaSet, …"""
    root: str = "data/nuscenes"
    """Folder (or s3://, gs://) that holds the version folder, samples/, maps/ and can_bus/; of py123d logs/, maps/ and
    sensors/."""
    version: str = "v1.0-trainval"
    """Name of the folder of tables below `root`."""
    pool_split: Split = "train"
    """Scenes of the unlabeled pool (and of what is selected from it, the training set): the name of a split, the path
    of a .json or .txt file of scene names, or such a list."""
    val_split: NoSplit = "val"
    """Scenes on which planning is evaluated, named likewise; null: nothing is evaluated (v1.0-test)."""
    can_bus: Literal["auto", "off"] = "auto"
    """auto: CAN messages where a scene has them, ego poses elsewhere; off: ego poses for all."""
    allow_shared_logs: bool = False
    """Admit a pool and a val split that share a log."""
    overtake_frames: int = Field(default=3, ge=1)
    """Frames of both left and right command that make a clip an overtake; of one only, a turn (ActiveAD's tau).

    Neither paper prints it. 3 is the largest value at which one brisk lane change (3.5 m within 4 s) is still seen:
    it gives three frames of each side."""
    cameras: dict[str, str] = {}
    """py123d: which of its cameras stands for one of nuScenes' ({"CAM_BACK": "pcam_l2"}), where not as usual."""
    clip_frames: int = Field(default=40, ge=2)
    """py123d: key frames (two a second) of a clip at most; longer logs are cut."""


class ImageConfig(Schema):
    """How images reach the network."""

    width: int = Field(default=640, ge=32)
    """Width after the resize; the height follows from the image, then zero padding to a multiple of 32."""
    decode: Literal["full", "dct"] = "full"
    """dct: libjpeg's reduced-scale decode where the image allows it; faster, and moves pixels a little."""


class ModelConfig(Schema):
    """Size of VAD. Presets name the published ones; every field can be set on its own."""

    preset: Literal["vad_tiny", "vad_base", "vad_nano"] = "vad_tiny"
    backbone_weights: str | None = None
    """ImageNet weights of the image backbone (.safetensors or .pth); None: start at random with GroupNorm."""
    overrides: dict[str, int | float | bool | str | list[int]] = {}
    """Fields of `sead_ray.model.presets.VADSize` that differ from the preset."""


class TrainConfig(Schema):
    """Ray Train. Defaults: SEAD sec. 4.1 and VAD's published configuration."""

    epochs: int = Field(default=20, ge=1)  # SEAD sec. 4.1
    max_steps: int | None = Field(default=None, ge=1)
    """Caps the optimiser steps of a round; epochs are then cut to fit."""
    min_steps: int = Field(default=0, ge=0)
    """Repeats epochs until at least so many optimiser steps, for small labelled sets."""
    global_batch: int = Field(default=8, ge=1)  # 8 GPUs x 1, SEAD sec. 4.1
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
    loader_workers: int | None = Field(default=None, ge=0)
    """Processes that decode for each training worker; 0: threads of the worker itself. None: its share of the node's
    CPUs, 2 to 14, where it trains on a GPU and its decoded frames do not fit into `cache_gib`, else 0."""
    loader_threads: int = Field(default=2, ge=1)
    """Where there are no loader processes."""
    cache_gib: float = Field(default=1.0, ge=0)
    """Memory of a worker for decoded frames, so that small labelled sets are decoded once."""
    checkpoint_epochs: int = Field(default=1, ge=1)
    """A checkpoint after every so many epochs, and after the last: epochs of a small labelled set take seconds."""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Also checkpoint after every so many optimiser steps; None: between epochs only."""
    learning_rate: float = Field(default=2e-4, gt=0)  # SEAD sec. 4.1
    weight_decay: float = 0.01  # SEAD sec. 4.1
    warmup_steps: int = 500  # VAD; the smaller of this and 5 % of the run is used
    warmup_ratio: float = 1 / 3  # VAD
    min_learning_rate_ratio: float = 1e-3  # VAD
    backbone_learning_rate_mult: float = 0.1
    """With ImageNet weights; without, 1."""
    max_grad_norm: float = 35.0  # VAD
    queue_length: int = Field(default=3, ge=1)  # VAD: history frames and the current one
    loss_preset: Literal["stage_1", "stage_2", "e2e"] = "e2e"
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


class PrepareConfig(Schema):
    """How many scenes are prepared at a time; changes nothing in what comes out."""

    max_workers: int | None = Field(default=None, ge=1)
    """None: one for each CPU of the cluster."""
    cpus_per_worker: float = Field(default=0.5, gt=0)
    no_progress_timeout_s: float = Field(default=600.0, gt=0)
    """Preparation ends where no scene is finished for so long; nodes that have to start first count, too."""
    labels: Labels = {}
    """Only on nodes with these labels, as Ray's label selectors: value, !value, in(a, b), !in(a, b)."""
    resources: Resources = {}
    """Only on nodes with these custom resources; so much of them is taken by each scene."""


class ScoreConfig(Schema):
    """Feature shift and key frames (SEAD sec. 3.3)."""

    reduce_to: int = Field(default=4, ge=1)
    """Values to which each query's channels are average-pooled before the earth mover's distance.

    4: the smallest of 1, 4, 16, 64, 256 that ranks clips as the unreduced distance does (Spearman >= 0.95), measured
    by `jobs.ablate_shift` on 576 clips and a trained vad_nano; docs/benchmarks/ablate_shift.md."""
    warmup_frames: int = Field(default=0, ge=0)
    """Leading transitions left out of the sum (the first carries a transient of the temporal attention)."""
    rank_by: Literal["sum", "mean"] = "sum"  # Eq. 3
    theta_confidence: float = Field(default=0.5, ge=0, le=1)  # SEAD sec. 4.1, theta_tau
    theta_distance_m: float = Field(default=5.0, gt=0)  # SEAD sec. 4.1, theta_d
    distance_from: Literal["lidar", "ego"] = "lidar"
    max_gap_factor: float = Field(default=1.5, gt=1)
    """No shift is taken across a gap longer than this times the nominal key-frame interval."""
    nominal_interval_s: float = Field(default=0.5, gt=0)
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
    cpus_per_actor: float = Field(default=0.5, gt=0)
    cpus_per_decoder: float = Field(default=0.5, gt=0)
    """Ray's share of a core, below 1 so that readers and decoders fit beside the actors on two cores."""
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
    precision: Literal["auto", "fp32", "mixed", "bf16"] = "auto"
    """Of the model. mixed: the image network in bf16, what follows in float32 with TF32 products. auto: mixed on a GPU,
    fp32 on a CPU. Evaluation is always in fp32."""
    max_attempts: int = Field(default=3, ge=1)
    """A clip that fails so often, or with which worker processes die so often, is quarantined with its reason."""
    no_progress_timeout_s: float = Field(default=600.0, gt=0)
    """A stage in which no clip is finished for so long ends with a diagnosis."""


InitialStrategy = Literal["stratified", "random", "ego_diversity", "activeft"]
IncrementalStrategy = Literal[
    "sead", "random", "random_frames", "coreset", "vaal", "activeft", "activead", "sead_diverse", "weighted"
]

# The arms of the paper's Tables 1 and 3 and Figure 5, and ours. Coreset and VAAL begin with Random's first batch.
_SEAD: dict[str, Any] = {"initial": "stratified", "incremental": "sead", "key_frames": True, "shift": "agents_and_maps"}
SELECT_PRESETS: dict[str, dict[str, Any]] = {
    "random": {"initial": "random", "incremental": "random"},  # Table 3, arm 1
    "stratified_random": {"initial": "stratified", "incremental": "random"},  # arm 2
    "sead_whole_clips": {**_SEAD, "key_frames": False},  # arm 3
    "sead": _SEAD,  # arm 4
    "sead_agents": {**_SEAD, "shift": "agents"},
    "sead_maps": {**_SEAD, "shift": "maps"},
    "sead_bev": {**_SEAD, "shift": "bev"},
    "coreset": {"initial": "random", "incremental": "coreset"},
    "vaal": {"initial": "random", "incremental": "vaal"},
    "activeft": {"initial": "activeft", "incremental": "activeft"},
    "activead": {"initial": "ego_diversity", "incremental": "activead"},
    "random_frames": {"initial": "random", "incremental": "random_frames"},
    "sead_diverse": {**_SEAD, "incremental": "sead_diverse"},
    "weighted": {**_SEAD, "incremental": "weighted"},
}


class SelectConfig(Schema):
    """Which clips are bought (SEAD Algorithm 1, and what it is compared with)."""

    preset: str | None = None
    """One of `SELECT_PRESETS`: sets `initial`, `incremental`, `key_frames` and `shift` whatever else is given."""
    initial: InitialStrategy = "stratified"
    incremental: IncrementalStrategy = "sead"
    rounds: list[Annotated[float, Field(gt=0)]] = [0.1, 0.2, 0.3]
    """What is bought after each round, cumulative, in the units of `amounts` and `budget_in`."""
    amounts: Literal["share", "percent", "count"] = "share"
    """share: of the pool, 0 to 1; percent: of the pool, 0 to 100; count: whole clips or frames."""
    budget_in: Literal["clips", "frames"] = "clips"
    """frames: the last run of a round is cut so that the budget is met to the frame."""
    exclude: list[str] = []
    """Clip tokens that are never selected; beside them those in `quarantine.json` of the run folder."""
    valuable_ratio: float = Field(default=1 / 3, gt=0, lt=1)  # lambda, SEAD sec. 4.1
    shift: Literal["agents_and_maps", "agents", "maps", "bev"] = "agents_and_maps"
    """Whose feature shift ranks clips (SEAD Fig. 5)."""
    key_frames: bool = True
    """Buy only the longest run of key frames of a clip (sead, sead_diverse, weighted); off: whole clips."""
    without_key_frame: Literal["drop", "keep_clip", "next_ranked"] = "drop"
    """A selected clip without a key frame: adds no frames; is bought whole; gives its place to the next."""
    terms: dict[str, Annotated[float, Field(gt=0)]] = {"shift": 1.0}
    """weighted: exponent of each named term (`selection.weighted.TERMS`)."""
    activead_weights: dict[str, Annotated[float, Field(ge=0)]] = {
        "displacement_error": 1.0,
        "soft_collision": 1.0,
        "agent_uncertainty": 1.0,
    }
    min_distance: float = Field(default=0.2, ge=0)
    """sead_diverse: nearest allowed embedding distance, as a share of the pool's root mean square distance."""
    max_candidates: int = Field(default=200_000, ge=2)
    """Strategies that compare clips with each other work on a uniform sample of so many of a larger pool."""
    vaal_input: Literal["embedding", "front_image"] = "embedding"
    vaal_steps: int = Field(default=600, ge=1)
    activeft_steps: int = Field(default=300, ge=1)  # ActiveFT sec. 4.1
    match_run: str | None = None
    """random_frames: run folder of the SEAD run whose bought frames each round matches."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        name = values.get("preset") if isinstance(values, dict) else None
        if name is None:
            return values
        if name not in SELECT_PRESETS:
            raise ValueError(f"select.preset {name!r} is none of {', '.join(SELECT_PRESETS)}")
        return {**values, **SELECT_PRESETS[name]}

    @model_validator(mode="after")
    def _rounds_grow(self) -> SelectConfig:
        if not self.rounds or any(later <= earlier for earlier, later in zip(self.rounds, self.rounds[1:])):
            raise ValueError("select.rounds must hold at least one amount, each larger than the one before")
        most = {"share": 1.0, "percent": 100.0, "count": float("inf")}[self.amounts]
        if self.rounds[-1] > most:
            raise ValueError(
                f"select.rounds ends with {self.rounds[-1]:g}, more than the {most:g} of select.amounts: {self.amounts}"
            )
        if self.amounts == "count" and any(amount != int(amount) for amount in self.rounds):
            raise ValueError("select.rounds must hold whole numbers where select.amounts is count")
        return self


class LabelConfig(Schema):
    """Where annotations come from."""

    mode: Literal["oracle", "wait"] = "oracle"
    """oracle: the data set's own; wait: stop after writing a label request, go on when `delivery` holds them."""
    delivery: str | None = None
    """Folder in which delivered label files (Parquet, labels schema) appear; default <run>/labels_in."""


class EvaluateConfig(Schema):
    perception: bool = True
    """Detection (nuScenes mAP, NDS), map AP and motion metrics beside planning."""
    clips_per_batch: int | None = Field(default=None, ge=1)
    """None: as `score.clips_per_batch`."""
    max_actors: int | None = Field(default=None, ge=1)
    """None: one for each GPU of the cluster; 1 on a CPU."""


class WorldConfig(Schema):
    """The embedded data set (`sead_ray.synthetic`); only used where `generate` is on."""

    generate: bool = False
    """Generate the world at `data.root` before the run where it is not there yet."""
    scenes: int = Field(default=50, ge=4)
    frames: int = Field(default=40, ge=8)
    """Key frames a scene, 2 a second; 40 as in nuScenes."""
    image_width: int = Field(default=400, ge=64)
    image_height: int = Field(default=225, ge=36)
    val_share: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0


class IntakeConfig(Schema):
    """Scored clips that join the pool of `run_dir`."""

    enabled: bool = False
    prefix: str | None = None
    """Folder of their images, at or below the run's data root; None: `intake` there."""


class ServeConfig(Schema):
    """The scoring service."""

    run_dir: str | None = None
    """Run folder whose promoted model is served; before any promotion (jobs.promote_model) the newest published one."""
    model_dir: str | None = None
    """A model folder (model.json, weights.safetensors) to serve instead."""
    follow: Literal["promoted", "latest", "off"] = "promoted"
    """What a running service switches to. promoted: what jobs.promote_model promotes; latest: also each new round's
    model once it is published, until it is rolled back; off: nothing."""
    follow_s: float = Field(default=2.0, gt=0)
    """How often it looks."""
    compare: list[str] = []
    """Folders of further models, asked for by `?model=<version>`."""
    budget: float = Field(default=0.1, gt=0, le=1)
    """b: share of clips that the decision labels, by the model's calibration set."""
    intake: IntakeConfig = IntakeConfig()
    tokens_file: str | None = None
    """Hashes of bearer tokens, made by jobs.make_token; read again every second. SEAD_SERVE_TOKENS may hold more."""
    auth: Literal["auto", "required"] = "auto"
    """auto: tokens are required unless the service is bound to loopback and none are configured. required: always, as
    behind a reverse proxy on the same machine."""
    storage_prefixes: list[str] = []
    """Folders (local, s3://, gs://) below which a request in JSON may name images; none: uploads only."""
    max_body_bytes: int = Field(default=256 * 2**20, ge=1)
    max_frames: int = Field(default=80, ge=2)
    """Of one clip of `POST /v1/score`, and of a session."""
    max_image_bytes: int = Field(default=16 * 2**20, ge=1)
    max_image_pixels: int = Field(default=4_000_000, ge=1)
    max_image_side: int = Field(default=8192, ge=1)
    max_decoded_bytes: int = Field(default=2**30, ge=1)
    """Of one clip's images after the resize."""
    body_timeout_s: float = Field(default=120.0, gt=0)
    """A body that takes longer to arrive is refused with 408."""
    max_job_frames: int = Field(default=2000, ge=2)
    """Of all clips of a job together; clips over `max_decoded_bytes` are scored frame by frame."""
    max_jobs: int = Field(default=32, ge=1)
    """Unfinished jobs at a time; further ones get 429."""
    max_job_bytes: int = Field(default=2 * 2**30, ge=1)
    """Uploads of unfinished jobs in memory."""
    job_keep_s: float = Field(default=3600.0, gt=0)
    """Results of a job can be fetched for so long after its end."""
    max_sessions: int = Field(default=64, ge=1)
    """Open sessions at a time; each keeps one BEV (10 MB for VAD-Tiny). Further ones get 429."""
    session_idle_s: float = Field(default=300.0, gt=0)
    """A session without a new frame for so long is forgotten."""
    max_requests: int | None = Field(default=None, ge=1)
    """At work at a time; further ones get 429 at once. None: two batches a replica, what keeps it busy."""
    max_uploads: int = Field(default=32, ge=1)
    """Bodies that arrive at a time; further ones get 429."""
    request_timeout_s: float = Field(default=120.0, gt=0)
    """From the end of the upload to the answer; then 504, and the work is dropped."""
    max_batch_clips: int | None = Field(default=None, ge=1)
    """Clips of several requests that go through the model together. None: 8 on a GPU, 2 on a CPU."""
    batch_wait_s: float = Field(default=0.0, ge=0)
    """How long a clip that finds the model idle waits for others; while it is busy they gather by themselves."""
    replicas: int = Field(default=1, ge=0)
    """Of the model; where `max_replicas` is given the least number, and 0 lets it scale to none."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Replicas are added while requests wait, up to so many; None: always `replicas`."""
    downscale_delay_s: float = Field(default=600.0, ge=0)
    """How long a replica must be idle before it is taken away."""
    cpus_per_replica: float = Field(default=0.5, gt=0)
    gpus_per_replica: float | None = None
    """None: one GPU a replica where there is one, else none."""
    ingress_cpus: float = Field(default=0.5, gt=0)
    """CPUs of the process that validates and decodes."""
    decode_threads: int | None = Field(default=None, ge=1)
    """That decode a clip's images; None: one for each core of the machine, 8 at most."""

    @model_validator(mode="after")
    def _replicas_fit(self) -> ServeConfig:
        if self.replicas == 0 and self.max_replicas is None:
            raise ValueError("replicas: 0 needs max_replicas: how many there may be once requests come")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, less than the {self.replicas} of replicas")
        return self


class RunConfig(Schema):
    """One run: a pool, a budget, rounds."""

    run_dir: str = "runs/default"
    seed: int = 0
    data: DataConfig = DataConfig()
    world: WorldConfig = WorldConfig()
    prepare: PrepareConfig = PrepareConfig()
    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()
    select: SelectConfig = SelectConfig()
    labels: LabelConfig = LabelConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    notice: str = ""
    """A sentence printed with the result, such as what a demo does not prove."""
