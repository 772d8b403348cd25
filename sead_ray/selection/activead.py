"""ActiveAD's incremental selection (Lu et al. 2024, sec. 3.3): where the planner errs, comes close, or is unsure.

Displacement error (planned against recorded path, which needs no label), soft collision (exponential of the negative
distance between the planned ego and predicted agents) and agent uncertainty (entropy of the predicted modes, weighted
by nearness), each scaled to [0, 1] over the clips that may be bought, then summed with settable weights.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.pool import DEFAULTS, Pool
from sead_ray.selection.purchase import buy_best
from sead_ray.selection.ranking import Ranker
from sead_ray.selection.terms import describe_terms, make_terms, ranges

TERM_NAMES = ("displacement_error", "soft_collision", "agent_uncertainty")


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Buys whole clips, as the paper does; streams the scores twice. Uses no randomness."""
    size = pool.size() if budget.frames is not None else (0, 0)
    by_usefulness, whole = ranker(pool, config), config.model_copy(update={"key_frames": False})
    return spend(budget, rng, size, lambda n, _: buy_best(pool, n, by_usefulness, whole))


def ranker(pool: Pool, config: SelectConfig) -> Ranker:
    """By the weighted sum of the three scaled terms.

    Raises:
        InputError: a weight for a term that does not exist.
    """
    unknown = sorted(set(config.activead_weights) - set(TERM_NAMES))
    if unknown:
        raise InputError(f"select.activead_weights: {unknown[0]!r} is none of {', '.join(TERM_NAMES)}.")
    every = make_terms(pool, config)
    terms = [every[name] for name in TERM_NAMES]
    weights = np.array([config.activead_weights.get(name, 0.0) for name in TERM_NAMES])
    scales = ranges(pool, terms)

    def parts(batch: pa.RecordBatch) -> NDArray[np.float64]:
        return np.stack([scale.scale(term.value(batch)) for scale, term in zip(scales, terms)], axis=1)

    return Ranker(
        tuple(name for term in terms for name in term.columns),
        lambda batch: parts(batch) @ weights,
        "ActiveAD sum",
        detail=lambda batch: describe_terms(TERM_NAMES, parts(batch), [f"x {weight:g}" for weight in weights]),
    )
