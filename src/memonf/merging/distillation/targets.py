"""What a merged field is to answer, and how far its answers are from it.

One loss for all that fit a field to its parents: distillation, the search for permutations by the
midpoint's answers, and the linear solve of ``gauss_newton``. It has three terms. *Along rays* of
each parent's own cameras, so that each counts where it saw, the composited colours are to agree.
*At the samples* of these rays opacity and colour are to agree. *In space that was seen empty*, the
field is to be as clear as the clearest parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.func import functional_call

from ...fields import Field
from ...matching.agreement import STATISTICS
from ...rendering.occupancy_grid import in_chunks
from ...typing import Float, Tensor
from ..parents import union_box
from ..problem import MergeProblem
from .asking import ask_parents
from .lessons import Lesson, SharedGrid, join_lessons, point_error, ray_error

__all__ = ["Errors", "Questions", "Targets"]

#: Points in empty space, relative to the rays.
EMPTY_SHARE = 0.5


@dataclass(frozen=True)
class Errors:
    """How far answers are from the targets; each can be differentiated.

    Attributes:
        along_rays: Mean squared error of the composited colours.
        at_samples: Squared errors of opacity and colour, as far as they matter to pictures.
        in_empty_space: Mean opacity beyond what is allowed; None without such points.
    """

    along_rays: Float[Tensor, ""]
    at_samples: Float[Tensor, ""]
    in_empty_space: Float[Tensor, ""] | None

    def total(self, empty_weight: float = 1.0) -> Float[Tensor, ""]:
        """The loss; `empty_weight` is the weight of empty space."""
        loss = self.along_rays + self.at_samples
        if self.in_empty_space is not None:
            loss = loss + empty_weight * self.in_empty_space
        return loss


@dataclass(frozen=True)
class Targets:
    """Answers of the parents, and points that are to be empty.

    Attributes:
        lesson: What the parents answer along rays.
        empty: (points, 3), positions that were seen empty, scene units.
        cell: Stretch over which opacity is taken there, scene units.
        background: (3,), rgb.
        clear: (points,), opacity that is allowed in the empty points; None for none.
    """

    lesson: Lesson
    empty: Float[Tensor, "points 3"]
    cell: float
    background: Float[Tensor, " 3"]
    clear: Float[Tensor, " points"] | None = None

    @property
    def positions(self) -> Float[Tensor, "asked 3"]:
        """Where the field is asked: at the samples, then in empty space."""
        return torch.cat([self.lesson.samples.positions, self.empty])

    @property
    def directions(self) -> Float[Tensor, "asked 3"]:
        """Viewing directions there; upwards in empty space."""
        upwards = torch.tensor([0.0, 0.0, 1.0]).to(self.empty).expand_as(self.empty)
        return torch.cat([self.lesson.directions, upwards])

    def errors(self, density: Float[Tensor, " asked"], rgb: Float[Tensor, "asked 3"]) -> Errors:
        """Compare answers at `positions` and `directions`."""
        on_rays = len(self.lesson.samples)
        along, colour = density[:on_rays], rgb[:on_rays]
        in_empty = None
        if len(self.empty):
            opacity = 1 - (-density[on_rays:] * self.cell).exp()
            in_empty = opacity if self.clear is None else (opacity - self.clear).clamp_min(0)
            in_empty = in_empty.mean()
        return Errors(
            ray_error(self.lesson, along, colour, self.background),
            point_error(self.lesson, along, colour),
            in_empty,
        )

    def sample_terms(
        self, empty_share: float
    ) -> tuple[Tensor, Float[Tensor, "asked 4"], Float[Tensor, "asked 4"]]:
        """The pointwise terms as a least-squares problem.

        Args:
            empty_share: Weight of all empty points, relative to all opacities along rays.

        Returns:
            Stretch over which opacity is taken (asked,), scene units; opacity and colour that are
            to be answered (asked, 4); weights of their squared errors (asked, 4).
        """
        lesson, empty = self.lesson, self.empty
        lengths = torch.cat([lesson.samples.lengths, torch.full_like(empty[:, 0], self.cell)])
        values = padded(torch.cat([lesson.alpha[:, None], lesson.rgb], 1), len(empty))
        of_colour = lesson.rgb_weight[:, None].expand(-1, 3)
        weights = padded(
            torch.cat([lesson.alpha_weight[:, None], of_colour], 1) / (3 * lesson.drawn), len(empty)
        )
        alone = empty_share * lesson.alpha_weight.sum() / (3 * lesson.drawn * max(1, len(empty)))
        weights[len(lesson.samples) :, 0] = alone
        return lengths, values, weights


def padded(values: Float[Tensor, "samples 4"], count: int) -> Float[Tensor, "points 4"]:
    """The values of the samples, and zeros for the points that are to be empty."""
    return torch.cat([values, values.new_zeros(count, 4)])


@dataclass(frozen=True)
class Questions:
    """Targets for params of one architecture: what a merge of given params would get wrong.

    Attributes:
        network: A field of the architecture; its params are not looked at.
        targets: What is to be answered. Params that compute what all parents compute have loss 0.
    """

    network: Field
    targets: Targets

    @classmethod
    def of(cls, problem: MergeProblem, coefficients: Sequence[float], rays: int) -> Questions:
        """Ask the parents along so many rays, shared by coefficients and cameras."""
        aabb = union_box(problem.parents.facts)
        shared = SharedGrid.of(problem.parents, problem.knowledge, aabb)
        lesson = join_lessons(ask_parents(problem, coefficients, shared, rays))
        generator = torch.Generator().manual_seed(problem.seed)
        empty = shared.empty_points(round(EMPTY_SHARE * rays), generator)
        cell = float(shared.grid.cell.min())
        clear = torch.ones(len(empty)).to(empty)
        for parent in problem.parents:
            clear = torch.minimum(clear, 1 - (-in_chunks(parent.density, empty) * cell).exp())
        background = torch.tensor(problem.parents.facts[0].record.background).to(aabb)
        network = problem.field_with(problem.params[0])
        return cls(network, Targets(lesson, empty, cell, background, clear))

    def error(self, params: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The loss of a field with these params, which can be differentiated."""
        rounded = {}
        for name, tensor in params.items():
            rounded[name] = tensor.float() if tensor.is_floating_point() else tensor
            if name.endswith(STATISTICS):  # running statistics have no gradient
                rounded[name] = rounded[name].detach()
        asked = self.targets.positions, self.targets.directions
        density, rgb = functional_call(self.network, rounded, asked)
        return self.targets.errors(density, rgb).total()
