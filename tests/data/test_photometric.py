"""Photometric augmentation is drawn for each image, from a seed, and leaves geometry and range alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tsal.config import AugmentConfig
from tsal.data.photometric import photometric_augmentation, to_float

OFF = AugmentConfig(colour=0, grey=0, blur=0, noise=0, occlude=0)


def random_images(count: int = 3, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def change(images: torch.Tensor, seed: int = 0, occluded: bool = True, **settings) -> torch.Tensor:
    return photometric_augmentation(
        images, dataclasses.replace(OFF, **settings), torch.Generator().manual_seed(seed), occlude=occluded
    )


def test_bytes_become_shares_and_stay_as_they_were():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert torch.allclose(to_float(images).flatten(), torch.tensor([0.0, 0.2, 1.0]))
    assert images.flatten().tolist() == [0, 51, 255]


def test_with_everything_off_nothing_changes():
    assert torch.allclose(change(random_images()), random_images(), atol=1e-6)


def test_the_same_seed_draws_the_same_and_another_seed_another():
    on = dict(colour=0.3, grey=0.5, blur=0.5, noise=0.05, occlude=0.5)
    assert torch.equal(change(random_images(), 1, **on), change(random_images(), 1, **on))
    assert not torch.allclose(change(random_images(), 1, **on), change(random_images(), 2, **on), atol=0.01)


@pytest.mark.parametrize(
    "settings", [dict(colour=0.9), dict(noise=0.9), dict(occlude=1.0), dict(blur=1.0), dict(grey=1.0)]
)
def test_the_result_stays_in_range_and_the_given_images_stay_as_they_were(settings):
    images = random_images()
    before = images.clone()
    changed = change(images, **settings)
    assert changed.min() >= 0 and changed.max() <= 1 and changed.shape == images.shape
    assert torch.equal(images, before)
    assert not torch.allclose(changed, images, atol=0.01)


def test_each_image_of_a_batch_draws_its_own():
    same = random_images(1).expand(4, -1, -1, -1)
    changed = change(same, colour=0.3)
    assert all(not torch.allclose(changed[0], other, atol=0.01) for other in changed[1:])


def test_grey_images_have_equal_channels_and_their_old_mean():
    images = random_images()
    grey = change(images, grey=1.0)
    assert torch.allclose(grey[:, 0], grey[:, 1], atol=1e-6) and torch.allclose(grey[:, 0], images.mean(1), atol=1e-6)


def test_blur_smooths_an_image():
    images = random_images()
    blurred = change(images, blur=1.0)
    roughness = lambda x: x.diff(dim=-1).abs().mean((1, 2, 3))  # noqa: E731
    assert (roughness(blurred) < roughness(images)).all()


def test_blur_leaves_an_even_image_even_up_to_its_border():
    even = torch.full((4, 3, 32, 32), 0.6)
    assert torch.allclose(change(even, blur=1.0), even, atol=1e-5)


def test_an_occluder_covers_a_part_and_leaves_the_rest():
    images = random_images(16)
    touched = (change(images, occlude=1.0) - images).abs().amax(1) > 1e-6  # (N, H, W)
    share = touched.float().mean((1, 2))
    assert (share < 0.3).all() and share.mean() > 0.02  # sides 15 to 50 %, partly outside the image


def test_an_occluder_comes_with_its_probability():
    images = random_images(400, 8)
    changed = ((change(images, occlude=0.5) - images).abs().amax((1, 2, 3)) > 1e-6).float().mean()
    certain = ((change(images, occlude=1.0) - images).abs().amax((1, 2, 3)) > 1e-6).float().mean()
    assert abs(changed / certain - 0.5) < 0.1  # four standard deviations of 400 draws


def test_only_a_view_that_asks_for_it_is_occluded():
    images = random_images()
    assert torch.allclose(change(images, occluded=False, occlude=1.0), images, atol=1e-6)
