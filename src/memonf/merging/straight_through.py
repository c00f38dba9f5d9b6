"""Straight-through estimation: permutations chosen by how well the midpoint answers.

Symbols: A the reference, B another parent, L latent params, π the permutation that places B best on
L, M = (A + π(B)) / 2 the midpoint.

Weight matching places B nearest to A, whatever the average then computes. Here B is placed nearest
to latent params that begin at A and are moved so that the midpoint answers as the parents do: the
loss is taken at M, and its gradient goes to L as if π(B) were L. Of all permutations met, the one
with the least loss is kept; the first is that of weight matching. Where on the way between the
parents a merge is wanted makes no difference to the order, as in the paper.

Reference:
    Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836, section 3.3. Departures: the loss is
    what the parents say where they saw, not data; descents start from the permutation before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field as Limits

from ..matching import Matcher
from ..matching.matcher import apply_steps
from ..optimizers import Adam
from ..symmetry import Element, Params, inverse, transform
from ..typing import Tensor
from .activation_matching import align_by_activations
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, combine_params, settings_dataclass
from .midpoint import Questions
from .positions import Positions
from .repair import repair

__all__ = ["StraightThrough", "align_in_turn", "combine_at_midpoint", "differentiable"]

#: Share of the points anywhere in the box; the rest lie where the parents have density.
FREE_SHARE = 0.25

#: Steps into the guise of the reference, and figures for the report.
Found = tuple[tuple[Element, ...], dict[str, float]]


@METHODS.register("straight_through")
@settings_dataclass(**SETTINGS)
class StraightThrough(MergeMethod):
    """Search the permutations near weight matching for the one whose midpoint answers best.

    Attributes:
        start: Where the latent params begin: at the ``reference``, so that weight matching is the
            first permutation met, or at the other parent as activation matching places it
            (``activations``).
        steps: Permutations that are tried for each parent.
        rate: Learning rate of the latent params (Adam).
        rays: Rays along which the parents are asked, shared by their cameras.
        points: Positions at which units are compared and their statistics measured.
        repair: Whether the statistics of the units are corrected afterwards.
    """

    start: Literal["activations", "reference"] = "activations"
    steps: Annotated[int, Limits(ge=1)] = 60
    rate: Annotated[float, Limits(gt=0)] = 1e-2
    rays: Annotated[int, Limits(ge=1)] = 1024
    points: Annotated[int, Limits(ge=2)] = 16384
    repair: bool = True

    summary = "units aligned so that the average answers as the parents do, by straight-through"
    paper = "Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836"
    needs_positions = True
    needs_knowledge = True

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        positions = problem.positions(self.points, FREE_SHARE, True)

        def aligned(middle: MergeProblem) -> list[Params]:
            questions = Questions.of(middle, self.rays)
            starts: list[Params] = []
            if self.start == "activations":
                starts = list(align_by_activations(middle, positions))

            def search(number: int, ours: Params, theirs: Params, share: float) -> Found:
                start = starts[number] if starts else ours
                return self.search(middle, questions, start, ours, theirs, share)

            return align_in_turn(middle, search)

        return combine_at_midpoint(problem, aligned, positions, self.repair)

    def search(
        self,
        problem: MergeProblem,
        questions: Questions,
        start: Params,
        ours: Params,
        theirs: Params,
        share: float,
    ) -> Found:
        """The way of one parent to the reference; `share` is its weight in the midpoint."""
        symmetry = problem.symmetry
        matcher = Matcher(seed=problem.seed)
        mine, ours = matcher.balanced(symmetry, ours)
        its, theirs = matcher.balanced(symmetry, theirs)
        latent = differentiable(matcher.balanced(symmetry, start)[1])
        learnt = list(learnable(latent).values())
        optimizer = Adam(learnt, self.rate)
        best = Best()
        placements = None
        for step in range(self.steps):
            now = {name: tensor.detach() for name, tensor in latent.items()}
            agreement = matcher.agreement(symmetry, now, theirs)
            placements = matcher.solve(agreement, placements).placements
            element = agreement.element(placements)
            placed = transform(theirs, symmetry, element)
            with torch.enable_grad():
                through = {
                    name: placed[name] + (tensor - now[name]) for name, tensor in latent.items()
                }
                error = questions.error(mixed(ours, through, share))
                gradients = torch.autograd.grad(error, learnt, allow_unused=True)
            best.offer(float(error.detach()), element, step)
            for tensor, gradient in zip(learnt, gradients, strict=True):
                tensor.grad = gradient
            optimizer.step()
            problem.on_progress((step + 1) / self.steps)
        return (its, best.element, inverse(mine, symmetry)), best.figures()


@dataclass
class Best:
    """The best element so far.

    Attributes:
        error: Its loss.
        element: The element.
        step: When it was met.
        first: Loss of the first one offered.
    """

    error: float = float("inf")
    element: Element = Element()
    step: int = 0
    first: float | None = None

    def offer(self, error: float, element: Element, step: int) -> None:
        """Take an element if it is better than all before."""
        self.first = error if self.first is None else self.first
        if error < self.error:
            self.error, self.element, self.step = error, element, step

    def figures(self) -> dict[str, float]:
        """What a report says of it."""
        return {"error_at_start": self.first or 0.0, "error": self.error, "step": self.step}


def combine_at_midpoint(
    problem: MergeProblem,
    align: Callable[[MergeProblem], list[Params]],
    positions: Positions,
    repaired: bool,
) -> Params:
    """Average parents that are aligned as if all counted alike, found once for all coefficients.

    Args:
        problem: The parents.
        align: Aligns the parents of a problem whose coefficients are equal; see `align_in_turn`.
        positions: Where the statistics of the units are measured.
        repaired: Whether they are corrected.
    """
    count = len(problem.parents)
    middle = replace(problem, coefficients=(1 / count,) * count, layers=(), report={})

    def find() -> tuple[list[Params], dict[str, Any]]:
        return align(middle), dict(middle.report)

    found, figures = problem.remember("aligned at the midpoint", find)
    problem.report.update(figures)
    if repaired:
        return repair(problem, found, positions, fixed=True)
    return combine_params(found, problem.coefficients)


def align_in_turn(
    problem: MergeProblem, search: Callable[[int, Params, Params, float], Found]
) -> list[Params]:
    """Params of all parents in the guise of the first.

    Each is brought into that of the running average, which begins at the first; the others follow
    in the order of their content, so that the order in which they are given makes no difference.

    Args:
        problem: The parents.
        search: (number of a parent, params of the average, of the parent, the parent's share in
            the next average) -> steps that bring the parent to the average, and figures.
    """
    facts = problem.parents.facts
    others = sorted(range(1, len(facts)), key=lambda number: facts[number].content)
    merged, weight = problem.params(0), problem.coefficients[0]
    aligned, figures = {0: merged}, []
    for number in others:
        params = problem.params(number)
        weight += problem.coefficients[number]
        share = problem.coefficients[number] / weight
        steps, found = search(number, merged, params, share)
        figures.append(found)
        aligned[number] = apply_steps(params, problem.symmetry, steps)
        merged = combine_params([merged, aligned[number]], [1 - share, share])
    problem.report["alignment"] = figures
    return [aligned[number] for number in range(len(facts))]


def differentiable(params: Mapping[str, Tensor]) -> Params:
    """Copies of params that gradients can be taken for; counters as they are."""
    return {
        name: tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor
        for name, tensor in params.items()
    }


def learnable(params: Mapping[str, Tensor]) -> Params:
    """Those that have a gradient."""
    return {name: tensor for name, tensor in params.items() if tensor.requires_grad}


def mixed(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], share: float) -> Params:
    """(1 − share) ours + share theirs; counters are ours."""
    return {
        name: (1 - share) * tensor + share * theirs[name] if tensor.is_floating_point() else tensor
        for name, tensor in ours.items()
    }
