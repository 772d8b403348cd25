"""Who hides whom, in the ground plane: what is higher than an eye's line hides what is behind it."""

from __future__ import annotations

import numpy as np

from sead_ray.synthetic.kernels import kernel

TALL_M = 1.15
REACH_M = 45.0


@kernel
def hidden_shares(poses, sizes, shown):
    """(A,) share of five points across each road user that others hide from the ego (actor 0); 1 beyond 45 m.

    Args:
        poses: (A, 4) x, y, heading, speed. sizes: (A, 3) width, length, height.
    """
    out = np.ones(len(poses))
    ex = poses[0, 0] + 0.4 * np.cos(poses[0, 2])
    ey = poses[0, 1] + 0.4 * np.sin(poses[0, 2])
    for target in range(1, len(poses)):
        dx, dy = poses[target, 0] - ex, poses[target, 1] - ey
        away = np.sqrt(dx * dx + dy * dy)
        if not shown[target] or away > REACH_M or away < 0.1:
            continue
        half = max(sizes[target, 0], 0.7 * sizes[target, 1]) / 2
        blocked = 0
        for spot in range(5):
            shift = (spot / 2 - 1) * half * 0.9
            px, py = poses[target, 0] - dy / away * shift, poses[target, 1] + dx / away * shift
            for other in range(1, len(poses)):
                if other == target or not shown[other] or sizes[other, 2] < TALL_M or sizes[other, 1] < 1.5:
                    continue
                if _cuts_box(ex, ey, px, py, poses[other], sizes[other]):
                    blocked += 1
                    break
        out[target] = blocked / 5
    return out


@kernel
def _cuts_box(ax, ay, bx, by, pose, size):
    """Whether the way from a to b goes through a box, by slabs in the box's frame."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    sx, sy = ax - pose[0], ay - pose[1]
    x0, y0 = sx * cos + sy * sin, sy * cos - sx * sin
    rx, ry = bx - ax, by - ay
    dx, dy = rx * cos + ry * sin, ry * cos - rx * sin
    low, high = 0.0, 1.0
    for start, step, half in ((x0, dx, size[1] / 2), (y0, dy, size[0] / 2)):
        if abs(step) < 1e-9:
            if abs(start) > half:
                return False
            continue
        first, second = (-half - start) / step, (half - start) / step
        low, high = max(low, min(first, second)), min(high, max(first, second))
    return low < high
