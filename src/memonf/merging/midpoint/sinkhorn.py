"""Sinkhorn re-basin: soft permutations, optimised by gradient descent and hardened at the end.

Symbols, for one group: X (n, n) scores, τ temperature, S = Sinkhorn(X/τ) soft permutation; A the
reference, B another parent, S(B) its params with soft units.

Normalising the rows and columns of exp(X/τ) in turn gives a matrix whose rows and columns sum to 1:
a mixture of permutations, which is differentiable. All groups are optimised at once, while matching
by descent places one group with all others fixed. The cost is the squared distance of S(B) to A, or
the error of the midpoint of both. Hard permutations are tried during the search, and the one of
least cost is kept.

Reference:
    Peña et al. 2022, Re-basin via implicit Sinkhorn differentiation, arXiv 2212.12042. Departures:
    the unrolled iterations are differentiated; the midpoint's error is taken against the parents'
    outputs where they saw; parents are balanced first; only orders are optimised, no signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ...matching import best_permutation, similarities
from ...matching.agreement import STATISTICS
from ...matching.universe import LEAST_WEIGHT
from ...symmetry import Element, Params, Symmetry, in_double, inverse, transform
from ...training.optimizers import Adam
from ...typing import Float, Tensor
from ..aligning.base import Align, AlignedParents
from ..distillation.targets import Questions
from ..positions import Positions
from ..problem import MergeProblem
from ..unit_maps import balancing_scales, map_units
from .searching import Best, SearchOutcome, align_in_turn, equal_shares, mixed

__all__ = ["BySinkhorn", "sinkhorn"]

#: Steps from one hard permutation that is tried to the next.
TRY_EVERY = 5
#: Score of two units that act the same, at the start.
CERTAINTY = 10.0
#: Scores more than this times the temperature below the best of their row are clamped.
DEEPEST = 60.0


@dataclass(frozen=True)
class BySinkhorn(Align):
    """Optimise soft permutations of all layers at once, then harden them.

    Attributes:
        cost: ``params``: squared distance of the params; ``midpoint``: error of the average
            against the parents' outputs where they saw.
        start: Initial scores: all equal (``uniform``), or the correlations of activations where
            both parents saw (``activations``).
        steps: Optimisation steps of the scores (Adam).
        rate: Learning rate of the scores.
        temperature: τ: the smaller, the nearer soft permutations are to hard ones.
        iterations: Number of normalisations of rows and columns.
        rays: Rays along which the parents are evaluated for the midpoint's error.
    """

    cost: Literal["params", "midpoint"] = "midpoint"
    start: Literal["activations", "uniform"] = "activations"
    steps: int = 60
    rate: float = 0.05
    temperature: float = 0.3
    iterations: int = 20
    rays: int = 1024
    needs_positions = True

    def align(self, problem: MergeProblem, positions: Positions | None) -> AlignedParents:
        """See `Align.align`."""
        assert positions is not None
        questions = None
        if self.cost == "midpoint":
            questions = Questions.of(problem, equal_shares(problem), self.rays)

        def search(
            number: int, reference_params: Params, other_params: Params, share: float
        ) -> SearchOutcome:
            if self.start == "activations":
                start = correlations(problem, positions, number, reference_params, other_params)
            else:
                device = positions.trust.device
                start = {
                    group.name: torch.zeros(group.size, group.size, device=device)
                    for group in problem.symmetry.groups
                }
            return self.search(problem, questions, start, reference_params, other_params, share)

        return align_in_turn(problem, positions, search)

    def search(
        self,
        problem: MergeProblem,
        questions: Questions | None,
        start: Mapping[str, Tensor],
        reference_params: Params,
        other_params: Params,
        share: float,
    ) -> SearchOutcome:
        """The steps of one parent to the reference; `share` is its weight in the midpoint."""
        symmetry = problem.symmetry
        reference_balance, other_balance = (
            balancing_scales(symmetry, reference_params),
            balancing_scales(symmetry, other_params),
        )
        reference_params = transform(in_double(reference_params), symmetry, reference_balance)
        other_params = transform(in_double(other_params), symmetry, other_balance)

        def cost(params: Params) -> Tensor:
            if questions is None:
                return distance(symmetry, reference_params, params)
            return questions.error(mixed(reference_params, params, share))

        best = Best()
        best.offer(float(cost(other_params)), Element(), 0)
        scores = {name: score.double().requires_grad_() for name, score in start.items()}

        def harden(step: int) -> None:
            perms = {name: best_permutation(score) for name, score in scores.items()}
            hard = Element(perms)
            best.offer(float(cost(transform(other_params, symmetry, hard))), hard, step)

        harden(0)
        optimizer = Adam(scores.values(), self.rate)
        for step in range(1, self.steps + 1):
            with torch.enable_grad():
                soft = {
                    name: sinkhorn(score / self.temperature, self.iterations)
                    for name, score in scores.items()
                }
                loss = cost(soft_order(other_params, symmetry, soft))
                loss.backward()
            optimizer.step()
            if step % TRY_EVERY == 0 or step == self.steps:
                harden(step)
            problem.on_progress(step / self.steps)
        return (other_balance, best.element, inverse(reference_balance, symmetry)), best.figures()


def correlations(
    problem: MergeProblem,
    positions: Positions,
    number: int,
    reference_params: Params,
    other_params: Params,
) -> dict[str, Tensor]:
    """Group -> (units, units), scores from how alike units act where both parents saw."""
    weights = positions.trust[0] * positions.trust[number] + LEAST_WEIGHT
    networks = problem.field_with(reference_params), problem.field_with(other_params)
    alike = similarities(problem.symmetry, *networks, positions.inputs, weights=weights)
    return {name: CERTAINTY * matrix for name, matrix in alike.items()}


def sinkhorn(scores: Float[Tensor, "units units"], iterations: int) -> Float[Tensor, "units units"]:
    """A positive matrix whose rows and columns sum to 1, up to an error that falls with iterations.

    Args:
        scores: X/τ; entries of the result grow with them exponentially.
        iterations: Times that rows and columns are divided by their sums.

    Reference:
        Sinkhorn 1964; Adams and Zemel 2011, arXiv 1106.1925; Mena et al. 2018, arXiv 1802.08665.
    """
    kernel = (scores - scores.amax(1, keepdim=True)).clamp_min(-DEEPEST).exp()
    columns = torch.ones_like(scores[0])
    rows = columns
    for _ in range(iterations):
        rows = 1 / (kernel @ columns)
        columns = 1 / (kernel.mT @ rows)
    return rows[:, None] * kernel * columns


def soft_order(
    params: Mapping[str, Tensor], symmetry: Symmetry, soft: Mapping[str, Tensor]
) -> Params:
    """`symmetry.permute` with soft permutations: slot i receives Σ_j S[i, j] unit j."""
    return map_units(params, symmetry, soft, {name: matrix.mT for name, matrix in soft.items()})


def distance(
    symmetry: Symmetry, reference_params: Mapping[str, Tensor], other_params: Mapping[str, Tensor]
) -> Tensor:
    """Squared distance of what carries hidden units, each tensor relative to the reference's."""
    names = dict.fromkeys(part.tensor for group in symmetry.groups for part in group.slices)
    parts = [
        (reference_params[name] - other_params[name]).square().sum()
        / reference_params[name].square().mean().clamp_min(1e-30)
        for name in names
        if not name.endswith(STATISTICS)
    ]
    return torch.stack(parts).sum()
