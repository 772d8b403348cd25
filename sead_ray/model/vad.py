"""VAD (Jiang et al., ICCV 2023): camera images to BEV to agents, map, motion and ego paths for three commands.

State goes in and out: the BEV of the frame before is an argument, and is never written to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sead_ray.config import ModelConfig
from sead_ray.errors import InputError
from sead_ray.model.backbone import build_image_network, load_backbone_weights
from sead_ray.model.branches import autocasting
from sead_ray.model.contract import FrameBatch, VADOutput
from sead_ray.model.decoder import AgentDecoder, Agents, MapDecoder, Maps
from sead_ray.model.encoder import BEVEncoder, scale_can_bus
from sead_ray.model.motion import Motion, MotionHead
from sead_ray.model.planner import PlanningHead
from sead_ray.model.presets import VADSize, resolve


class VADHead(nn.Module):
    """Everything behind the image network: image features and the BEV of the frame before to all outputs.

    Attributes:
        code_weights, map_code_weights: weights of the regression losses; frozen parameters, as upstream keeps them.
    """

    def __init__(self, size: VADSize) -> None:
        super().__init__()
        self.size = size
        self.code_weights = nn.Parameter(torch.tensor([1.0] * 8 + [0.2] * 2), requires_grad=False)
        self.map_code_weights = nn.Parameter(torch.ones(4), requires_grad=False)
        self.encoder = BEVEncoder(size)
        self.agents = AgentDecoder(size)
        self.maps = MapDecoder(size)
        self.motion = MotionHead(size)
        self.planner = PlanningHead(size)

    @property
    def bev_hw(self) -> tuple[int, int]:
        """Rows (along y) and columns (along x) of the BEV."""
        return self.size.bev_h, self.size.bev_w

    def encode(
        self, features: Sequence[Tensor], frame: FrameBatch, history: Tensor | None, has_history: Tensor | None = None
    ) -> Tensor:
        """(B, Q, C). `features`: (B * K, C, h, w) of each level; of `frame.images` only the size is read."""
        cameras = frame.images.shape[1]
        image_hw = (int(frame.images.shape[-2]), int(frame.images.shape[-1]))
        assert cameras == self.size.num_cameras, f"{cameras} cameras; the model has {self.size.num_cameras}"
        return self.encoder(list(features), frame.lidar2img, frame.can_bus, image_hw, history, has_history)

    def decode(self, bev: Tensor, can_bus: Tensor) -> VADOutput:
        """All outputs of B clips from their BEV (B, Q, C)."""
        agents = self.agents(bev)
        maps = self.maps(bev)
        motion = self.motion(agents, maps)
        plans = self.planner(agents, motion, scale_can_bus(can_bus, self.size))
        return self._output(bev, agents, maps, motion, plans)

    def _output(self, bev: Tensor, agents: Agents, maps: Maps, motion: Motion, plans: Tensor) -> VADOutput:
        boxes = agents.boxes.float()
        offsets, logits = motion.offsets.float(), motion.logits.float()
        class_logits = agents.class_logits.float()
        return VADOutput(
            bev=bev,
            agent_features=agents.features,
            map_features=maps.features,
            agent_scores=class_logits[-1].sigmoid(),
            agent_centers_m=boxes[-1, ..., :2],
            mode_trajectories_m=offsets.unflatten(-1, (self.size.future_steps, 2)),
            # The branch is trained with a sigmoid focal loss: normalised sigmoids, stable where all are tiny.
            mode_probabilities=F.logsigmoid(logits).softmax(-1),
            plans_m=plans.float(),
            class_logits=class_logits,
            boxes=boxes,
            mode_offsets=offsets,
            mode_logits=logits,
            map_class_logits=maps.class_logits.float(),
            map_boxes=maps.boxes.float(),
            map_points=maps.points.float(),
        )


class VAD(VADHead):
    """The whole network, built from a size. `pretrained_backbone` freezes stem, first stage and batch norm (see
    `backbone`).

    Args:
        backbone, neck: an image network of one's own instead, both or neither: images (N, 3, H, W) to features, and
            those to `size.feature_levels` levels of `size.embed_dims` channels.
    """

    def __init__(
        self,
        size: VADSize,
        pretrained_backbone: bool = False,
        backbone: nn.Module | None = None,
        neck: nn.Module | None = None,
    ) -> None:
        if (backbone is None) != (neck is None):
            raise InputError("VAD takes backbone and neck together: their channels depend on each other.")
        self_made = backbone is None or neck is None
        network = build_image_network(size, pretrained_backbone) if self_made else (backbone, neck)
        super().__init__(size)
        self.pretrained_backbone = pretrained_backbone
        self.has_preset_network = self_made
        self.backbone, self.neck = network

    def forward(self, frame: FrameBatch, history: Tensor | None, has_history: Tensor | None = None) -> VADOutput:
        """One frame of B clips. `history`: (B, Q, C), the `bev` of their frame before, or None on the first.

        `has_history`, (B,) bool, is for a batch in which some clips begin: their rows of `history` are not looked at.
        """
        return self.decode(self.encode_bev(frame, history, has_history), frame.can_bus)

    def encode_bev(self, frame: FrameBatch, history: Tensor | None, has_history: Tensor | None = None) -> Tensor:
        """(B, Q, C); all that a history frame of training needs."""
        return self.encode(self.image_features(frame.images), frame, history, has_history)

    def image_features(self, images: Tensor) -> list[Tensor]:
        """(B, K, 3, H, W) through backbone and neck: (B * K, C, h, w) of each level."""
        return list(self.neck(self.backbone(laid_out(images.flatten(0, 1)))))


def laid_out(images: Tensor) -> Tensor:
    """(N, 3, H, W) as convolutions take them fastest: oneDNN, and cuDNN in half precision, want a pixel's channels
    side by side."""
    wanted = images.device.type == "cpu" or autocasting(images)
    return images.contiguous(memory_format=torch.channels_last) if wanted else images


def build_model(config: ModelConfig) -> VAD:
    """A new model at random (torch's global generator), with the backbone's weights where they are given."""
    pretrained = config.backbone_weights is not None
    model = VAD(resolve(config), pretrained_backbone=pretrained)
    if config.backbone_weights is not None:
        load_backbone_weights(model.backbone, config.backbone_weights)
    return model
