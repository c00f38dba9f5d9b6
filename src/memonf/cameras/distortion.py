"""Lenses: from directions to the places in the picture that they light, and back.

Directions are (right, down, ahead), of any length. A lens projects them on a plane (u, v), bends
that plane, and the camera's intrinsics scale it to pixels: column = cx + fx u', row = cy + fy v'.

* Projection, with r the distance from the axis and θ = atan2(r, ahead) the angle from it:
  perspective (right, down) / ahead; fisheye (right, down) θ / r; FOV (right, down) t / r with
  t = atan(2 tan θ tan(ω / 2)) / ω; equirectangular (longitude, latitude), both in radians.
* Bending, with s = u² + v²:
  u' = u f + 2 p1 u v + p2 (s + 2 u²) + s1 s + s2 s² and
  v' = v f + p1 (s + 2 v²) + 2 p2 u v + s3 s + s4 s², where
  f = (1 + k1 s + k2 s² + k3 s³ + k4 s⁴) / (1 + q1 s + q2 s² + q3 s³).

OpenCV's and COLMAP's models are some of these coefficients each: OpenCV's k4, k5, k6 are q1, q2, q3
here, and COLMAP's sx1, sy1 are s1, s3.

Reference:
    Brown 1971, Close-range camera calibration; Kannala and Brandt 2006; Devernay and Faugeras 2001
    for FOV. Conventions are those of OpenCV's ``calib3d`` and ``fisheye``, COLMAP's sensor models,
    and nerfstudio, whose k4 is another power of r, and whose fisheyes have p1 and p2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, TypeAlias, get_args

import torch

from ..errors import DataError
from ..typing import Float, Int, Tensor

__all__ = ["COEFFICIENTS", "PROJECTIONS", "Lens", "Lenses", "Projection"]

Projection: TypeAlias = Literal["perspective", "fisheye", "equirectangular", "fov"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)
PERSPECTIVE, FISHEYE, EQUIRECTANGULAR, FOV = range(4)

#: Newton steps from a bent place back to the plane; 5 reach float precision for phones.
STEPS = 20
#: Largest distance from the middle of the plane that is asked for, by projection: 84° off the axis
#: for a perspective, all round for a fisheye.
WIDEST = (10.0, torch.pi, 10.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Lens:
    """One lens; see the module for its coefficients. By default it is that of a pinhole."""

    projection: Projection = "perspective"
    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    q1: float = 0.0
    q2: float = 0.0
    q3: float = 0.0
    s1: float = 0.0
    s2: float = 0.0
    s3: float = 0.0
    s4: float = 0.0
    omega: float = 0.0

    @property
    def coefficients(self) -> dict[str, float]:
        """All but the projection."""
        return {name: value for name, value in asdict(self).items() if name != "projection"}

    @property
    def pinhole(self) -> bool:
        """Whether it bends nothing."""
        return self.projection == "perspective" and not any(self.coefficients.values())


#: Names of the columns of `Lenses.coefficients`.
COEFFICIENTS = tuple(entry.name for entry in fields(Lens) if entry.name != "projection")


def named_view(view: int, names: Sequence[str] | None) -> str:
    """A view in a message: by its name, or by its place where views have none."""
    return str(view) if names is None else f"of {names[view]}"


@dataclass(frozen=True)
class Lenses:
    """The lens of each view.

    Attributes:
        coefficients: (views, 14), in the order of `COEFFICIENTS`.
        projection: (views,), places in `PROJECTIONS`.
    """

    coefficients: Float[Tensor, "views coefficients"]
    projection: Int[Tensor, " views"]

    @classmethod
    def of(cls, lenses: Sequence[Lens]) -> Lenses:
        """One lens for each view."""
        rows = [list(lens.coefficients.values()) for lens in lenses]
        places = [PROJECTIONS.index(lens.projection) for lens in lenses]
        return cls(torch.tensor(rows, dtype=torch.float32), torch.tensor(places))

    @classmethod
    def ideal(cls, views: int) -> Lenses:
        """Lenses that bend nothing."""
        return cls.of([Lens()] * views)

    @classmethod
    def join(cls, parts: Sequence[Lenses]) -> Lenses:
        """The lenses of one set of views after those of another."""
        return cls(
            torch.cat([part.coefficients for part in parts]),
            torch.cat([part.projection for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.coefficients)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Lenses:
        return Lenses(self.coefficients[index], self.projection[index])

    def lens(self, view: int) -> Lens:
        """The lens of one view."""
        values = self.coefficients[view].double().tolist()
        coefficients: dict[str, float] = dict(zip(COEFFICIENTS, values, strict=True))
        return Lens(projection=PROJECTIONS[int(self.projection[view])], **coefficients)

    def to(self, device: torch.device | str) -> Lenses:
        """Return the same lenses on `device`."""
        return Lenses(self.coefficients.to(device), self.projection.to(device))

    def check(self, names: Sequence[str] | None = None) -> None:
        """Refuse coefficients that are not finite, and FOV lenses without an angle.

        Args:
            names: Of the views, for messages; None for their places.
        """
        finite = self.coefficients.isfinite().all(1)
        if not finite.all():
            index = int((~finite).nonzero()[0])
            raise DataError(f"lens {named_view(index, names)}: expected finite coefficients")
        omega = self.coefficients[:, -1]
        wrong = (self.projection == FOV) & ~((omega > 1e-4) & (omega < torch.pi))
        if wrong.any():
            view = int(wrong.nonzero()[0])
            raise DataError(
                f"lens {named_view(view, names)}: `omega`: expected radians in (0.0001, pi), "
                f"received {float(omega[view]):g}"
            )

    def distort(
        self, directions: Float[Tensor, "points 3"], views: Tensor | int
    ) -> Float[Tensor, "points 2"]:
        """Where in the picture, before the intrinsics, directions (right, down, ahead) are seen.

        Args:
            directions: Of any length; ahead > 0 for what a perspective is asked for.
            views: View of each direction, or one for all.
        """
        coefficients, projection = self.along(views, len(directions))
        return bent(plane_of(directions, coefficients, projection), coefficients)[0]

    def undistort(
        self, seen: Float[Tensor, "points 2"], views: Tensor | int
    ) -> Float[Tensor, "points 3"]:
        """Direction, (right, down, ahead) of any length, from which places are lit: `distort` back.

        Newton's method.
        """
        coefficients, projection = self.along(views, len(seen))
        widest = torch.tensor(WIDEST).to(seen)[projection]
        return directions_of(unbent(seen, coefficients, widest), coefficients, projection)

    def depth(self, directions: Float[Tensor, "points 3"], view: int) -> Float[Tensor, " points"]:
        """Distance by which lengths at points shrink on the plane: about length / depth.

        Along the axis for a perspective. Other lenses stretch what is far off the axis, at most by
        θ / sin θ a fisheye and by 1 / cos(latitude) a sphere: distances are divided by that.
        """
        kind = int(self.projection[view])
        across = directions[:, :2].norm(dim=-1)
        if kind == FISHEYE:
            angle = torch.atan2(across, directions[:, 2])
            return torch.where(angle > 1e-6, across / angle.clamp_min(1e-6), directions[:, 2])
        if kind == EQUIRECTANGULAR:
            return torch.hypot(directions[:, 0], directions[:, 2])
        return directions[:, 2]

    def along(self, views: Tensor | int, points: int) -> tuple[Tensor, Tensor]:
        """Coefficients (points, 14) and projection (points,) of each point's lens."""
        coefficients, projection = self.coefficients[views], self.projection[views]
        if coefficients.ndim == 1:
            return coefficients.expand(points, -1), projection.expand(points)
        return coefficients, projection


