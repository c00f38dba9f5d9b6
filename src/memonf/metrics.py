"""How near a picture is to the truth. All pixels count; pictures are clamped to [0, 1]."""

from __future__ import annotations

import math

from .errors import InputError
from .typing import Float, Tensor

__all__ = ["psnr", "ssim"]


def psnr(picture: Float[Tensor, "_ _ 3"], truth: Float[Tensor, "_ _ 3"]) -> float:
    """Peak signal-to-noise ratio of one view in dB: −10 log10(MSE); infinite if equal.

    Raises:
        InputError: The two differ in shape.
    """
    check_same_shape(picture, truth)
    error = float((picture.clamp(0, 1) - truth).double().square().mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def ssim(picture: Float[Tensor, "_ _ 3"], truth: Float[Tensor, "_ _ 3"]) -> float:
    """Structural similarity of one view in [-1, 1], Gaussian window of 11 pixels, σ = 1.5.

    Raises:
        InputError: The two differ in shape, or a side is shorter than the window.

    Reference:
        Wang et al. 2004; computed by ``pytorch_msssim``.
    """
    from pytorch_msssim import ssim as windowed_ssim

    check_same_shape(picture, truth)
    if min(truth.shape[:2]) < 11:
        raise InputError(f"SSIM needs pictures of at least 11x11, received {tuple(truth.shape)}")
    batch = [image.clamp(0, 1).permute(2, 0, 1)[None] for image in (picture, truth)]
    return float(windowed_ssim(*batch, data_range=1.0))


def check_same_shape(picture: Tensor, truth: Tensor) -> None:
    """Refuse to compare pictures of different sizes."""
    if picture.shape != truth.shape:
        raise InputError(
            f"picture {tuple(picture.shape)} against truth {tuple(truth.shape)}: "
            "render at the size of the truth"
        )
