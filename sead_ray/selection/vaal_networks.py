"""VAAL's networks: a variational autoencoder on embeddings or on small images, and a discriminator of its latents."""

from __future__ import annotations

from torch import Tensor, nn

from sead_ray.errors import InputError

LATENT = 32  # VAAL sec. 4.1
IMAGE_SIDE = 32  # pixels; front images are reduced to this square, three channels


class VariationalAutoencoder(nn.Module):
    """`encode`: (B, d) to the mean and log variance (B, LATENT); `decode`: back to (B, d)."""

    def __init__(self, encoder: nn.Module, width: int, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.mean, self.log_variance = nn.Linear(width, LATENT), nn.Linear(width, LATENT)

    def encode(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(batch)
        return self.mean(hidden), self.log_variance(hidden).clamp(-10, 10)

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(latent)


class Discriminator(nn.Module):
    """(B, LATENT) to (B,) logits of being labelled."""

    def __init__(self, width: int = 512) -> None:  # VAAL's code
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, latent: Tensor) -> Tensor:
        return self.layers(latent).squeeze(1)


def build_autoencoder(images: bool, size: int) -> VariationalAutoencoder:
    """For embeddings of `size` channels, or for flattened (32, 32, 3) images."""
    return _image_autoencoder(size) if images else _embedding_autoencoder(size)


def _embedding_autoencoder(size: int, width: int = 256) -> VariationalAutoencoder:
    encoder = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    decoder = nn.Sequential(
        nn.Linear(LATENT, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size)
    )
    return VariationalAutoencoder(encoder, width, decoder)


def _image_autoencoder(size: int) -> VariationalAutoencoder:
    if size != IMAGE_SIDE * IMAGE_SIDE * 3:
        raise InputError(f"A front image has {size} values, not {IMAGE_SIDE} x {IMAGE_SIDE} x 3: extract them again.")
    side, width = IMAGE_SIDE // 8, 128
    encoder = nn.Sequential(
        nn.Unflatten(1, (IMAGE_SIDE, IMAGE_SIDE, 3)), _ToChannels(),
        nn.Conv2d(3, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
        nn.Conv2d(64, width, 4, 2, 1), nn.ReLU(), nn.Flatten(),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(LATENT, width * side * side), nn.ReLU(), nn.Unflatten(1, (width, side, side)),
        nn.ConvTranspose2d(width, 64, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Sigmoid(), _ToPixels(), nn.Flatten(),
    )  # fmt: skip
    return VariationalAutoencoder(encoder, width * side * side, decoder)


class _ToChannels(nn.Module):
    def forward(self, batch: Tensor) -> Tensor:
        return batch.permute(0, 3, 1, 2)


class _ToPixels(nn.Module):
    def forward(self, batch: Tensor) -> Tensor:
        return batch.permute(0, 2, 3, 1)
