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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ...matching import Matcher
from ...optimizers import Adam
from ...symmetry import Params, inverse, transform
from ...typing import Tensor
from ..aligning import Align, AlignedParents, ByActivations
from ..distillation.targets import Questions
from ..positions import Positions
from ..problem import MergeProblem
from .searching import Best, SearchOutcome, align_in_turn, equal_shares, mixed

__all__ = ["ByStraightThrough"]


@dataclass(frozen=True)
class ByStraightThrough(Align):
    """Search the permutations near weight matching for the one whose midpoint answers best.

    Attributes:
        start: Where the latent params begin: at the ``reference``, so that weight matching is the
            first permutation met, or at the other parent as activation matching places it
            (``activations``).
        steps: Permutations that are tried for each parent.
        rate: Learning rate of the latent params (Adam).
        rays: Rays along which the parents are asked, shared by their cameras.
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

        def search(number: int, ours: Params, theirs: Params, share: float) -> SearchOutcome:
            start = ours if starts is None else starts.params[number]
            return self.search(problem, questions, start, ours, theirs, share)

        aligned = align_in_turn(problem, positions, search)
        figures = {} if starts is None else starts.figures
        return replace(aligned, figures={**figures, **aligned.figures})

    def search(
        self,
        problem: MergeProblem,
        questions: Questions,
        start: Params,
        ours: Params,
        theirs: Params,
        share: float,
    ) -> SearchOutcome:
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


def differentiable(params: Mapping[str, Tensor]) -> Params:
    """Copies of params that gradients can be taken for; counters as they are."""
    return {
        name: tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor
        for name, tensor in params.items()
    }


def learnable(params: Mapping[str, Tensor]) -> Params:
    """Those that have a gradient."""
    return {name: tensor for name, tensor in params.items() if tensor.requires_grad}
