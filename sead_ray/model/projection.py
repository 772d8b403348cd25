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
    """The images that each cell may look into, first camera first, and where.

    Attributes:
        image: (B, Q, S) index into B * K; (B, 1, S) where all cells have the same.
        share: (B, Q, S) one over the number of cameras that see the cell; 0 where this one does not.
        pixels: (B, Q, S, Z, 2) x, y of each pillar point in the image, 0..1; without meaning where the share is 0.
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
    seeing = mask.sum(1, keepdim=True)
    share = torch.where(mask, 1.0 / seeing.clamp(min=1), 0.0).to(uv.dtype)
    pixels = uv.view(batch, cameras, cells, heights, 2)
    slots = _most_cameras(seeing, cameras)
    number = torch.arange(cameras, device=uv.device)
    first = torch.arange(batch, device=uv.device).view(batch, 1, 1) * cameras
    if slots == cameras:
        return CameraView(first + number, share.transpose(1, 2), pixels.permute(0, 2, 1, 3, 4))
    # The cameras that see a cell, first ones first: a stable sort puts them before the others.
    chosen = (~mask).to(torch.uint8).sort(dim=1, stable=True).indices[:, :slots]
    share = share.gather(1, chosen)
    pixels = torch.take_along_dim(pixels, chosen[..., None, None], 1)
    pixels = torch.where((share > 0)[..., None, None], pixels, NOWHERE)
    return CameraView((chosen + first).transpose(1, 2), share.transpose(1, 2), pixels.permute(0, 2, 1, 3, 4))


def _most_cameras(seeing: Tensor, cameras: int) -> int:
    """Cameras that see the cell that most see. On a GPU one would have to wait for this number: there, all of them."""
    if seeing.device.type != "cpu" or type(seeing) is not Tensor or torch.compiler.is_compiling():
        return cameras
    return max(1, int(seeing.numpy().max(initial=0)))
