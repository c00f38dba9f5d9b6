"""What a view-dependent parent shows from different sides survives the merge."""

from __future__ import annotations

import copy
import dataclasses

import torch
from conftest import small_field

from memonf.cameras.cameras import turntable
from memonf.fields import Field, known
from memonf.merging import merge


def glossy_halves() -> list[Field]:
    """One field whose colours change with the direction, seen by two from opposite sides."""
    whole = small_field("nerf", seed=3)
    with torch.no_grad():  # the view branch listens to the direction above all
        directions = whole.view_layers[0].weight[:, whole.config.width :]
        directions.mul_(6.0)
        whole.colour_head.weight.mul_(3.0)
    around = turntable(12, 16, 4.0, torch.zeros(3))
    halves = []
    for cameras in (around[:6], around[6:]):
        half = copy.deepcopy(whole)
        half.record = dataclasses.replace(whole.record, cameras=cameras)
        halves.append(half)
    return halves


def changes_of_colour(field: Field, halves: list[Field]) -> torch.Tensor:
    """Colours of seen surface points from a camera of each half, their difference (points, 3)."""
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for half in halves:
        seen = known(half)
        points = points[(seen.views_at(points) > 0) & seen.solid_at(points)]
    assert len(points) > 50
    colours = []
    for half in halves:
        eye = half.record.cameras.positions[2]
        with torch.no_grad():
            directions = torch.nn.functional.normalize(points - eye, dim=-1)
            colours.append(field(points, directions).rgb)
    return colours[0] - colours[1]


def test_highlights_survive_distillation() -> None:
    halves = glossy_halves()
    true = changes_of_colour(halves[0], halves)
    assert true.abs().mean() > 0.1  # the parents do depend on the direction
    fresh = merge(halves, "distill", steps=150, start="scratch", rays=256).field
    reached = changes_of_colour(fresh, halves)
    correlation = torch.corrcoef(torch.stack([true.flatten(), reached.flatten()]))[0, 1]
    assert correlation > 0.7
    # Negative control: a student that cannot see the direction shows no change.
    flat = merge(halves, "distill", steps=2, student="tiny_nerf", rays=64).field
    assert changes_of_colour(flat, halves).abs().max() == 0
