"""Straight-through estimation: permutations chosen by the midpoint's error.

Symbols: A the reference, B another parent, L latent params, π the permutation that places B best on
L, M = (A + π(B)) / 2 the midpoint.

Weight matching places B nearest to A, whatever the average then computes. Here B is placed nearest
to latent params that start at A and are optimised so that the midpoint reproduces the parents'
outputs: the loss is taken at M, and its gradient goes to L as if π(B) were L. Of all permutations
tried, the one with the least loss is kept; the first is that of weight matching. The coefficients
of the later merge do not change the order, as in the paper.

Reference:
    Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836, section 3.3. Departures: the loss is
    taken against the parents' outputs where they saw, not data; descents start from the previous
    permutation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ...matching import Matcher
from ...symmetry import Params, inverse, transform
from ...training.optimizers import Adam
from ...typing import Tensor
from ..aligning import Align, AlignedParents, ByActivations
from ..distillation.targets import Questions
from ..positions import Positions
from ..problem import MergeProblem
from .searching import Best, SearchOutcome, align_in_turn, equal_shares, mixed

__all__ = ["ByStraightThrough"]


@dataclass(frozen=True)
class ByStraightThrough(Align):
    """Search the permutations near weight matching for the one of least midpoint error.

    Attributes:
        start: Initial latent params: the ``reference``, so that weight matching is the first
            permutation tried, or the other parent as activation matching aligns it
            (``activations``).
        steps: Number of permutations that are tried for each parent.
        rate: Learning rate of the latent params (Adam).
        rays: Rays along which the parents are evaluated, shared by their cameras.
    """

    start: Literal["activations", "reference"] = "activations"
    steps: int = 60
    rate: float = 1e-2
    rays: int = 1024
    needs_positions = True

    def align(self, problem: MergeProblem, positions: Positions | None) -> AlignedParents:
        """See `Align.align`."""
        questions = Questions.of(problem, equal_shares(problem), self.rays)
        starts: AlignedParents | None = None
        if self.start == "activations":
            starts = ByActivations().align(problem, positions)

        def search(
            number: int, reference_params: Params, other_params: Params, share: float
        ) -> SearchOutcome:
            start = reference_params if starts is None else starts.params[number]
            return self.search(problem, questions, start, reference_params, other_params, share)

        aligned = align_in_turn(problem, positions, search)
        figures = {} if starts is None else starts.figures
        return replace(aligned, figures={**figures, **aligned.figures})

    def search(
        self,
        problem: MergeProblem,
        questions: Questions,
        start: Params,
        reference_params: Params,
        other_params: Params,
        share: float,
    ) -> SearchOutcome:
        """The steps of one parent to the reference; `share` is its weight in the midpoint."""
        symmetry = problem.symmetry
        matcher = Matcher(seed=problem.seed)
        reference_balance, reference_params = matcher.balanced(symmetry, reference_params)
        other_balance, other_params = matcher.balanced(symmetry, other_params)
        latent = differentiable(matcher.balanced(symmetry, start)[1])
        learnt = list(learnable(latent).values())
        optimizer = Adam(learnt, self.rate)
        best = Best()
        placements = None
        for step in range(self.steps):
            now = {name: tensor.detach() for name, tensor in latent.items()}
            agreement = matcher.agreement(symmetry, now, other_params)
            placements = matcher.solve(agreement, placements).placements
            element = agreement.element(placements)
            placed = transform(other_params, symmetry, element)
            with torch.enable_grad():
                through = {
                    name: placed[name] + (tensor - now[name]) for name, tensor in latent.items()
                }
                error = questions.error(mixed(reference_params, through, share))
                gradients = torch.autograd.grad(error, learnt, allow_unused=True)
            best.offer(float(error.detach()), element, step)
            for tensor, gradient in zip(learnt, gradients, strict=True):
                tensor.grad = gradient
            optimizer.step()
            problem.on_progress((step + 1) / self.steps)
        return (other_balance, best.element, inverse(reference_balance, symmetry)), best.figures()


def differentiable(params: Mapping[str, Tensor]) -> Params:
    """Copies of params that gradients can be taken for; counters as they are."""
    return {
        name: tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor
        for name, tensor in params.items()
    }


def learnable(params: Mapping[str, Tensor]) -> Params:
    """Those that have a gradient."""
    return {name: tensor for name, tensor in params.items() if tensor.requires_grad}
