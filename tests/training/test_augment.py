from __future__ import annotations

import colorsys

import pytest
import torch

from sead_ray.training.augment import _shift_colours, _stripes, augment_images, grid_mask, photometric_distortion

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(samples: int = 3, cameras: int = 6) -> torch.Tensor:
    return torch.rand(samples, cameras, 3, 24, 40, generator=generator(0)) * 255


def test_one_seed_gives_one_result_and_another_seed_another():
    images = (pixels() - 120) / 58
    first, again = (augment_images(images, generator(5), MEAN, STD) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment_images(images, generator(6), MEAN, STD))


def test_inputs_are_not_written_into():
    images = pixels()
    before = images.clone()
    photometric_distortion(images, generator(1))
    grid_mask(images, generator(1), probability=1.0)
    augment_images(images, generator(1), MEAN, STD)
    assert torch.equal(images, before)


@pytest.mark.parametrize("seed", range(5))
def test_distorted_pixels_stay_in_the_range_of_a_camera(seed: int):
    images = pixels()
    out = photometric_distortion(images, generator(seed))
    assert out.shape == images.shape
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 255


def test_every_image_is_distorted_on_its_own():
    images = torch.full((4, 6, 3, 4, 4), 100.0)
    images[:, :, 0] += 40
    out = photometric_distortion(images, generator(3)).reshape(24, -1)
    assert len({tuple(row.tolist()) for row in out}) > 12


def test_padding_stays_zero():
    images = (pixels() - 120) / 58
    images[..., 20:, :] = 0
    out = augment_images(images, generator(2), MEAN, STD, grid=False)
    assert (out[..., 20:, :] == 0).all()
    assert (out[..., :20, :] != 0).float().mean() > 0.9


def test_colours_are_those_of_hsv():
    rgb = torch.rand(1, 3, 5, 7, generator=generator(9)) * 255
    same = _shift_colours(rgb, torch.tensor(1.0), torch.tensor(0.0))
    torch.testing.assert_close(same, rgb, rtol=1e-5, atol=1e-3)
    turned = _shift_colours(rgb, torch.tensor(0.6), torch.tensor(-17.0))
    for row, column in ((0, 0), (2, 3), (4, 6)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(rgb[0, :, row, column] / 255).tolist())
        expected = torch.tensor(colorsys.hsv_to_rgb((hue - 17 / 360) % 1, saturation * 0.6, value)) * 255
        torch.testing.assert_close(turned[0, :, row, column], expected, rtol=1e-4, atol=1e-2)


def test_grid_mask_is_one_grid_of_squares_for_all_cameras_of_a_sample():
    out = grid_mask(torch.ones(8, 6, 3, 24, 40), generator(4), probability=1.0)
    assert set(out.unique().tolist()) == {0.0, 1.0}
    assert (out == out[:, :1, :1]).all()
    for sample in out[:, 0, 0]:
        removed = sample == 0
        # a removed pixel is one whose row and column both are removed: squares
        assert torch.equal(removed, removed.any(1)[:, None] & removed.any(0)[None, :])
    assert not torch.equal(out[0], out[1])


def test_grid_mask_is_drawn_with_its_probability():
    images = torch.ones(1, 1, 1, 32, 32)
    assert torch.equal(grid_mask(images, generator(1), probability=0.0), images)
    random = generator(7)
    hit = sum((grid_mask(images, random) == 0).any().item() for _ in range(400))
    assert 0.62 < hit / 400 < 0.78


def test_stripes_keep_half_a_period():
    kept = _stripes(40, 10, 0)
    assert (
        kept.tolist()
        == [True] * 5 + [False] * 5 + [True] * 5 + [False] * 5 + [True] * 5 + [False] * 5 + [True] * 5 + [False] * 5
    )
