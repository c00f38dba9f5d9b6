"""How well params answer what the parents were asked, as a loss that can be differentiated.

The questions are the lessons of `lessons`: rays of each parent's own cameras, so that each counts
where it saw, and points that were seen empty, where the clearest parent says what is right. Params
that compute what all parents compute have the loss 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.func import functional_call

from ..fields import Field
from ..matching.agreement import STATISTICS
from ..occupancy import in_chunks
from ..typing import Float, Tensor
from .base import MergeProblem
from .lessons import Lesson, SharedGrid, join_lessons, point_error, ray_error
from .parents import union_box
from .teaching import ask_parents

__all__ = ["Questions"]

#: Points in empty space, relative to the rays.
EMPTY_SHARE = 0.5


@dataclass(frozen=True)
class Questions:
    """What merged params are judged by.

    Attributes:
        network: A field of the architecture; its params are not looked at.
        lesson: What the parents say along rays.
        empty: (points, 3), positions that were seen empty.
        clear: (points,), opacity that the clearest parent has there over one cell.
        cell: Size of a cell, scene units.
        background: (3,), rgb.
    """

    network: Field
    lesson: Lesson
    empty: Tensor
    clear: Tensor
    cell: float
    background: Tensor

    @classmethod
    def of(cls, problem: MergeProblem, rays: int) -> Questions:
        """Ask the parents along so many rays, shared by coefficients and cameras."""
        aabb = union_box(problem.parents.facts)
        shared = SharedGrid.of(problem.parents, problem.knowledge, aabb)
        lesson = join_lessons(ask_parents(problem, shared, rays))
        generator = torch.Generator().manual_seed(problem.seed)
        empty = shared.empty_points(round(EMPTY_SHARE * rays), generator)
        cell = float(shared.grid.cell.min())
        clear = torch.ones(len(empty)).to(empty)
        for parent in problem.parents:
            clear = torch.minimum(clear, 1 - (-in_chunks(parent.density, empty) * cell).exp())
        background = torch.tensor(problem.parents.facts[0].record.background).to(aabb)
        network = problem.field_with(problem.params(0))
        return cls(network, lesson, empty, clear, cell, background)

    def error(self, params: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Squared errors along rays and at points, and the mean opacity put into empty space."""
        rounded = {}
        for name, tensor in params.items():
            rounded[name] = tensor.float() if tensor.is_floating_point() else tensor
            if name.endswith(STATISTICS):  # running statistics have no gradient
                rounded[name] = rounded[name].detach()
        upwards = torch.tensor([0.0, 0.0, 1.0]).to(self.empty).expand_as(self.empty)
        asked = (
            torch.cat([self.lesson.samples.positions, self.empty]),
            torch.cat([self.lesson.directions, upwards]),
        )
        density, rgb = functional_call(self.network, rounded, asked)
        on_rays = len(self.lesson.samples)
        along, colour = density[:on_rays], rgb[:on_rays]
        error = ray_error(self.lesson, along, colour, self.background)
        error = error + point_error(self.lesson, along, colour)
        if len(self.empty):
            fog = 1 - (-density[on_rays:] * self.cell).exp() - self.clear
            error = error + fog.clamp_min(0).mean()
        return error
