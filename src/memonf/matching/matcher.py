"""Matching parents by their params, by what their units do, or by both: two of them, or many.

A parent is changed in steps, each an element of the symmetry: balance it, place its units, and give
it the order and scales of the reference. The reference stays as it is.
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
from .placement import Placement, best_permutation

__all__ = ["Match", "Matcher", "Placements", "Solved", "Solver", "apply_steps"]

#: ``descent``: coordinate descent from the order in which the units come; ``frank_wolfe``:
#: relaxation, then descent; ``annealing``: the same from a falling temperature; ``best``: the best
#: of these and of descents from one-by-one starts; ``auto``: the two of them that win, the descent
#: from the inputs on and, unless it had nothing to mend, annealing.
Solver: TypeAlias = Literal["auto", "best", "descent", "frank_wolfe", "annealing"]
#: Group -> where its units go.
Placements: TypeAlias = "dict[str, Placement]"

#: An agreement this near its bound, relative, cannot be raised: nothing else is tried.
OPTIMAL = 1e-9
#: Where only activations count, params still decide about units that act alike, or not at all.
LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Solved:
    """The best placements that were found.

    Attributes:
        placements: Where the units of each group go.
        objective: Agreement reached.
        initial: Agreement of the params in the order in which they came.
        bound: No placement agrees better than that.
        found_by: ``descent``, ``forward``, ``backward``, ``frank_wolfe``,
            ``frank_wolfe_with_signs``, ``annealing`` or ``restart N``.
        sweeps: Passes of coordinate descent over all groups.
    """

    placements: Placements
    objective: float
    initial: float
    bound: float
    found_by: str
    sweeps: int

    def figures(self) -> dict[str, float | int | str]:
        """What a report says of it; agreements relative to the bound."""
        bound = max(self.bound, 1e-300)
        return {
            "before": self.initial / bound, "after": self.objective / bound,
            "found_by": self.found_by, "sweeps": self.sweeps,
        }  # fmt: skip


@dataclass(frozen=True)
class Match:
    """How one parent is brought into the guise of another.

    Attributes:
        symmetry: Of the architecture.
        steps: Elements that are applied to the parent, in this order.
        perms: Permutation of each group among them; the nearest one for a map.
        solved: How well the parents agree then, in the guise in which they are compared.
    """

    symmetry: Symmetry
    steps: tuple[Element, ...]
    perms: Permutations
    solved: Solved

    def apply(self, params: Mapping[str, Tensor]) -> Params:
        """The parent's params in the guise of the reference; the function stays the same."""
        return apply_steps(params, self.symmetry, self.steps)


@dataclass(frozen=True)
class Matcher:
    """How parents are matched.

    Attributes:
        solver: See `Solver`. ``best`` never ends below any of the others, and takes several times
            as long as ``auto`` (docs/research/speed-merging.md).
        restarts: So many more descents from random orders.
        scales: Whether parents are compared at their least norm (`balance`), so that scales of
            ReLU units and maps of layers without activation do not matter.
        signs: Whether signs of odd units, half turns of sine units and rotations of layers
            without activation are chosen too.
        equal_tensors: Whether each tensor counts relative to its own mean square, rather than by
            its absolute size. None: only where no scale is balanced, for balance gives the sizes
            of tensors a meaning, and otherwise they are those of the initialisation.
        activations: Share of activations in the objective, in [0, 1]; params have the rest.
        iterations: Steps of the relaxation.
        seed: Order in which groups are visited, and restarts.

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
        """Find the element of the symmetry that brings one parent nearest to another.

        Args:
            symmetry: Groups of the architecture.
            reference: Params of the parent whose order and scales are kept.
            other: Params of the parent to be changed.
            similarity: Group -> (slots, units), how alike the parents' units act
                (`similarities`); needed if activations have a share.
        """
        if (found := self.match_orders(symmetry, reference, other)) is not None:
            return found
        mine, ours = self.balanced(symmetry, reference)
        its, theirs = self.balanced(symmetry, other)
        if similarity is not None:  # units are compared as balancing left their signs
            before, after = readout_signs(symmetry, mine), readout_signs(symmetry, its)
            similarity = {
                name: before.get(name, one)[:, None] * alike * after.get(name, one)
                for name, alike in similarity.items()
                for one in [torch.ones_like(alike[0])]
            }
        agreement = self.agreement(symmetry, ours, theirs, similarity)
        solved = self.solve(agreement)
        element = agreement.element(solved.placements)
        steps = (its, element, inverse(mine, symmetry)) if its.gauges else (element,)
        return Match(symmetry, steps, self.nearest_orders(symmetry, steps, element.perms), solved)

    def match_orders(
        self, symmetry: Symmetry, reference: Mapping[str, Tensor], other: Mapping[str, Tensor]
    ) -> Match | None:
        """The match of parents that are one but for the order of their units, without balance.

        Trying costs a fraction of balancing; such a match cannot be bettered by any means.
        """
        ours, theirs = in_double(reference), in_double(other)
        if not self.equal_norms(symmetry, ours, theirs):
            return None
        agreement = Agreement.of_params(symmetry, ours, theirs, signs=False)
        placements = one_by_one(agreement)
        value = agreement.value(placements)
        if value < (1 - OPTIMAL) * agreement.bound:
            return None
        initial = agreement.value(agreement.identity())
        element = agreement.element(placements)
        solved = Solved(placements, value, initial, agreement.bound, "forward", 0)
        return Match(symmetry, (element,), element.perms, solved)

    @staticmethod
    def equal_norms(symmetry: Symmetry, one: Params, other: Params) -> bool:
        """Whether all tensors with units have the same norms: the bound is blind to lengths."""
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
        """Permutations of all groups; of those with a map, the one nearest to the whole map."""
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
        """The guise in which a parent is compared, and the way there; params in float64."""
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

    def solve(self, agreement: Agreement, start: Placements | None = None) -> Solved:
        """Placements that agree best, of those that the solver finds.

        Args:
            agreement: The objective.
            start: Placements that are improved; takes the place of all other starts.
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
        best: Placements = {}
        value, found_by, sweeps, settled = -torch.inf, "", 0, False
        restarts = [f"restart {number}" for number in range(1, self.restarts + 1)]
        for name in ["descent"] if start is not None else [*names, *restarts]:
            # Each starts its own random numbers: what came before it makes no difference.
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
        return Solved(best, value, initial, agreement.bound, found_by, sweeps)

    def start(self, name: str, agreement: Agreement, generator: torch.Generator) -> Placements:
        """Placements from which a descent begins."""
        if name == "descent":
            return agreement.identity()
        if name.startswith("frank_wolfe"):
            return relax(agreement, self.iterations, signs=name.endswith("signs"))
        if name == "annealing":
            return anneal(agreement)
        if name.startswith("restart"):
            return shuffled(agreement, generator)
        return one_by_one(agreement, backward=name == "backward")


def shuffled(agreement: Agreement, generator: torch.Generator) -> Placements:
    """Random orders."""
    out = {}
    for name, placement in agreement.identity().items():
        perm = torch.randperm(len(placement.perm), generator=generator).to(placement.perm.device)
        out[name] = Placement(perm, placement.before, placement.after)
    return out


def apply_steps(
    params: Mapping[str, Tensor], symmetry: Symmetry, steps: tuple[Element, ...]
) -> Params:
    """Apply elements one after the other in float64, rounding once."""
    wide = in_double(params)
    for step in steps:
        wide = transform(wide, symmetry, step)
    return {name: tensor.to(params[name].dtype) for name, tensor in wide.items()}
