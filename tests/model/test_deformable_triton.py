"""Triton's kernels against the plain operator: on a GPU as they are, elsewhere through Triton's interpreter."""

from __future__ import annotations

from tests import triton_script

PROGRAM = """
import torch
from sead_ray.model import deformable
from sead_ray.model.deformable_triton import TritonSamples

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
cases = [  # channels, heads, levels, images of a query, groups of offsets, places, points, queries, shares
    (24, 4, [(5, 7), (3, 2)], 3, 1, 2, 4, 9, True),  # cameras
    (32, 8, [(6, 4)], 2, 2, 1, 4, 8, False),  # two frames
    (16, 2, [(6, 4)], 1, 1, 1, 4, 21, False),  # one BEV
]
for dims, heads, shapes, views, groups, heights, points, queries, shared in cases:
    batch, levels = 2, len(shapes)
    value = torch.randn(4, sum(h * w for h, w in shapes), heads, dims, device=device)
    image = torch.randint(0, 4, (batch, queries if shared else 1, views), device=device)
    places = torch.rand(batch, queries, views, heights, 2, device=device) * 1.4 - 0.2
    offsets = torch.randn(batch, queries, heads, groups, levels, points, 2, device=device)
    offsets[0, 0, 0] = -700.0
    weights = torch.rand(batch, queries, heads, groups, levels, points, device=device)
    share = torch.rand(batch, queries, views, device=device) * (torch.rand(batch, queries, views, device=device) > 0.5)
    share[0, :4], places[0, 0] = 0.0, 1e12
    results = []
    for fused in (None, TritonSamples):
        deformable._fused_operator = lambda *_: fused
        inputs = [part.clone().requires_grad_() for part in (value, offsets, weights, places)]
        inputs[3].requires_grad_(groups == views)
        out = deformable.sample_images(
            inputs[0], shapes, image, inputs[3], inputs[1], inputs[2], share if shared else None
        )
        out.backward(torch.linspace(-1, 1, out.numel(), device=device).view_as(out))
        results.append([out, *(part.grad for part in inputs if part.requires_grad)])
    for plain, fast in zip(*results):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        short = deformable.sample_images(
            value.bfloat16(), shapes, image, places, offsets, weights, share if shared else None
        )
        torch.testing.assert_close(short.float(), results[0][0].detach(), rtol=2e-2, atol=2e-2)
print("equal")
"""


def test_kernels_equal_the_plain_operator() -> None:
    assert triton_script.run(PROGRAM) == "equal"