def plane_of(directions: Tensor, coefficients: Tensor, projection: Tensor) -> Tensor:
    """Places (points, 2) on the plane that directions (points, 3) are projected to."""
    across, ahead = directions[:, :2], directions[:, 2:]
    plane = across / ahead
    if not projection.any():
        return plane
    radius = across.norm(dim=-1, keepdim=True)
    angle = torch.atan2(radius, ahead)
    safe = radius.clamp_min(1e-12)
    omega = coefficients[:, -1:].clamp_min(1e-4)
    widened = (2 * angle.tan() * (omega / 2).tan()).atan() / omega
    level = torch.hypot(directions[:, 0], directions[:, 2])
    sphere = torch.stack(
        [
            torch.atan2(directions[:, 0], directions[:, 2]),
            torch.atan2(directions[:, 1], level),
        ],
        1,
    )
    for kind, found in (
        (FISHEYE, torch.where(radius > 1e-12, across * angle / safe, plane)),
        (FOV, torch.where(radius > 1e-12, across * widened / safe, plane)),
        (EQUIRECTANGULAR, sphere),
    ):
        plane = torch.where((projection == kind)[:, None], found, plane)
    return plane


def directions_of(plane: Tensor, coefficients: Tensor, projection: Tensor) -> Tensor:
    """Directions (points, 3) that are projected to places (points, 2) on the plane."""
    found = torch.cat([plane, torch.ones_like(plane[:, :1])], 1)
    if not projection.any():
        return found
    distance = plane.norm(dim=-1, keepdim=True)
    around = plane / distance.clamp_min(1e-12)
    omega = coefficients[:, -1:].clamp_min(1e-4)
    # A FOV lens squeezes all that is ahead into a disc of radius pi / (2 omega).
    tangent = (distance * omega).clamp_max(1.55).tan() / (2 * (omega / 2).tan())
    longitude, latitude = plane.unbind(1)
    sphere = torch.stack(
        [
            longitude.sin() * latitude.cos(),
            latitude.sin(),
            longitude.cos() * latitude.cos(),
        ],
        1,
    )
    for kind, other in (
        (FISHEYE, torch.cat([around * distance.sin(), distance.cos()], 1)),
        (FOV, torch.cat([around * tangent, torch.ones_like(tangent)], 1)),
        (EQUIRECTANGULAR, sphere),
    ):
        found = torch.where((projection == kind)[:, None], other, found)
    return found


