"""Lens distortion: from the ideal pinhole's picture to the one that is taken, and back.

Plane coordinates are x = right / ahead and y = down / ahead, as OpenCV has them; r² = x² + y².

* Perspective: x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶ + k4 r⁸) + 2 p1 x y + p2 (r² + 2 x²), and
  y' = y (…) + p1 (r² + 2 y²) + 2 p2 x y.
* Fisheye: θ = atan r, θ' = θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸), and (x', y') = (x, y) θ' / r.

Reference:
    Brown 1971, Close-range camera calibration; Kannala and Brandt 2006; the conventions are those
    of OpenCV's ``calib3d`` and ``fisheye``, with k4 as another power of r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .errors import DataError
from .typing import Bool, Float, Tensor

__all__ = ["Lenses"]

#: Newton steps from a distorted place back to the ideal one; 5 reach float precision for phones.
STEPS = 20
#: Largest ideal radius that a perspective lens is asked for: 84° off the axis.
WIDEST = 10.0


def named_view(view: int, names: Sequence[str] | None) -> str:
    """A view in a message: by its name, or by its place where views have none."""
    return str(view) if names is None else f"of {names[view]}"


@dataclass(frozen=True)
class Lenses:
    """The lens of each view.

    Attributes:
        coefficients: (views, 6), k1, k2, k3, k4, p1, p2.
        fisheye: (views,), which views follow the fisheye model; p1 and p2 are not used there.
    """

    coefficients: Float[Tensor, "views 6"]
    fisheye: Bool[Tensor, " views"]

    def __len__(self) -> int:
        return len(self.coefficients)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Lenses:
        return Lenses(self.coefficients[index], self.fisheye[index])

    def to(self, device: torch.device | str) -> Lenses:
        """Return the same lenses on `device`."""
        return Lenses(self.coefficients.to(device), self.fisheye.to(device))

    @classmethod
    def ideal(cls, views: int) -> Lenses:
        """Lenses that distort nothing."""
        return cls(torch.zeros(views, 6), torch.zeros(views, dtype=torch.bool))

    @classmethod
    def join(cls, parts: Sequence[Lenses]) -> Lenses:
        """The lenses of one set of views after those of another."""
        return cls(
            torch.cat([part.coefficients for part in parts]),
            torch.cat([part.fisheye for part in parts]),
        )

    def check(self, names: Sequence[str] | None = None) -> None:
        """Refuse coefficients that are not finite.

        Args:
            names: Of the views, for messages; None for their places.
        """
        finite = self.coefficients.isfinite().all(1)
        if not finite.all():
            index = int((~finite).nonzero()[0])
            raise DataError(f"lens {named_view(index, names)}: expected finite coefficients")

    def distort(
        self, ideal: Float[Tensor, "points 2"], views: Tensor | int
    ) -> Float[Tensor, "points 2"]:
        """Where ideal plane coordinates appear in the picture.

        Args:
            ideal: (x, y).
            views: View of each point, or one for all.
        """
        return distorted(ideal, *self.of(views, len(ideal)))

    def undistort(
        self, seen: Float[Tensor, "points 2"], views: Tensor | int
    ) -> Float[Tensor, "points 3"]:
        """Direction, (right, down, ahead) of any length, from which the picture's places are lit.

        Newton's method; a fisheye sees beyond 90° off its axis, hence directions.
        """
        coefficients, fisheye = self.of(views, len(seen))
        flat = torch.cat([perspective_inverse(seen, coefficients), torch.ones_like(seen[:, :1])], 1)
        if not fisheye.any():
            return flat
        return torch.where(fisheye[:, None], fisheye_inverse(seen, coefficients), flat)

    def of(self, views: Tensor | int, points: int) -> tuple[Tensor, Tensor]:
        """Coefficients (points, 6) and kind (points,) of each point's lens."""
        coefficients, fisheye = self.coefficients[views], self.fisheye[views]
        if coefficients.ndim == 1:
            return coefficients.expand(points, 6), fisheye.expand(points)
        return coefficients, fisheye


def radial(squared: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Factor 1 + k1 s + k2 s² + k3 s³ + k4 s⁴ of s = r², and its derivative by s."""
    k1, k2, k3, k4 = coefficients[:, :4].unbind(1)
    factor = 1 + squared * (k1 + squared * (k2 + squared * (k3 + squared * k4)))
    slope = k1 + squared * (2 * k2 + squared * (3 * k3 + squared * 4 * k4))
    return factor, slope


def distorted(ideal: Tensor, coefficients: Tensor, fisheye: Tensor) -> Tensor:
    """See `Lenses.distort`."""
    x, y = ideal.unbind(1)
    p1, p2 = coefficients[:, 4:].unbind(1)
    squared = x * x + y * y
    factor, _ = radial(squared, coefficients)
    perspective = torch.stack(
        [
            x * factor + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
            y * factor + p1 * (squared + 2 * y * y) + 2 * p2 * x * y,
        ],
        1,
    )
    if not fisheye.any():
        return perspective
    radius = squared.sqrt().clamp_min(1e-12)
    angle = radius.atan()
    bent, _ = radial(angle * angle, coefficients)
    return torch.where(fisheye[:, None], ideal * (angle * bent / radius)[:, None], perspective)


def perspective_inverse(seen: Tensor, coefficients: Tensor) -> Tensor:
    """Ideal plane coordinates of distorted ones."""
    p1, p2 = coefficients[:, 4:].unbind(1)
    ideal = seen
    nowhere = torch.zeros_like(p1, dtype=torch.bool)
    for _ in range(STEPS):
        x, y = ideal.unbind(1)
        squared = x * x + y * y
        factor, slope = radial(squared, coefficients)
        error = distorted(ideal, coefficients, nowhere) - seen
        # Jacobian of `distorted`: it is symmetric.
        a = factor + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
        b = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
        d = factor + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
        determinant = a * d - b * b
        determinant = torch.where(determinant.abs() < 1e-6, 1e-6, determinant)
        step = torch.stack(
            [d * error[:, 0] - b * error[:, 1], a * error[:, 1] - b * error[:, 0]], 1
        )
        ideal = (ideal - step / determinant[:, None]).clamp(-WIDEST, WIDEST)
        if float(error.abs().max() if len(error) else 0) < 1e-7:
            break
    return ideal


def fisheye_inverse(seen: Tensor, coefficients: Tensor) -> Tensor:
    """Direction (right, down, ahead) of distorted plane coordinates."""
    target = seen.norm(dim=-1)
    angle = target.clamp(max=torch.pi)
    for _ in range(STEPS):
        factor, slope = radial(angle * angle, coefficients)
        rate = factor + 2 * angle * angle * slope
        rate = torch.where(rate.abs() < 1e-6, 1e-6, rate)
        angle = (angle - (angle * factor - target) / rate).clamp(0, torch.pi)
    around = seen / target.clamp_min(1e-12)[:, None]
    return torch.cat([around * angle.sin()[:, None], angle.cos()[:, None]], 1)
