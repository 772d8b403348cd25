"""Which BEV cells each camera sees, and where. Computed once per frame, shared by all encoder layers.

Shape legend: B clips, K cameras, Q BEV cells, Z heights of a pillar, V slots of a camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MIN_DEPTH = 1e-5  # VAD: point_sampling


@dataclass(frozen=True)
class CameraView:
    """Cells gathered by camera, padded to the fullest camera of the batch.

    Attributes:
        cell_of_slot: (B * K * V,) index into B * Q; padding points at cell 0 and is never read back.
        points: (B * K, V, Z, 2) x, y of each pillar point in the image, 0..1.
        slots_of_cell: (S, B * Q) index into B * K * V, or B * K * V where fewer than S cameras see the cell.
        cameras_of_cell: (B, Q, 1) number of cameras that see the cell, at least 1.
    """

    cell_of_slot: Tensor
    points: Tensor
    slots_of_cell: Tensor
    cameras_of_cell: Tensor


def pillar_points_m(pc_range: tuple[float, ...], bev_h: int, bev_w: int, heights: int, like: Tensor) -> Tensor:
    """(Q * Z, 3) metres: `heights` points above each cell's centre; cells row-major, row = y."""
    axes = []
    for low, high, count in zip(pc_range[:3], pc_range[3:], (bev_w, bev_h, heights), strict=True):
        steps = torch.arange(count, device=like.device, dtype=torch.float32) + 0.5
        axes.append(steps / count * (high - low) + low)
    x, y, z = axes
    y, x, z = torch.meshgrid(y, x, z, indexing="ij")
    return torch.stack([x, y, z], -1).reshape(-1, 3)


def project(points_m: Tensor, lidar2img: Tensor, image_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Points to image coordinates 0..1 (of the padded image, as upstream).

    Elementwise rather than by matmul, so that neither TF32 nor autocast coarsens the pixels.

    Returns:
        (B, K, n, 2) coordinates and (B, K, n) whether the point is in view.
    """
    matrix = lidar2img.float()[:, :, :3].unsqueeze(2)  # (B, K, 1, 3, 4)
    x, y, z = points_m.unsqueeze(-1).unbind(1)  # each (n, 1)
    pixels = matrix[..., 0] * x + matrix[..., 1] * y + matrix[..., 2] * z + matrix[..., 3]
    depth = pixels[..., 2:]
    height, width = image_hw
    uv = pixels[..., :2] / depth.clamp(min=MIN_DEPTH) / pixels.new_tensor([width, height])
    seen = (depth.squeeze(-1) > MIN_DEPTH) & ((uv > 0) & (uv < 1)).all(-1)
    return uv, seen


def view_cameras(points_m: Tensor, heights: int, lidar2img: Tensor, image_hw: tuple[int, int]) -> CameraView:
    """Gathers, for each sample by its own calibration, the cells that each camera sees.

    A camera takes a cell if any of its pillar points is in view, and then samples around all of them (VAD).
    Waits for the device once, to learn how many slots are needed.
    """
    uv, seen = project(points_m, lidar2img, image_hw)
    batch, cameras = uv.shape[:2]
    cells = uv.shape[2] // heights
    uv = uv.view(batch, cameras, cells, heights * 2)
    mask = seen.view(batch, cameras, cells, heights).any(-1)
    order = mask.long().cumsum(-1)  # 1-based place of a cell among those of its camera
    rank = mask.long().cumsum(1)  # 1-based place of a camera among those of its cell
    slots, depth = (max(1, int(n)) for n in torch.stack([order[..., -1].max(), rank[:, -1].max()]).tolist())

    cell = torch.arange(cells, device=uv.device).expand(batch, cameras, cells)
    index = cell.new_zeros(batch, cameras, slots + 1)
    index = index.scatter(2, torch.where(mask, order - 1, slots), cell)[..., :slots]
    points = torch.take_along_dim(uv, index.unsqueeze(-1), 2).view(batch * cameras, slots, heights, 2)

    first = torch.arange(batch * cameras, device=uv.device).view(batch, cameras, 1) * slots
    back = cell.new_full((batch, depth + 1, cells), batch * cameras * slots)
    back = back.scatter(1, torch.where(mask, rank - 1, depth), first + order - 1)[:, :depth]
    offset = torch.arange(batch, device=uv.device).view(batch, 1, 1) * cells
    return CameraView(
        cell_of_slot=(index + offset).flatten(),
        points=points,
        slots_of_cell=back.transpose(0, 1).reshape(depth, batch * cells),
        cameras_of_cell=rank[:, -1].clamp(min=1).unsqueeze(-1).to(uv.dtype),
    )
