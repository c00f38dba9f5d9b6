"""Closed form: one linear least-squares problem over all params, without a gradient step.

Symbols: θ params, r(θ) residuals against the parents' outputs where they saw (`lessons`,
pointwise), J = ∂r/∂θ.

Starting from the parent (or the average) of least error, the params move by the δ that solves
(JᵀJ + λI) δ = −Jᵀr: the network, linearised in its params, then reproduces all parents. The system
has as many unknowns as the network has params, so it is solved by conjugate gradients, whose
products with JᵀJ take one forward and one backward pass. Shorter steps along δ are tried as well,
because the linearisation is not exact.

Reference:
    Gauss 1809; Hestenes and Stiefel 1952; Pearlmutter 1994, Fast exact multiplication by the
    Hessian, Neural Computation 6(1). Solving for a merge in closed form: Jin et al. 2022, RegMean,
    arXiv 2212.09849, there layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field as Limits
from torch import nn
from torch.func import functional_call

from ...fields import Field
from ...symmetry import Params
from ...typing import Float, Tensor
from ..coefficients import Coefficients
from ..distillation.asking import ask_parents
from ..distillation.lessons import SharedGrid, join_lessons
from ..distillation.start import pick_start
from ..distillation.targets import Targets
from ..method import METHODS, SETTINGS, Figures, MergeMethod, settings_dataclass
from ..parents import union_box
from ..problem import MergeProblem

__all__ = ["GaussNewton", "solve_params"]

#: Points in a piece of the system; its activations then stay in a core's cache.
CHUNK = 3072
#: Weight of all points seen empty, relative to all opacities along rays.
EMPTY_SHARE = 0.02
#: Shares of δ that are tried.
LENGTHS = (1.0, 0.5, 0.25)


@METHODS.register("gauss_newton")
@settings_dataclass(**SETTINGS)
class GaussNewton(MergeMethod[tuple[MergeProblem, SharedGrid]]):
    """Solve once for the params that reproduce the parents' outputs where they saw.

    Attributes:
        rays: Rays along which the parents are asked, shared by coefficients and cameras.
        iterations: Conjugate-gradient iterations.
        damping: λ relative to the curvature along the gradient.
    """

    rays: Annotated[int, Limits(ge=1, le=1 << 22)] = 8192
    iterations: Annotated[int, Limits(ge=1, le=10_000)] = 12
    damping: Annotated[float, Limits(gt=0, le=1e6)] = 1e-2

    summary = "all params solved for at once, closed form: what the parents say where they saw"
    paper = "Jin et al. 2022, RegMean, arXiv 2212.09849"
    needs_positions = True
    needs_knowledge = True
    function_space = True
    #: Space that was seen empty is cleared even if the parents are equal.
    idempotent = False
    symmetric = True

    def prepare(self, problem: MergeProblem) -> tuple[MergeProblem, SharedGrid]:
        """See `MergeMethod.prepare`."""
        aabb = union_box(problem.parents.facts)
        return problem, SharedGrid.of(problem.parents, problem.knowledge, aabb)

    def combine(
        self, state: tuple[MergeProblem, SharedGrid], coefficients: Coefficients
    ) -> tuple[Params, Figures]:
        """See `MergeMethod.combine`."""
        problem, shared = state
        shares = coefficients.overall
        lesson = join_lessons(ask_parents(problem, shares, shared, self.rays))
        first = problem.parents.facts[0]
        field, start = pick_start(problem, shares, first.name, first.config, first.aabb, [lesson])
        empty = shared.empty_points(self.rays // 4, torch.Generator().manual_seed(problem.seed))
        background = torch.tensor(first.record.background).to(first.aabb)
        targets = Targets(lesson, empty, float(shared.grid.cell.min()), background)
        names = [name for name, _ in field.named_parameters()]
        solved = solve_params(field, names, targets, self.iterations, self.damping)
        return solved.params, {"gauss_newton": {**start.described(), "length": solved.length}}


@dataclass(frozen=True)
class SolvedParams:
    """Params after one solve.

    Attributes:
        params: State of the field.
        length: Share of δ that was taken; 0 if none was better than the start.
    """

    params: Params
    length: float


def solve_params(
    start: Field, names: list[str], targets: Targets, iterations: int, damping: float
) -> SolvedParams:
    """Solve the least-squares problem for some of a field's params.

    Args:
        start: Where the network is linearised.
        names: Params to solve for.
        targets: What the parents answer, and points that are to be empty.
        iterations: Conjugate-gradient iterations.
        damping: See `GaussNewton`.
    """
    state = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    params = {name: state[name] for name in names}
    network = Raw(start)
    system = System(
        targets.positions, targets.directions, *targets.sample_terms(EMPTY_SHARE),
        start.activate_density,
    )  # fmt: skip
    # Neighbours along a ray are similar; each part should be a random sample of all points.
    order = torch.randperm(len(system.lengths), generator=torch.Generator().manual_seed(0))
    order = order.to(system.lengths.device)
    pieces = [SystemPart.of(network, params, system.at(part)) for part in order.split(CHUNK)]
    step = conjugate_gradients(pieces, params, iterations, damping)

    def error(length: float) -> float:
        moved = {name: params[name] + length * step[name] for name in names}
        return sum(
            float(piece.system.residuals(network.at(moved, piece.system)).square().sum())
            for piece in pieces
        )

    best = min((0.0, *LENGTHS), key=error)
    return SolvedParams(state | {name: params[name] + best * step[name] for name in names}, best)


class Raw(nn.Module):
    """A field's network as one function: positions, directions -> raw density and colour."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field

    def forward(self, positions: Tensor, directions: Tensor) -> Tensor:
        """See `Field.raw`: (points, 4)."""
        density, rgb = self.field.raw(self.field.normalise(positions), directions)
        return torch.cat([density[:, None], rgb], 1)

    def at(self, params: Params, system: System) -> Float[Tensor, "points 4"]:
        """Raw outputs with other params."""
        named = {f"field.{name}": value for name, value in params.items()}
        return functional_call(self, named, (system.positions, system.directions))


