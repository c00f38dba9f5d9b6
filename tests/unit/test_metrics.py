from __future__ import annotations

import math

import pytest
import torch

from memonf.errors import InputError
from memonf.evaluation.metrics import psnr, ssim


def test_psnr_by_hand() -> None:
    truth = torch.full((12, 12, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)
    assert psnr(truth, truth) == math.inf


def test_pictures_are_clamped_before_they_are_compared() -> None:
    truth = torch.ones(12, 12, 3)
    assert psnr(truth + 5.0, truth) == math.inf


def test_ssim_is_one_on_its_own_picture_and_less_on_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(16, 16, 3, generator=generator)
    assert ssim(truth, truth) == pytest.approx(1.0, abs=1e-5)
    assert ssim(truth.flip(0), truth) < 0.5


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_other_sizes_are_refused(metric) -> None:
    with pytest.raises(InputError, match="render at the size of the truth"):
        metric(torch.zeros(12, 12, 3), torch.zeros(12, 13, 3))
