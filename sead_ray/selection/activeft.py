"""ActiveFT: parametric selection (Xie et al. 2023, sec. 3).

Learnable centres on the unit sphere are pulled towards the distribution of the pool's features and pushed away from
each other; the clip nearest to each centre is taken. Later rounds keep the labelled clips as centres that do not move.
The features are those of the starting backbone, so that the first round needs no model.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.embedded import EmbeddedPool, check_embedded, device, load_embedded
from sead_ray.selection.pool import DEFAULTS, Pool

TEMPERATURE = 0.07  # ActiveFT sec. 4.1
LEARNING_RATE = 1e-3  # ActiveFT sec. 4.1
FEATURES_A_STEP = 4096


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Whole clips. The generator draws the first centres and the features of each step."""
    embedded = load_embedded(pool, rng, config.max_candidates)
    return spend(
        budget, rng, embedded.size(), lambda n, draw: _rows(pool.round, embedded, n, draw, config), nested=False
    )


def parametric_centers(
    features: NDArray[np.float32], labelled: NDArray[np.float32], count: int, rng: np.random.Generator, steps: int
) -> Tensor:
    """(count, d) unit vectors after `steps` of Adam on `selection_loss`, begun at features drawn at random."""
    points = F.normalize(torch.from_numpy(features).to(device()), dim=1)
    fixed = F.normalize(torch.from_numpy(labelled).to(points), dim=1)
    start = torch.from_numpy(rng.choice(len(features), size=count, replace=False)).to(points.device)
    centers = points[start].clone().requires_grad_()
    optimiser = torch.optim.Adam([centers], lr=LEARNING_RATE)
    for _ in range(steps):
        batch = points
        if len(points) > FEATURES_A_STEP:
            rows = rng.choice(len(points), size=FEATURES_A_STEP, replace=False)
            batch = points[torch.from_numpy(rows).to(points.device)]
        loss = selection_loss(batch, F.normalize(centers, dim=1), fixed)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return F.normalize(centers.detach(), dim=1)


def selection_loss(features: Tensor, centers: Tensor, fixed: Tensor) -> Tensor:
    """The paper's objective: minus the similarity of each feature to its nearest centre, plus, for each centre, the
    log of the summed exponentials of its similarity to the others (all over the temperature)."""
    everything = torch.cat([centers, fixed])
    matching = (features @ everything.T).amax(dim=1) / TEMPERATURE
    between = centers @ everything.T / TEMPERATURE
    own = torch.eye(len(centers), len(everything), dtype=torch.bool, device=between.device)
    if len(everything) < 2:
        return -matching.mean()
    return -matching.mean() + torch.logsumexp(between.masked_fill(own, -torch.inf), dim=1).mean()


def nearest_unique(features: NDArray[np.float32], centers: Tensor) -> tuple[list[int], list[float]]:
    """For each centre in turn the most similar feature that no earlier one took; and those similarities."""
    points = F.normalize(torch.from_numpy(features).to(centers), dim=1)
    free = torch.ones(len(points), dtype=torch.bool, device=points.device)
    chosen: list[int] = []
    similarities: list[float] = []
    for center in centers:
        similarity = (points @ center).masked_fill(~free, -torch.inf)
        index = int(torch.nonzero(similarity == similarity.max())[0, 0])
        free[index] = False
        chosen.append(index)
        similarities.append(float(similarity[index]))
    return chosen, similarities


def _rows(
    round: int, pool: EmbeddedPool, n_clips: int, rng: np.random.Generator, config: SelectConfig
) -> list[Selection]:
    check_embedded(n_clips, pool)
    centers = parametric_centers(pool.features, pool.labelled, n_clips, rng, config.activeft_steps)
    chosen, similarities = nearest_unique(pool.features, centers)
    selections = []
    for rank, (row, similarity) in enumerate(zip(pool.table.take(chosen).to_pylist(), similarities), 1):
        reason = (
            f"ActiveFT: the clip{pool.sampled} most like learned centre {rank} of {n_clips} (cosine {similarity:.3f}); "
            "the whole clip is bought."
        )
        frames = row["n_frames"]
        selections.append(
            Selection(round, row["clip_token"], 0, frames, rank, similarity, row.get("stratum", ""), reason, frames)
        )
    return selections
