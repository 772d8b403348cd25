"""VAAL: variational adversarial active learning, task-agnostic (Sinha et al. 2019, sec. 3).

A VAE learns one latent space for labelled and unlabelled clips, and tries to make them look alike there, while a
discriminator learns to tell them apart. The clips that it holds least likely to be labelled are bought. Both are
trained anew in each round, on clip embeddings or on small front images (`select.vaal_input`).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.embedded import EmbeddedPool, check_embedded, device, load_embedded
from sead_ray.selection.pool import DEFAULTS, Pool
from sead_ray.selection.vaal_networks import Discriminator, VariationalAutoencoder, build_autoencoder

LEARNING_RATE = 5e-4  # VAAL sec. 4.1
BATCH = 128  # VAAL's code
KL_WEIGHT, ADVERSARIAL_WEIGHT = 1.0, 1.0  # beta; lambda_1 and lambda_2, VAAL sec. 4.1


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Whole clips. Needs features of labelled clips; the generator seeds the training."""
    embedded = load_embedded(pool, rng, config.max_candidates, config.vaal_input)
    if not len(embedded.labelled):
        raise InputError("The strategy vaal needs the features of labelled clips, but the pool holds none.")
    if budget.clips is not None:
        check_embedded(budget.clips, embedded)
    images = config.vaal_input == "front_image"
    labelled_odds = labelled_probability(
        embedded.labelled, embedded.features, images, config.vaal_steps, int(rng.integers(2**62))
    )
    return spend(budget, rng, embedded.size(), lambda n, _: _rows(pool.round, embedded, labelled_odds, n))


def labelled_probability(
    labelled: NDArray[np.float32], unlabelled: NDArray[np.float32], images: bool, steps: int, seed: int
) -> NDArray[np.float64]:
    """(n,) the discriminator's probability that each row of (n, d) `unlabelled` is labelled, after training."""
    where = device()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if where == "cuda" else []):
        torch.manual_seed(seed)
        both = [torch.from_numpy(part).to(where) for part in (labelled, unlabelled)]
        if not images:
            both = _standardise(*both)
        autoencoder = build_autoencoder(images, both[0].shape[1]).to(where)
        discriminator = Discriminator().to(where)
        _train(autoencoder, discriminator, *both, steps)
        with torch.no_grad():
            logits = [discriminator(autoencoder.encode(part)[0]) for part in both[1].split(4096)]
    return torch.cat(logits).double().sigmoid().cpu().numpy()


def _train(
    autoencoder: VariationalAutoencoder, discriminator: Discriminator, labelled: Tensor, unlabelled: Tensor, steps: int
) -> None:
    """Alternates a step of the VAE, which wants both to look labelled, and one of the discriminator."""
    size = min(BATCH, len(unlabelled))
    optimisers = [torch.optim.Adam(net.parameters(), lr=LEARNING_RATE) for net in (autoencoder, discriminator)]
    for _ in range(steps):
        known, new = (part[torch.randint(len(part), (size,)).to(part.device)] for part in (labelled, unlabelled))
        mean_known, loss_known = _evidence_loss(autoencoder, known)
        mean_new, loss_new = _evidence_loss(autoencoder, new)
        fooled = _says(discriminator(mean_known), True) + _says(discriminator(mean_new), True)
        _step(optimisers[0], loss_known + loss_new + ADVERSARIAL_WEIGHT * fooled)
        with torch.no_grad():
            mean_known, mean_new = autoencoder.encode(known)[0], autoencoder.encode(new)[0]
        _step(optimisers[1], _says(discriminator(mean_known), True) + _says(discriminator(mean_new), False))


def _evidence_loss(autoencoder: VariationalAutoencoder, batch: Tensor) -> tuple[Tensor, Tensor]:
    """(latent means, reconstruction error + KL divergence), averaged over the batch."""
    mean, log_variance = autoencoder.encode(batch)
    sample = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    reconstruction = F.mse_loss(autoencoder.decode(sample), batch, reduction="sum") / len(batch)
    divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / len(batch)
    return mean, reconstruction + KL_WEIGHT * divergence


def _says(logits: Tensor, labelled: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(labelled)))


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _standardise(labelled: Tensor, unlabelled: Tensor) -> list[Tensor]:
    """Each channel to mean 0 and deviation 1 over all clips; a channel that is constant becomes 0."""
    everything = torch.cat([labelled, unlabelled])
    mean, deviation = everything.mean(dim=0), everything.std(dim=0, unbiased=False)
    return [(part - mean) / deviation.clamp_min(1e-6) for part in (labelled, unlabelled)]


def _rows(round: int, pool: EmbeddedPool, odds: NDArray[np.float64], n_clips: int) -> list[Selection]:
    check_embedded(n_clips, pool)
    chosen = np.argsort(odds, kind="stable")[:n_clips]  # rows are sorted by token, which breaks ties
    selections = []
    for rank, (row, chance) in enumerate(zip(pool.table.take(chosen).to_pylist(), odds[chosen].tolist()), 1):
        reason = (
            f"VAAL: the discriminator holds it labelled with probability {chance:.3g}, {rank} of {len(odds)} "
            f"clips{pool.sampled} from the least; the whole clip is bought."
        )
        frames = row["n_frames"]
        selections.append(
            Selection(round, row["clip_token"], 0, frames, rank, 1 - chance, row.get("stratum", ""), reason, frames)
        )
    return selections
