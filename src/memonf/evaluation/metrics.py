"""How near a picture is to the truth. Pictures are clamped to [0, 1]; without a mask all count."""

from __future__ import annotations

import math

import torch

from ..errors import InputError
from ..typing import Bool, Float, Tensor

__all__ = ["psnr", "ssim"]


def psnr(
    picture: Float[Tensor, "_ _ 3"],
    truth: Float[Tensor, "_ _ 3"],
    mask: Bool[Tensor, "_ _"] | None = None,
) -> float:
    """Peak signal-to-noise ratio of one view in dB: −10 log10(MSE); infinite if equal.

    Args:
        picture: In [0, 1].
        truth: In [0, 1].
        mask: Which pixels count; None for all.

    Raises:
        InputError: The two differ in shape.
    """
    check_same_shape(picture, truth)
    squared = (picture.clamp(0, 1) - truth).double().square()
    if mask is not None and not mask.any():
        raise InputError("PSNR: the mask leaves no pixel")
    error = float((squared if mask is None else squared[mask]).mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def ssim(
    picture: Float[Tensor, "_ _ 3"],
    truth: Float[Tensor, "_ _ 3"],
    mask: Bool[Tensor, "_ _"] | None = None,
) -> float:
    """Structural similarity of one view in [-1, 1], Gaussian window of 11 pixels, σ = 1.5.

    Pixels that a mask leaves out are taken to be right; the error is spread over those that count.

    Raises:
        InputError: The two differ in shape, or a side is shorter than the window.

    Reference:
        Wang et al. 2004; computed by ``pytorch_msssim``.
    """
    from pytorch_msssim import ssim as windowed_ssim

    check_same_shape(picture, truth)
    if min(truth.shape[:2]) < 11:
        raise InputError(f"SSIM needs pictures of at least 11x11, received {tuple(truth.shape)}")
    if mask is not None:
        picture = torch.where(mask[..., None], picture, truth)
    batch = [image.clamp(0, 1).permute(2, 0, 1)[None] for image in (picture, truth)]
    value = float(windowed_ssim(*batch, data_range=1.0))
    return value if mask is None else 1 - (1 - value) / max(float(mask.float().mean()), 1e-9)


def check_same_shape(picture: Tensor, truth: Tensor) -> None:
    """Refuse to compare pictures of different sizes."""
    if picture.shape != truth.shape:
        raise InputError(
            f"picture {tuple(picture.shape)} against truth {tuple(truth.shape)}: "
            "render at the size of the truth"
        )
