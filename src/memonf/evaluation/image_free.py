"""What can be said of a merge from the fields alone, where no image is at hand.

* *Fidelity*: how far the merge's pictures are from each parent's, along rays of that parent's own
  cameras. With what is known of the parent's own error this predicts what the merge loses.
* *Disagreement*: where two parents saw the same matter and say different things of it.
* *Unseen*: what no camera of any parent saw.
* *Seam*: how much worse the merge is where the best informed parent changes.

Symbols: e_i mean squared error of parent i on its own views, m_i of the merge against parent i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch

from ..fields import Field, known
from ..rendering.knowledge import (
    SOLID_RESOLUTION,
    Knowledge,
    assumed_cameras,
    disagreement,
    observe,
    union,
)
from ..rendering.occupancy_grid import CHUNK, OccupancyGrid
from ..rendering.volume_rendering import SKETCHES, Renderer, render_rays
from ..typing import Float, Tensor

__all__ = ["Evidence", "ParentEvidence", "assess", "predict"]

#: Error of a parent whose own is not recorded: 30 dB.
ASSUMED_ERROR = 1e-3
#: Training rays flatter a field; held-out views of parents measured this many times their error.
HELD_OUT = 1.3


@dataclass(frozen=True)
class ParentEvidence:
    """How one parent's views come out.

    Attributes:
        group: View group of the parent.
        fidelity: PSNR of the merge against the parent along the parent's own rays, dB.
        predicted_psnr: Of the merge on the parent's views, against the images, dB.
        predicted_loss: Against the parent itself on its views, dB, >= 0.
    """

    group: str
    fidelity: float
    predicted_psnr: float
    predicted_loss: float


@dataclass(frozen=True)
class Evidence:
    """What the fields say of a merge.

    Attributes:
        parents: Of each parent, in the order given.
        predicted_psnr: Mean over parents, dB.
        predicted_loss: Mean over parents, dB.
        disagreement: Share of the matter that two parents saw and only one found, in [0, 1]; None
            if no two saw the same matter.
        colour_disagreement: Root mean square difference of the colours of matter that two parents
            found, in [0, 1]; None if there is none.
        unseen_matter: Share of the merge's matter that is in sight from outside its box and that no
            camera of a parent saw, in [0, 1].
        unseen_space: Share of the box that no camera saw, in [0, 1].
        seam: Error against the best informed parent near places where that parent changes,
            relative to the error elsewhere; 1 is no seam. None if there are no such places.
    """

    parents: tuple[ParentEvidence, ...]
    predicted_psnr: float
    predicted_loss: float
    disagreement: float | None
    colour_disagreement: float | None
    unseen_matter: float
    unseen_space: float
    seam: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def assess(merged: Field, parents: Sequence[Field], *, rays: int = 4096, seed: int = 0) -> Evidence:
    """Judge a merge by its parents; no image is looked at.

    Args:
        merged: The merged field.
        parents: The fields it was made of, on its device; taken one after the other.
        rays: Rays along which the merge is compared with each parent.
        seed: Seed of their choice.
    """
    each = predict(merged, parents, rays=rays, seed=seed)
    knowledge = [known(parent) for parent in parents]
    matter = Matter.of(merged, parents, knowledge)
    pairs = [
        measured
        for one in range(len(knowledge))
        for other in range(one)
        if (measured := disagreement(knowledge[one], knowledge[other])) is not None
    ]
    together = union(knowledge, merged.aabb)
    return Evidence(
        each,
        fmean(evidence.predicted_psnr for evidence in each),
        fmean(evidence.predicted_loss for evidence in each),
        fmean(pairs) if pairs else None,
        matter.colour_disagreement(),
        matter.unseen(),
        1 - together.seen_share,
        matter.seam(),
    )


@torch.no_grad()
def predict(
    merged: Field, parents: Sequence[Field], *, rays: int = 4096, seed: int = 0
) -> tuple[ParentEvidence, ...]:
    """How each parent's views will come out, from rays along its own cameras; see `assess`.

    The mean of `predicted_psnr` orders merges of the same parents as their true PSNR does.
    """
    renderer = Renderer.of(merged, SKETCHES)
    return tuple(
        compared_with(renderer, parent, rays, torch.Generator().manual_seed(seed + number))
        for number, parent in enumerate(parents)
    )


def compared_with(
    merged: Renderer, parent: Field, rays: int, generator: torch.Generator
) -> ParentEvidence:
    """The merge against one parent along random rays of the parent's cameras."""
    device = parent.aabb.device
    record = parent.record
    cameras = (record.cameras or assumed_cameras(parent.aabb)).to(device)
    pixels = torch.randint(cameras.pixel_count, (rays,), generator=generator).to(device)
    drawn = cameras.rays(*cameras.places(pixels))
    own = Renderer.of(parent, SKETCHES)
    colours = [
        render_rays(
            renderer.field, drawn, renderer.grid, renderer.march, own.background,
            near=record.near, far=record.far,
        ).rgb.clamp(0, 1)
        for renderer in (merged, own)
    ]  # fmt: skip
    difference = float((colours[0] - colours[1]).square().mean())
    error = HELD_OUT * own_error(parent)
    return ParentEvidence(
        record.group,
        decibel(difference),
        decibel(error + difference),
        decibel(error) - decibel(error + difference),
    )


