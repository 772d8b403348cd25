"""Triton's kernels against the plain operator: on a GPU as they are, elsewhere through Triton's interpreter.

The interpreter has to be chosen before Triton comes in, hence the process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import torch

PROGRAM = """
import torch
from sead_ray.model.deformable import _WeightedSamples
from sead_ray.model.deformable_triton import TritonSamples

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
for dims, heads, shapes, views, points, bags in [(24, 4, [(5, 7), (3, 2)], 3, 2, 37), (32, 8, [(6, 4)], 1, 4, 64)]:
    pixels = sum(height * width for height, width in shapes)
    table = torch.randn(2 * pixels * heads, dims, device=device)
    image = torch.randint(0, 2, (bags, views), device=device)
    first_row = (image * pixels * heads + torch.randint(0, heads, (bags, 1), device=device)).int()
    size = bags, views, len(shapes), points
    x, y = torch.rand(size, device=device) * 9 - 1, torch.rand(size, device=device) * 8 - 1
    x[0], weights = -700.0, torch.rand(size, device=device)
    results = []
    for operator in (_WeightedSamples, TritonSamples):
        inputs = [part.clone().requires_grad_() for part in (table, x, y, weights)]
        out = operator.apply(inputs[0], shapes, heads, first_row, *inputs[1:])
        out.backward(torch.linspace(-1, 1, out.numel(), device=device).view_as(out))
        results.append([out, *(part.grad for part in inputs)])
    for plain, fast in zip(*results):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
print("equal")
"""


def test_kernels_equal_the_plain_operator() -> None:
    environment = {**os.environ}
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
