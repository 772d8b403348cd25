"""Which BEV cells each camera sees, and where. Computed once per frame, shared by all encoder layers.

Shape legend: B clips, K cameras, Q BEV cells, Z heights of a pillar, S cameras of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sead_ray.model.constants import constant

MIN_DEPTH = 1e-5  # VAD: point_sampling
NOWHERE = -100.0  # in units of the image: no offset leads back into it, so nothing is read there


@dataclass(frozen=True)
class CameraView:
    """The images that each cell looks into, first camera first, and where.

    Attributes:
        image: (B, Q, S) index into B * K; 0 where fewer than S cameras see the cell.
        share: (B, Q, S) one over the number of cameras that see the cell; 0 where fewer do.
        pixels: (B, Q, S, Z, 2) x, y of each pillar point in the image, 0..1; `NOWHERE` where fewer cameras do.
    """

    image: Tensor
    share: Tensor
    pixels: Tensor


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
    uv = pixels[..., :2] / depth.clamp(min=MIN_DEPTH) / constant([width, height], pixels)
    seen = (depth.squeeze(-1) > MIN_DEPTH) & ((uv > 0) & (uv < 1)).all(-1)
    return uv, seen


def view_cameras(points_m: Tensor, heights: int, lidar2img: Tensor, image_hw: tuple[int, int]) -> CameraView:
    """Finds, for each sample by its own calibration, the cameras that see each cell.

    A camera takes a cell if any of its pillar points is in view, and then samples around all of them (VAD).
    """
    uv, seen = project(points_m, lidar2img, image_hw)
    batch, cameras = uv.shape[:2]
    cells = uv.shape[2] // heights
    mask = seen.view(batch, cameras, cells, heights).any(-1)
    rank = mask.long().cumsum(1)  # 1-based place of a camera among those of its cell
    seeing = rank[:, -1:]
    slots = _most_cameras(seeing, cameras)

    number = torch.arange(cameras, device=uv.device).view(1, cameras, 1).expand_as(rank)
    camera = number.new_zeros(batch, slots + 1, cells)  # the last row takes what is not seen
    camera = camera.scatter(1, torch.where(mask, rank - 1, slots), number)[:, :slots]
    place = torch.arange(slots, device=uv.device).view(1, slots, 1)
    share = torch.where(place < seeing, 1.0 / seeing.clamp(min=1), 0.0).to(uv.dtype)
    camera = torch.where(place < seeing, camera, 0)
    pixels = torch.take_along_dim(uv.view(batch, cameras, cells, heights * 2), camera.unsqueeze(-1), 1)
    pixels = torch.where((place < seeing).unsqueeze(-1), pixels, NOWHERE)
    first_image = torch.arange(batch, device=uv.device).view(batch, 1, 1) * cameras
    return CameraView(
        image=(camera + first_image).transpose(1, 2),
        share=share.transpose(1, 2),
        pixels=pixels.transpose(1, 2).unflatten(-1, (heights, 2)),
    )


def _most_cameras(seeing: Tensor, cameras: int) -> int:
    """Cameras that see the cell that most see. On a GPU one would have to wait for this number: there, all of them."""
    if seeing.device.type != "cpu" or type(seeing) is not Tensor or torch.compiler.is_compiling():
        return cameras
    return max(1, int(seeing.numpy().max(initial=0)))