def own_error(parent: Field) -> float:
    """Mean squared error that a field ended its training with; an assumption if not recorded."""
    psnr = parent.record.training.get("psnr_done")
    return 10 ** (-psnr / 10) if isinstance(psnr, (int, float)) else ASSUMED_ERROR


def decibel(error: float) -> float:
    """PSNR of a mean squared error, values in [0, 1]."""
    return -10 * math.log10(max(error, 1e-12))


@dataclass(frozen=True)
class Matter:
    """The cells in which the merge or a parent that saw them has matter.

    Attributes:
        views: (parents, cells), number of cameras that saw each.
        alpha: (parents, cells), each parent's opacity across the cell.
        rgb: (parents, cells, 3), its colour there.
        merged_alpha: (cells,), of the merge.
        merged_rgb: (cells, 3), of the merge.
        in_sight: (cells,), whether the merge's matter there can be seen from outside the box.
        border: (cells,), whether the best informed parent is another one next door.
    """

    views: Float[Tensor, "parents cells"]
    alpha: Float[Tensor, "parents cells"]
    rgb: Float[Tensor, "parents cells 3"]
    merged_alpha: Float[Tensor, " cells"]
    merged_rgb: Float[Tensor, "cells 3"]
    in_sight: Tensor
    border: Tensor

    @classmethod
    def of(cls, merged: Field, parents: Sequence[Field], knowledge: Sequence[Knowledge]) -> Matter:
        """Look at all fields in the cells of the merge's box."""
        grid = OccupancyGrid(merged.aabb, SOLID_RESOLUTION)
        grid.update(merged.density)
        views = torch.stack([seen.views_on(grid) for seen in knowledge])
        found = torch.stack([seen.solid_on(grid) for seen in knowledge])
        cells = (grid.occupied | (found & (views > 0)).any(0)).nonzero()[:, 0]
        points = grid.centres()[cells]
        upwards = torch.tensor([0.0, 0.0, 1.0]).to(points).expand_as(points)
        length = float(grid.cell.mean())

        def look(field: Field) -> tuple[Tensor, Tensor]:
            parts = zip(points.split(CHUNK), upwards.split(CHUNK), strict=True)
            answers = [field(where, towards) for where, towards in parts]
            density = torch.cat([answer.density for answer in answers])
            return 1 - (-density * length).exp(), torch.cat([answer.rgb for answer in answers])

        answers = [look(parent) for parent in parents]
        merged_alpha, merged_rgb = look(merged)
        best = views.argmax(0).view((grid.resolution,) * 3)
        border = torch.zeros_like(best, dtype=torch.bool)
        for axis in range(3):
            changes = best.narrow(axis, 1, len(best) - 1) != best.narrow(axis, 0, len(best) - 1)
            border.narrow(axis, 1, len(best) - 1).logical_or_(changes)
            border.narrow(axis, 0, len(best) - 1).logical_or_(changes)
        return cls(
            views[:, cells],
            torch.stack([alpha for alpha, _ in answers]),
            torch.stack([rgb for _, rgb in answers]),
            merged_alpha,
            merged_rgb,
            observe(grid, assumed_cameras(grid.aabb)).views_on(grid)[cells] > 0,
            border.flatten()[cells],
        )

    def unseen(self) -> float:
        """Share of the merge's matter in sight that no camera of a parent saw."""
        visible = (self.merged_alpha > 0.5) & self.in_sight
        if not visible.any():
            return 0.0
        return float((self.views.amax(0)[visible] == 0).float().mean())

    def colour_disagreement(self) -> float | None:
        """Root mean square colour difference of parents on matter that both saw and found."""
        squares = []
        for one in range(len(self.views)):
            for other in range(one):
                both = (self.views[[one, other]] > 0).all(0)
                both &= (self.alpha[[one, other]] > 0.5).all(0)
                if both.any():
                    squares.append((self.rgb[one, both] - self.rgb[other, both]).square().mean())
        return float(torch.stack(squares).mean().sqrt()) if squares else None

    def seam(self) -> float | None:
        """Error against the best informed parent at borders, relative to elsewhere."""
        seen = self.views.amax(0) > 0
        best = self.views.argmax(0)
        cells = torch.arange(len(best), device=best.device)
        alpha, rgb = self.alpha[best, cells], self.rgb[best, cells]
        coloured = self.merged_alpha[:, None] * self.merged_rgb - alpha[:, None] * rgb
        error = (self.merged_alpha - alpha).square() + coloured.square().sum(-1)
        near, away = seen & self.border, seen & ~self.border
        if not near.any() or not away.any():
            return None
        return float((error[near].mean() / error[away].mean().clamp_min(1e-12)).sqrt())
