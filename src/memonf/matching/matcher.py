"""Matching one parent to another by params, by activations, or by both.

A parent is changed in steps, each an element of the symmetry: balance it, place its units, and give
it the scales of the reference. The reference is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from ..symmetry import Element, Params, Permutations, Symmetry, in_double, inverse, transform
from ..typing import Tensor
from .agreement import Agreement
from .annealing import anneal
from .balance import balance, readout_signs
from .coordinate_descent import descend, one_by_one
from .frank_wolfe import relax
from .placement import UnitPlacement, best_permutation

__all__ = ["Match", "Matcher", "UnitPlacements", "Solution", "Solver", "apply_steps"]

#: ``descent``: coordinate descent from the given order of units; ``frank_wolfe``: relaxation, then
#: descent; ``annealing``: annealing, then descent; ``best``: the best of these and of descents from
#: one-by-one starts, forward and backward; ``auto``: the two that win most often, the descent from
#: the forward start and, if that descent changed anything, annealing.
Solver: TypeAlias = Literal["auto", "best", "descent", "frank_wolfe", "annealing"]
#: Group -> where its units go.
UnitPlacements: TypeAlias = "dict[str, UnitPlacement]"

#: Relative distance from the bound at which an agreement is optimal and the search ends.
OPTIMAL = 1e-9
#: Least share of the params, so that they decide between units with equal or zero activations.
LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Solution:
    """The best placements that a solver found.

    Attributes:
        placements: Placement of each group's units.
        objective: Agreement reached.
        initial: Agreement of the params in their given order.
        bound: Upper bound of the agreement.
        found_by: Start that led to it: ``descent``, ``forward``, ``backward``, ``frank_wolfe``,
            ``frank_wolfe_with_signs``, ``annealing`` or ``restart N``.
        sweeps: Passes of coordinate descent over all groups.
    """

    placements: UnitPlacements
    objective: float
    initial: float
    bound: float
    found_by: str
    sweeps: int

    def figures(self) -> dict[str, float | int | str]:
        """Figures for a report; agreements relative to the bound."""
        bound = max(self.bound, 1e-300)
        return {
            "before": self.initial / bound, "after": self.objective / bound,
            "found_by": self.found_by, "sweeps": self.sweeps,
        }  # fmt: skip


@dataclass(frozen=True)
class Match:
    """The alignment of one parent to a reference.

    Example:
        >>> match = Matcher().match(find_symmetry(front), front.state_dict(), rear.state_dict())
        >>> aligned = match.apply(rear.state_dict())
        >>> match.perms["layers.0"].shape
        torch.Size([8])

    Attributes:
        symmetry: Symmetry of the architecture.
        steps: Elements to apply to the parent, in this order.
        perms: Permutation of each group by these steps; for a linear map, the nearest permutation.
        solution: Agreement of the balanced parents after alignment.
    """

    symmetry: Symmetry
    steps: tuple[Element, ...]
    perms: Permutations
    solution: Solution

    def apply(self, params: Mapping[str, Tensor]) -> Params:
        """The parent's params aligned to the reference; the parent's function is unchanged."""
        return apply_steps(params, self.symmetry, self.steps)


@dataclass(frozen=True)
class Matcher:
    """Settings of matching.

    Example:
        >>> matcher, symmetry = Matcher(solver="descent"), find_symmetry(front)
        >>> solution = matcher.match(symmetry, front.state_dict(), rear.state_dict()).solution
        >>> solution.initial < solution.objective <= solution.bound
        True

    Attributes:
        solver: See `Solver`. ``best`` never ends below any of the others and takes several times
            as long as ``auto`` (docs/research/speed-merging.md).
        restarts: Number of additional descents from random orders.
        scales: Whether parents are compared at their least norm (`balance`), so that scales of
            ReLU units and maps of layers without activation do not matter.
        signs: Whether signs of odd units, half turns of sine units and rotations of layers
            without activation are chosen too.
        equal_tensors: Whether each tensor is weighted relative to its own mean square, rather than
            by its absolute size. None: only in networks without scales, whose tensor sizes are
            those of the initialisation; balancing makes the sizes comparable.
        activations: Share of activations in the objective, in [0, 1]; params have the rest.
        iterations: Steps of the relaxation.
        seed: Seed of the order in which groups are visited, and of restarts.

    Reference:
        Ainsworth et al. 2022, Git Re-Basin, arXiv 2209.04836; Crisostomi et al. 2024, C²M³, arXiv
        2405.17897.
    """

    solver: Solver = "auto"
    restarts: int = 0
    scales: bool = True
    signs: bool = True
    equal_tensors: bool | None = None
    activations: float = 0.0
    iterations: int = 50
    seed: int = 0

    def match(
        self,
        symmetry: Symmetry,
        reference: Mapping[str, Tensor],
        other: Mapping[str, Tensor],
        similarity: Mapping[str, Tensor] | None = None,
    ) -> Match:
        """Find the elements of the symmetry that align one parent to another.

        Args:
            symmetry: Groups of the architecture.
            reference: Params of the parent whose order and scales are kept.
            other: Params of the parent to be changed.
            similarity: Group -> (slots, units), similarity of the parents' activations
                (`similarities`); needed if activations have a share.
        """
        if (match := self.match_orders(symmetry, reference, other)) is not None:
            return match
        reference_balance, reference_params = self.balanced(symmetry, reference)
        other_balance, other_params = self.balanced(symmetry, other)
        if similarity is not None:  # balancing may have changed signs of activations
            before = readout_signs(symmetry, reference_balance)
            after = readout_signs(symmetry, other_balance)
            similarity = {
                name: before.get(name, one)[:, None] * alike * after.get(name, one)
                for name, alike in similarity.items()
                for one in [torch.ones_like(alike[0])]
            }
        agreement = self.agreement(symmetry, reference_params, other_params, similarity)
        solution = self.solve(agreement)
        element = agreement.element(solution.placements)
        steps: tuple[Element, ...] = (element,)
        if other_balance.gauges:
            steps = (other_balance, element, inverse(reference_balance, symmetry))
        return Match(symmetry, steps, self.nearest_orders(symmetry, steps, element.perms), solution)

    def match_orders(
        self, symmetry: Symmetry, reference: Mapping[str, Tensor], other: Mapping[str, Tensor]
    ) -> Match | None:
        """The match of parents that differ only in the order of their units; None for others.

        Trying this costs a fraction of balancing, and such a match is optimal.
        """
        reference_params, other_params = in_double(reference), in_double(other)
        if not self.equal_norms(symmetry, reference_params, other_params):
            return None
        agreement = Agreement.of_params(symmetry, reference_params, other_params, signs=False)
        placements = one_by_one(agreement)
        value = agreement.value(placements)
        if value < (1 - OPTIMAL) * agreement.bound:
            return None
        initial = agreement.value(agreement.identity())
        element = agreement.element(placements)
        solution = Solution(placements, value, initial, agreement.bound, "forward", 0)
        return Match(symmetry, (element,), element.perms, solution)

    @staticmethod
    def equal_norms(symmetry: Symmetry, one: Params, other: Params) -> bool:
        """Whether all tensors with units have equal norms, which the bound does not show."""
        names = {part.tensor for group in symmetry.groups for part in group.slices}
        return all(
            abs(float(one[name].norm() - other[name].norm())) <= 1e-6 * float(one[name].norm())
            for name in names
            if one[name].is_floating_point()
        )

    @staticmethod
    def nearest_orders(
        symmetry: Symmetry, steps: tuple[Element, ...], perms: Permutations
    ) -> Permutations:
        """Permutations of all groups; for a linear group, the one nearest to the total map."""
        out = dict(perms)
        for group in symmetry.groups:
            kinds = [gauge.kind for gauge in group.gauges]
            if "linear" in kinds:
                number = kinds.index("linear")
                maps = [step.gauges.get(group.name, {}).get(number) for step in steps]
                total = torch.eye(group.size).to(perms[group.name].device).double()
                for step, matrix in zip(steps, maps, strict=True):
                    if group.name in step.perms:
                        total = total[step.perms[group.name]]
                    total = total if matrix is None else matrix @ total
                out[group.name] = best_permutation(total)
        return out

    def balanced(self, symmetry: Symmetry, params: Mapping[str, Tensor]) -> tuple[Element, Params]:
        """The element that balances a parent for comparison, and its balanced params in float64."""
        return balance(symmetry, params) if self.scales else (Element(), in_double(params))

    def agreement(
        self,
        symmetry: Symmetry,
        reference: Mapping[str, Tensor],
        other: Mapping[str, Tensor],
        similarity: Mapping[str, Tensor] | None = None,
    ) -> Agreement:
        """The objective between balanced parents."""
        equal = self.equal_tensors
        if equal is None:
            equal = not (self.scales and any(group.gauge("scale") for group in symmetry.groups))
        agreement = Agreement.of_params(
            symmetry, reference, other, signs=self.signs, equal_tensors=equal
        )
        if similarity is not None and self.activations > 0:
            agreement.blend(similarity, min(self.activations, 1 - LEAST_SHARE))
        return agreement

    def solve(self, agreement: Agreement, start: UnitPlacements | None = None) -> Solution:
        """The placements of highest agreement among those that the solver finds.

        Args:
            agreement: The objective.
            start: Placements to improve, in place of all other starts.
        """
        names = {
            "descent": ["descent"],
            "frank_wolfe": ["frank_wolfe"],
            "annealing": ["annealing"],
            "auto": ["forward", "annealing"],
            "best": ["forward", "descent", "backward", "frank_wolfe", "annealing"],
        }[self.solver]
        if "frank_wolfe" in names and set(agreement.freedoms.values()) & {"sign", "turn"}:
            names = [*names, "frank_wolfe_with_signs"]
        best: UnitPlacements = {}
        value, found_by, sweeps, settled = -torch.inf, "", 0, False
        restarts = [f"restart {number}" for number in range(1, self.restarts + 1)]
        for name in ["descent"] if start is not None else [*names, *restarts]:
            # A new generator for each start: results do not depend on the starts before it.
            generator = torch.Generator().manual_seed(self.seed + int(name.partition(" ")[2] or 0))
            if value >= (1 - OPTIMAL) * agreement.bound:
                break
            if settled and self.solver == "auto" and name == "annealing":
                continue
            placements = start if start is not None else self.start(name, agreement, generator)
            reached = begun = agreement.value(placements)
            if reached < (1 - OPTIMAL) * agreement.bound:
                placements, passes = descend(agreement, placements, generator)
                sweeps += passes
                reached = agreement.value(placements)
            settled = reached <= begun + 1e-12 * agreement.bound
            if reached > value + 1e-12 * agreement.bound:
                best, value, found_by = placements, reached, name
        initial = agreement.value(agreement.identity())
        return Solution(best, value, initial, agreement.bound, found_by, sweeps)

    def start(self, name: str, agreement: Agreement, generator: torch.Generator) -> UnitPlacements:
        """Placements from which a descent starts."""
        if name == "descent":
            return agreement.identity()
        if name.startswith("frank_wolfe"):
            return relax(agreement, self.iterations, signs=name.endswith("signs"))
        if name == "annealing":
            return anneal(agreement)
        if name.startswith("restart"):
            return shuffled(agreement, generator)
        return one_by_one(agreement, backward=name == "backward")


def shuffled(agreement: Agreement, generator: torch.Generator) -> UnitPlacements:
    """Random orders."""
    out = {}
    for name, placement in agreement.identity().items():
        perm = torch.randperm(len(placement.perm), generator=generator).to(placement.perm.device)
        out[name] = UnitPlacement(perm, placement.before, placement.after)
    return out


def apply_steps(
    params: Mapping[str, Tensor], symmetry: Symmetry, steps: tuple[Element, ...]
) -> Params:
    """Apply elements one after another in float64, rounding once."""
    wide = in_double(params)
    for step in steps:
        wide = transform(wide, symmetry, step)
    return {name: tensor.to(params[name].dtype) for name, tensor in wide.items()}
