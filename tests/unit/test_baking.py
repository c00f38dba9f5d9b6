"""Fields written out on a grid: what they keep, and what they cannot."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from conftest import Shell, small_field
from torch.nn import functional as F

from memonf.cameras.cameras import turntable
from memonf.errors import InputError
from memonf.rendering.baking import BakedField, preview
from memonf.rendering.occupancy_grid import OccupancyGrid
from memonf.rendering.volume_rendering import PICTURES, Renderer

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


class SoftBall:
    """A ball whose colour is its position, or the direction it is seen from."""

    def __init__(self, view_dependent: bool = False) -> None:
        self.aabb = BOX
        self.record = SimpleNamespace(near=0.0, far=1e6, background=(1.0, 1.0, 1.0))
        self.view_dependent = view_dependent

    def density(self, positions: torch.Tensor) -> torch.Tensor:
        return 40 * torch.sigmoid((0.6 - positions.norm(dim=-1)) * 30)

    def __call__(
        self, positions: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen = directions if self.view_dependent else positions
        return self.density(positions), seen * 0.5 + 0.5


def test_of_a_sharp_field_no_matter_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = OccupancyGrid(Shell().aabb, 120).centres()
    matter = int((Shell().density(points) > 0).sum())
    found = {}
    for sharp in (False, True):
        monkeypatch.setattr(Shell, "sharp", sharp)
        found[sharp] = int((BakedField.of(Shell(), 120, 3).values[0] > 0).sum())
    assert found[True] == matter
    assert found[False] < 0.95 * matter


def test_at_its_points_the_grid_holds_the_field_and_between_them_the_mean() -> None:
    """Exactly at the points; half-way between two points in matter, their mean."""
    ball = SoftBall()
    baked = BakedField.of(ball, 32)
    point, other = torch.tensor([[0.03125, 0.09375, -0.15625], [0.09375, 0.09375, -0.15625]])
    at_points = ball(torch.stack([point, other]), torch.zeros(2, 3))
    for part, truth in zip(
        baked(torch.stack([point, other]), torch.zeros(2, 3)), at_points, strict=True
    ):
        torch.testing.assert_close(part, truth, rtol=1e-4, atol=1e-4)
    between = baked((point + other)[None] / 2, torch.zeros(1, 3))
    torch.testing.assert_close(between[1][0], at_points[1].mean(0), rtol=1e-4, atol=1e-4)


def test_colours_at_the_border_of_matter_are_not_those_of_the_air_beside_it() -> None:
    """Half-way between the last point in matter and the first in air: its colour, half as dense."""
    values = torch.zeros(4, 8, 8, 8)
    values[:, :4] = torch.tensor([5.0, 4.0, 3.0, 1.0])[:, None, None, None]
    baked = BakedField(values, OccupancyGrid(BOX, 8), SoftBall().record)
    inside = torch.tensor([[-0.125, 0.125, 0.125]])
    border = inside + torch.tensor([[0.125, 0.0, 0.0]])
    (dense,), (colour,) = baked(inside, inside)
    (thin,), (beside,) = baked(border, border)
    torch.testing.assert_close(beside, colour)
    assert float(thin) == pytest.approx(float(dense) / 2)


def test_pictures_by_a_baked_fields_grid_are_those_by_the_fields_own() -> None:
    """A field is looked at once for both; its scored pictures do not change by a bit."""
    cameras = turntable(1, 32, 3.0, torch.zeros(3), elevation=20.0, field_of_view=40.0)
    field = small_field("tiny_nerf")
    baked = BakedField.of(field, PICTURES.resolution, PICTURES.factor)
    shared, own = Renderer.of(field, grid=baked.grid), Renderer.of(field)
    assert float((own.view(cameras, 0).rgb - 1).abs().max()) > 0.1
    assert torch.equal(shared.view(cameras, 0).rgb, own.view(cameras, 0).rgb)


def test_previews_look_like_the_field() -> None:
    """35 dB on a soft ball; a mirrored or transposed axis would give less than 20."""
    ball = SoftBall()
    cameras = turntable(3, 48, 3.0, torch.zeros(3), elevation=20.0, field_of_view=40.0)
    exact, baked = Renderer.of(ball), preview(ball, points=64)
    for view in range(3):
        error = (exact.view(cameras, view).rgb - baked.view(cameras, view).rgb).square().mean()
        assert -10 * float(torch.log10(error)) > 35


def test_view_dependent_colours_are_those_seen_from_outside() -> None:
    """A direction-coloured ball is baked as seen by cameras that look at its middle."""
    baked = BakedField.of(SoftBall(view_dependent=True), 64)
    surface = F.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    _, rgb = baked(0.55 * surface, torch.zeros(20, 3))
    assert float((rgb - (-surface * 0.5 + 0.5)).abs().max()) < 0.06


def test_all_architectures_bake() -> None:
    """Fields of the project, view-dependent ones too; odd sizes are refused."""
    for kind in ("tiny_nerf", "nerf", "siren"):
        baked = BakedField.of(small_field(kind), 16)
        assert baked.density(torch.zeros(2, 3)).shape == (2,)
    with pytest.raises(InputError, match="multiple of 4"):
        BakedField.of(small_field("tiny_nerf"), 30)
