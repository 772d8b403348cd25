"""A weighted product of named terms: the value of a clip is the product of scaled terms, each to its exponent.

Every term is scaled to [FLOOR, 1] over the clips that may be bought, so that a clip must be good in all of them to be
first, and a single least value does not erase the others. `select.terms` names them with their exponents.
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
from sead_ray.selection.purchase import buy_best, key_frame_filter
from sead_ray.selection.ranking import Ranker
from sead_ray.selection.terms import TERMS, describe_terms, make_terms, ranges

FLOOR = 0.01


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Key frames as for `sead`; streams the scores twice. Uses no randomness."""
    size = pool.size() if budget.frames is not None else (0, 0)
    by_product = ranker(pool, config)
    return spend(budget, rng, size, lambda n, _: buy_best(pool, n, by_product, config))


def ranker(pool: Pool, config: SelectConfig) -> Ranker:
    """By the product of `config.terms`.

    Raises:
        InputError: no term, or one that does not exist.
    """
    if not config.terms:
        raise InputError("select.terms names no term to rank by.")
    unknown = sorted(set(config.terms) - set(TERMS))
    if unknown:
        raise InputError(f"select.terms: {unknown[0]!r} is none of {', '.join(TERMS)}.")
    every = make_terms(pool, config)
    names = sorted(config.terms)
    terms = [every[name] for name in names]
    exponents = np.array([config.terms[name] for name in names])
    scales = ranges(pool, terms)

    def parts(batch: pa.RecordBatch) -> NDArray[np.float64]:
        scaled = [scale.scale(term.value(batch)) for scale, term in zip(scales, terms)]
        return FLOOR + (1 - FLOOR) * np.stack(scaled, axis=1)

    return Ranker(
        tuple(name for term in terms for name in term.columns),
        lambda batch: np.prod(parts(batch) ** exponents, axis=1),
        "Weighted product",
        key_frame_filter(config),
        detail=lambda batch: describe_terms(names, parts(batch), [f"^ {exponent:g}" for exponent in exponents]),
    )
