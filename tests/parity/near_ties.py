"""Ties that rounding may decide either way: which map instances an agent attends to.

An agent attends to the map instances within 0.2 of the normalised BEV. Upstream's own second run differs by some 1e-6
in these distances; where one lies that close to the limit, two right computations may disagree about that one key,
and then visibly about that agent's futures. Upstream's choice is recognised by its result, and taken over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sead_ray.model.contract import FrameBatch
from sead_ray.model.vad import VAD
from tests.parity.frame_run import FrameRun, reach_margins, run_frame

TIE = 1e-4  # of the normalised BEV; the original's README


def settle(
    model: VAD, frame: FrameBatch, history: Tensor | None, run: FrameRun, error_of: FutureError, tie: float = TIE
) -> FrameRun:
    """The run, or a run in which the agents with a tie attend as upstream's did.

    Args:
        error_of: largest deviation of each agent's futures, in units of what is allowed.
    """
    error = error_of(run.output.mode_offsets[0])
    if bool((error <= 1).all()):
        return run
    margins = reach_margins(run, model)
    tied = torch.zeros_like(run.near[0])
    rows = (margins.amin(-1) < tie) & (error > 1)
    tied[rows.nonzero()[:, 0], margins.argmin(-1)[rows]] = True
    flipped = run_frame(model, frame, history, near=run.near ^ tied[None])
    better = error_of(flipped.output.mode_offsets[0]) < error
    near = torch.where(better[None, :, None], flipped.near, run.near)
    return run_frame(model, frame, history, near=near)


class FutureError:
    """Compares agents' futures with upstream's, of which some entries are known.

    Args:
        index, values: flat indices into (..., N, R, 2 T), and upstream's numbers there.
        shape: of that array.
        allowed: the tolerance.
    """

    def __init__(self, index: Tensor, values: Tensor, shape: tuple[int, ...], allowed: float) -> None:
        agents, modes, numbers = shape[-3:]
        self.index, self.values, self.allowed = index % (agents * modes * numbers), values, allowed
        self.agent, self.agents = self.index // (modes * numbers), agents

    def __call__(self, offsets: Tensor) -> Tensor:
        """(N,) for offsets (N, R, 2 T)."""
        error = (offsets.reshape(-1)[self.index] - self.values).abs() / self.allowed
        return error.new_zeros(self.agents).scatter_reduce(0, self.agent, error, "amax")