def bent(plane: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Bent places (points, 2) of the plane, and the Jacobian there (points, 2, 2)."""
    u, v = plane.unbind(1)
    k1, k2, k3, k4, p1, p2, q1, q2, q3, s1, s2, s3, s4, _ = coefficients.unbind(1)
    s = u * u + v * v
    above = 1 + s * (k1 + s * (k2 + s * (k3 + s * k4)))
    above_slope = k1 + s * (2 * k2 + s * (3 * k3 + s * 4 * k4))
    below = 1 + s * (q1 + s * (q2 + s * q3))
    below_slope = q1 + s * (2 * q2 + s * 3 * q3)
    factor = above / below
    slope = (above_slope - factor * below_slope) / below  # of the factor, by s
    seen = torch.stack(
        [
            u * factor + 2 * p1 * u * v + p2 * (s + 2 * u * u) + s * (s1 + s * s2),
            v * factor + p1 * (s + 2 * v * v) + 2 * p2 * u * v + s * (s3 + s * s4),
        ],
        1,
    )
    mixed = 2 * u * v * slope + 2 * p1 * u + 2 * p2 * v
    right, down = 2 * (s1 + 2 * s * s2), 2 * (s3 + 2 * s * s4)  # of the prism, by s, twice
    jacobian = torch.stack(
        [
            factor + 2 * u * u * slope + 2 * p1 * v + 6 * p2 * u + right * u,
            mixed + right * v,
            mixed + down * u,
            factor + 2 * v * v * slope + 6 * p1 * v + 2 * p2 * u + down * v,
        ],
        1,
    )
    return seen, jacobian.view(-1, 2, 2)


def unbent(seen: Tensor, coefficients: Tensor, widest: Tensor) -> Tensor:
    """Places (points, 2) of the plane that are bent to `seen`, at most `widest` (points,) away."""
    plane = within(seen, widest)
    if not coefficients[:, :-1].any():
        return plane
    for _ in range(STEPS):
        found, jacobian = bent(plane, coefficients)
        error = found - seen
        (a, b), (c, d) = (row.unbind(1) for row in jacobian.unbind(1))
        determinant = a * d - b * c
        determinant = torch.where(determinant.abs() < 1e-6, 1e-6, determinant)
        step = torch.stack(
            [d * error[:, 0] - b * error[:, 1], a * error[:, 1] - c * error[:, 0]], 1
        )
        plane = within(plane - step / determinant[:, None], widest)
        if float(error.abs().max() if len(error) else 0) < 1e-7:
            break
    return plane


def within(plane: Tensor, widest: Tensor) -> Tensor:
    """Places of the plane (points, 2), drawn towards its middle to at most a distance (points,)."""
    distance = plane.norm(dim=-1)
    return plane * (widest / distance.clamp_min(1e-12)).clamp_max(1.0)[:, None]
