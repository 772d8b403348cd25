"""Settings of selection."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from sead_ray.config.schema import Schema

InitialStrategy = Literal["stratified", "random", "ego_diversity", "activeft"]
IncrementalStrategy = Literal[
    "sead", "random", "random_frames", "coreset", "vaal", "activeft", "activead", "sead_diverse", "weighted"
]


def _one_of(names: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if value in names or re.fullmatch(r"[\w.]+:\w+", value):
            return value
        raise ValueError(f"{value!r} is none of {', '.join(names)}, nor module:function of a strategy of your own")

    return AfterValidator(check)


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
    initial: Annotated[str, _one_of(get_args(InitialStrategy))] = "stratified"
    """stratified, random, ego_diversity, activeft; or `module:function`, docs/strategies.md."""
    incremental: Annotated[str, _one_of(get_args(IncrementalStrategy))] = "sead"
    """sead, random, random_frames, coreset, vaal, activeft, activead, sead_diverse, weighted; or `module:function`."""
    rounds: list[Annotated[float, Field(gt=0)]] = [0.1, 0.2, 0.3]
    """What is bought after each round, cumulative, in the units of `amounts` and `budget_in`."""
    amounts: Literal["share", "percent", "count"] = "share"
    """share: of the pool, 0 to 1; percent: of the pool, 0 to 100; count: whole clips or frames."""
    budget_in: Literal["clips", "frames"] = "clips"
    """frames: the last run of a round is cut so that the budget is met to the frame."""
    exclude: list[str] = []
    """Clip tokens that are never selected; beside them those in `quarantine.json` of the run folder."""
    valuable_ratio: float = Field(default=1 / 3, gt=0, lt=1)  # lambda, SEAD sec. 4.1
    """Share of the pool that counts as highly dynamic, for acceleration and for turning each."""
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
    """activead: weight of each of its three terms."""
    min_distance: float = Field(default=0.2, ge=0)
    """sead_diverse: nearest allowed embedding distance, as a share of the pool's root mean square distance."""
    max_candidates: int = Field(default=200_000, ge=2)
    """Strategies that compare clips with each other work on a uniform sample of so many of a larger pool."""
    vaal_input: Literal["embedding", "front_image"] = "embedding"
    """vaal: what its VAE sees."""
    vaal_steps: int = Field(default=600, ge=1)
    """vaal: steps of its adversarial training."""
    activeft_steps: int = Field(default=300, ge=1)  # ActiveFT sec. 4.1
    """activeft: steps of its optimisation."""
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