@dataclass(frozen=True)
class System:
    """Targets of the raw outputs at some points.

    Attributes:
        positions: (points, 3), scene units.
        directions: (points, 3), unit length.
        lengths: (points,), stretch over which opacity is taken, scene units.
        values: (points, 4), opacity and colour.
        weights: (points, 4), of their squared errors.
        activate: Raw density -> density.
    """

    positions: Tensor
    directions: Tensor
    lengths: Tensor
    values: Tensor
    weights: Tensor
    activate: Callable[[Tensor], Tensor]

    def at(self, picked: Tensor) -> System:
        """Some of the points."""
        return System(
            self.positions[picked], self.directions[picked], self.lengths[picked],
            self.values[picked], self.weights[picked], self.activate,
        )  # fmt: skip

    def residuals(self, raw: Float[Tensor, "points 4"]) -> Float[Tensor, "points 4"]:
        """Weighted errors, each of which depends on its own raw output alone."""
        alpha = 1 - (-self.activate(raw[:, :1]) * self.lengths[:, None]).exp()
        return self.weights.sqrt() * (torch.cat([alpha, raw[:, 1:].sigmoid()], 1) - self.values)


@dataclass(frozen=True)
class SystemPart:
    """Some points of the linearised system.

    Products with J and Jᵀ run backwards through two graphs that are kept: of the network at the
    start, and of its own gradient, which is linear in what is pulled. That takes two matrix
    products a layer each, and no second forward pass (Pearlmutter 1994).

    Attributes:
        system: These points.
        leaves: The params at the start.
        outputs: Raw outputs (points, 4) there, with their graph.
        pulled: (points, 4), zeros: a gradient of the raw outputs.
        gradients: Of the params for `pulled`, with their graph.
        slope: Derivative of each residual by its raw output.
        gradient: Jᵀr of these points.
    """

    system: System
    leaves: Params
    outputs: Tensor
    pulled: Tensor
    gradients: tuple[Tensor, ...]
    slope: Tensor
    gradient: Params

    @classmethod
    @torch.enable_grad()
    def of(cls, network: Raw, params: Params, system: System) -> SystemPart:
        """Linearise at `params`."""
        leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        outputs = network.at(leaves, system)
        pulled = torch.zeros_like(outputs, requires_grad=True)
        gradients = torch.autograd.grad(
            (outputs * pulled).sum(), list(leaves.values()), create_graph=True,
            materialize_grads=True,
        )  # fmt: skip
        here = outputs.detach().requires_grad_()
        residuals = system.residuals(here)
        (slope,) = torch.autograd.grad(residuals.sum(), here)
        piece = cls(system, leaves, outputs, pulled, gradients, slope, {})
        return replace(piece, gradient=piece.pull(slope * residuals.detach()))

    # Sums are differentiated, not tensors: torch imports sympy for the latter, half a second.
    @torch.enable_grad()
    def pull(self, change: Float[Tensor, "points 4"]) -> Params:
        """Jᵀ times a gradient of the raw outputs."""
        gradients = torch.autograd.grad(
            (self.outputs * change).sum(), list(self.leaves.values()), retain_graph=True,
            materialize_grads=True,
        )  # fmt: skip
        return dict(zip(self.leaves, gradients, strict=True))

    @torch.enable_grad()
    def push(self, vector: Params) -> Float[Tensor, "points 4"]:
        """J times a change of the params."""
        named = zip(self.leaves, self.gradients, strict=True)
        along = torch.stack([(gradient * vector[name]).sum() for name, gradient in named]).sum()
        return torch.autograd.grad(along, self.pulled, retain_graph=True)[0]

    def product(self, vector: Params) -> Params:
        """JᵀJ times a vector."""
        return self.pull(self.slope.square() * self.push(vector))


def conjugate_gradients(
    pieces: list[SystemPart], params: Params, iterations: int, damping: float
) -> Params:
    """δ of (JᵀJ + λI) δ = −Jᵀr."""

    def total(parts: list[Params]) -> Params:
        return {name: torch.stack([part[name] for part in parts]).sum(0) for name in params}

    def dot(one: Params, other: Params) -> Tensor:
        return torch.stack([(one[name] * other[name]).sum() for name in params]).sum()

    def product(vector: Params) -> Params:
        return total([piece.product(vector) for piece in pieces])

    gradient = total([piece.gradient for piece in pieces])
    rest = {name: -value for name, value in gradient.items()}
    direction = dict(rest)
    step = {name: torch.zeros_like(value) for name, value in rest.items()}
    left = dot(rest, rest)
    ridge: Tensor | None = None
    for _ in range(iterations):
        if left == 0:
            break
        curved = product(direction)
        if ridge is None:
            ridge = damping * dot(direction, curved) / left
        curved = {name: curved[name] + ridge * direction[name] for name in params}
        length = left / dot(direction, curved)
        step = {name: step[name] + length * direction[name] for name in params}
        rest = {name: rest[name] - length * curved[name] for name in params}
        left, before = dot(rest, rest), left
        direction = {name: rest[name] + left / before * direction[name] for name in params}
    return step
