"""Where a clip's score stands among those of a fixed set of clips, scored by the same model; and the decision by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sead_ray.records import ClipScore

Decision = Literal["label", "skip"]
Compared = Literal["sum", "mean"]


@dataclass(frozen=True)
class Standing:
    """
    Attributes:
        percentile: how many of a hundred calibration clips score no higher; threshold: the (1 - b) quantile.
        compared_by: the sum of the shifts, or their mean per transition.
    """

    percentile: float
    threshold: float
    decision: Decision
    compared_by: Compared


@dataclass(frozen=True)
class Calibration:
    """Scores of the calibration set by one model.

    Attributes:
        sums, means: (n,) shift of each clip, summed and per transition. n_transitions: (n,).
    """

    model_version: str
    sums: NDArray[np.float64]
    means: NDArray[np.float64]
    n_transitions: NDArray[np.int64]

    @classmethod
    def of(cls, model_version: str, scores: Iterable[ClipScore]) -> Calibration | None:
        """None where no clip could be scored.

        Raises:
            ValueError: a score of another model.
        """
        good = [score for score in scores if score.status == "ok"]
        if any(score.model_version != model_version for score in good):
            raise ValueError(f"the calibration of model {model_version} holds scores of another model")
        if not good:
            return None
        return cls(
            model_version,
            np.array([score.shift_sum for score in good], np.float64),
            np.array([score.shift_mean for score in good], np.float64),
            np.array([score.n_transitions for score in good], np.int64),
        )

    @cached_property
    def common_length(self) -> int | None:
        """Transitions that all clips have in common; None where their lengths differ."""
        return int(self.n_transitions[0]) if len(set(self.n_transitions.tolist())) == 1 else None

    def standing(self, score: ClipScore, budget: float, rank_by: Compared = "sum") -> Standing:
        """The percentile of a clip's score, and whether it lies at or above the (1 - budget) quantile.

        Sums of clips of different lengths cannot be compared: then the mean per transition takes their place.

        Raises:
            ValueError: the score is of another model, or there is none.
        """
        if score.model_version != self.model_version or score.status != "ok":
            raise ValueError(f"clip {score.clip_token} has no score of model {self.model_version}")
        by_mean = rank_by == "mean" or score.n_transitions != self.common_length
        known, mine = (self.means, score.shift_mean) if by_mean else (self.sums, score.shift_sum)
        threshold = float(np.quantile(known, 1 - budget))
        return Standing(
            percentile=100 * float(np.mean(known <= mine)),
            threshold=threshold,
            decision="label" if mine >= threshold else "skip",
            compared_by="mean" if by_mean else "sum",
        )
