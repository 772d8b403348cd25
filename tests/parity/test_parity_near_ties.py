"""The recognition of ties itself, on a small model: it takes upstream's side, and hides no other difference."""

from __future__ import annotations

import torch

from tests.model.small_vad import QUIRKS, frames, fresh
from tests.parity import where
from tests.parity.frame_run import reach_margins, run_frame
from tests.parity.near_ties import FutureError, settle


@torch.no_grad()
def test_a_tied_agent_takes_upstreams_side() -> None:
    model, frame = fresh(QUIRKS), frames(1, 3)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model.to(where.DEVICE)
    run = run_frame(model, frame, None)
    margins = reach_margins(run, model)
    agent, line = divmod(int(margins.argmin()), margins.shape[1])
    other_side = run.near.clone()
    other_side[0, agent, line] ^= True
    upstream = run_frame(model, frame, None, near=other_side)
    wanted = upstream.output.mode_offsets
    error_of = FutureError(torch.arange(wanted.numel()), wanted.flatten(), tuple(wanted.shape), 1e-6)
    assert (error_of(run.output.mode_offsets[0]) > 1).nonzero().flatten().tolist() == [agent]

    settled = settle(model, frame, None, run, error_of, tie=float(margins.min()) * 1.01)
    assert torch.equal(settled.output.plans_m, upstream.output.plans_m)
    assert settle(model, frame, None, upstream, error_of) is upstream
    # farther from the limit than a tie, the difference stays
    kept = settle(model, frame, None, run, error_of, tie=float(margins.min()) * 0.99)
    assert torch.equal(kept.near, run.near)
