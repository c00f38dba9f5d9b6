"""The objective of matching: how well two parents' params agree for given unit placements.

Symbols: A the reference, B the other parent, X_g the placement of group g. Every tensor is cut into
blocks whose rows belong to at most one group and whose columns belong to at most one group. The
agreement is Σ_blocks ⟨A, X_g B X_hᵀ⟩ plus Σ_g ⟨L_g, X_g⟩ for the terms of a single group: first and
last layers, biases, norm params, and the similarity of activations if it has a share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..symmetry import Element, Group, Symmetry
from ..typing import Float, Tensor
from .placement import Freedom, Gains, UnitPlacement, freedom_of

__all__ = ["STATISTICS", "Agreement", "Block"]

#: Endings of tensors that hold statistics rather than params; these are not compared.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Side:
    """One side of a block: its group, if any, and whether the block reads or produces its units."""

    group: str | None
    reads: bool
    start: int
    stop: int


@dataclass(frozen=True)
class Block:
    """A part of a matrix between two groups.

    Attributes:
        rows: Group and role of its rows.
        columns: Group and role of its columns.
        a: (rows, columns) of the reference, times the tensor's weight.
        b: (rows, columns) of the other parent.
    """

    rows: Side
    columns: Side
    a: Float[Tensor, "rows columns"]
    b: Float[Tensor, "rows columns"]


@dataclass
class Linear:
    """Gains of placing a group's units that do not depend on other groups; see `Gains`.

    Attributes:
        before: (units, units), of the params that produce the units.
        after: (units, units), of the params that read them.
        bias: For sine layers: see `Gains.bias`.
        turns: For sine layers: (sign before, sign after) -> (units, units), the best number of
            half turns.
    """

    before: Float[Tensor, "units units"]
    after: Float[Tensor, "units units"]
    bias: dict[tuple[int, int], Tensor] | None = None
    turns: dict[tuple[int, int], Tensor] | None = None


@dataclass
class Agreement:
    """The objective between two parents.

    Attributes:
        groups: The groups, in the order of the symmetry.
        freedoms: Group -> what may be chosen for it.
        linear: Group -> the terms that depend on this group alone.
        blocks: Terms that depend on two groups.
        bound: Upper bound of the agreement: Σ ‖A‖ ‖B‖ over all blocks.
    """

    groups: tuple[Group, ...]
    freedoms: dict[str, Freedom]
    linear: dict[str, Linear]
    blocks: list[Block] = field(default_factory=list)
    bound: float = 0.0

    @classmethod
    def of_params(
        cls,
        symmetry: Symmetry,
        reference: Mapping[str, Tensor],
        other: Mapping[str, Tensor],
        *,
        signs: bool = True,
        equal_tensors: bool = True,
    ) -> Agreement:
        """Agreement of two parents' params, in float64.

        Args:
            symmetry: Groups of the architecture.
            reference: Params of the parent whose order is kept.
            other: Params of the parent whose units are placed.
            signs: Whether signs and maps are chosen too, where the symmetry has them.
            equal_tensors: Whether each tensor is weighted relative to its own mean square, as if
                all had the same noise, rather than by its absolute size.
        """
        chosen = {g.name: freedom_of(g, reference) if signs else "order" for g in symmetry.groups}
        device = next(iter(reference.values())).device

        def zeros(size: int) -> Tensor:
            return torch.zeros(size, size, dtype=torch.float64, device=device)

        linear = {g.name: Linear(zeros(g.size), zeros(g.size)) for g in symmetry.groups}
        agreement = cls(symmetry.groups, chosen, linear)
        names = dict.fromkeys(part.tensor for group in symmetry.groups for part in group.slices)
        for name in names:
            if not name.endswith(STATISTICS):
                a, b = reference[name].double(), other[name].double()
                size = (a.square().mean() * b.square().mean()).sqrt().clamp_min(1e-30)
                agreement.add_tensor(name, a, b, 1 / float(size) if equal_tensors else 1.0)
        return agreement

    def add_tensor(self, name: str, a: Tensor, b: Tensor, weight: float) -> None:
        """Cut a tensor into blocks, and add each with this weight."""
        rows = self.sides(name, 0, a.shape[0])
        if a.ndim == 1:
            for side in rows:
                if side.group is not None:
                    part = slice(side.start, side.stop)
                    if not self.free_of_sign(side.group, name):
                        self.add_vector(side, a[part], b[part], weight)
            return
        columns = self.sides(name, 1, a.shape[1])
        for row in rows:
            for column in columns:
                part_a = a[row.start : row.stop, column.start : column.stop].flatten(1)
                part_b = b[row.start : row.stop, column.start : column.stop].flatten(1)
                self.add_block(Block(row, column, weight * part_a, part_b))

    def free_of_sign(self, name: str, tensor: str) -> bool:
        """Whether a vector is both multiplied and divided by one sign, as a norm's weights are."""
        group = next(group for group in self.groups if group.name == name)
        signs = [gauge for gauge in group.gauges if gauge.kind == "sign"]
        read = any(part.tensor == tensor for gauge in signs for part in gauge.columns)
        made = any(part.tensor == tensor for gauge in signs for part in gauge.rows)
        return self.freedoms[name] == "sign" and read and made

    def add_block(self, block: Block) -> None:
        """Add a block; blocks of a single group are summed into its linear term."""
        if block.rows.group is None and block.columns.group is None:
            return
        self.bound += float(block.a.norm() * block.b.norm())
        if block.columns.group is None:
            self.add_linear(block.rows, block.a @ block.b.mT)
        elif block.rows.group is None:
            self.add_linear(block.columns, block.a.mT @ block.b)
        else:
            self.blocks.append(block)

    def add_vector(self, side: Side, a: Tensor, b: Tensor, weight: float) -> None:
        """Add a bias or another vector with one entry per unit."""
        assert side.group is not None
        turn = next(g for g in self.groups if g.name == side.group).gauge("turn")
        if turn is not None and self.freedoms[side.group] == "turn":
            if weight != 1.0:  # a weight of squared distances, which stay finite for a zero bias
                largest = max(float(a.square().mean()), float(b.square().mean()))
                weight = 1 / max(largest, turn.half_turn**2 / 12)
            self.add_turns(side.group, a, b, turn.half_turn, weight)
            self.bound += 0.5 * weight * float(a.square().sum() + b.square().sum())
        else:
            self.add_linear(side, weight * torch.outer(a, b))
            self.bound += weight * float(a.norm() * b.norm())

    def add_linear(self, side: Side, gain: Tensor) -> None:
        """Add a term that does not depend on other groups."""
        assert side.group is not None
        linear = self.linear[side.group]
        if side.reads:
            linear.after = linear.after + gain
        else:
            linear.before = linear.before + gain

    def add_turns(self, group: str, a: Tensor, b: Tensor, half_turn: float, weight: float) -> None:
        """Biases of a sine layer: for each pair of units the best number of half turns.

        Half turns change the norm of b, so the agreement is −½ (a − b′)² + ½ a² + ½ b² here, which
        is a b without a turn.
        """
        linear = self.linear[group]
        linear.bias, linear.turns = {}, {}
        for r in (1, -1):
            gap = a[:, None] - r * b[None, :]
            for c in (1, -1):
                odd = float(r != c)
                turns = 2 * ((gap / half_turn - odd) / 2).round() + odd
                left = gap - turns * half_turn
                squares = a[:, None].square() + b[None, :].square()
                linear.bias[r, c] = 0.5 * weight * (squares - left.square())
                linear.turns[r, c] = turns

    def blend(self, similarity: Mapping[str, Tensor], share: float) -> None:
        """Add the similarity of activations to the objective, except for groups without activation.

        The activations of such a group depend on the map that is being solved for; its map follows
        from the neighbouring groups.

        Args:
            similarity: Group -> (slots, units), entries in [-1, 1].
            share: Share of activations in the objective, in [0, 1]; params and activations are each
                taken relative to their upper bound.
        """
        self.scale((1 - share) / max(self.bound, 1e-300))
        ordered = [group for group in self.groups if self.freedoms[group.name] != "linear"]
        weight = share / max(sum(group.size for group in ordered), 1)
        for group in ordered:
            linear = self.linear[group.name]
            linear.after = linear.after + weight * similarity[group.name]
        self.bound += share

    def scale(self, factor: float) -> None:
        """Multiply the whole objective."""
        self.bound *= factor
        self.blocks = [Block(b.rows, b.columns, factor * b.a, b.b) for b in self.blocks]
        for linear in self.linear.values():
            linear.before, linear.after = factor * linear.before, factor * linear.after
            if linear.bias is not None:
                linear.bias = {key: factor * gain for key, gain in linear.bias.items()}

    def sides(self, name: str, axis: int, length: int) -> list[Side]:
        """One axis of a tensor, cut into sides that carry one group each, or no group."""
        carried = []
        for group in self.groups:
            turn = group.gauge("turn")
            for part in group.slices:
                if part.tensor == name and part.axis == axis:
                    reads = part in turn.columns if turn is not None else axis == 1
                    carried.append(Side(group.name, reads, part.start, part.stop))
        carried.sort(key=lambda side: side.start)
        out, offset = [], 0
        for side in [*carried, Side(None, False, length, length)]:
            if side.start > offset:
                out.append(Side(None, False, offset, side.start))
            if side.group is not None:
                out.append(side)
            offset = side.stop
        return out

    def identity(self) -> dict[str, UnitPlacement]:
        """The identity placement of every group."""
        return {
            group.name: UnitPlacement.identity(group.size, self.linear[group.name].before.device)
            for group in self.groups
        }

    def gains(self, name: str, placements: Mapping[str, UnitPlacement]) -> Gains:
        """Gain of placing each unit of one group at each slot, with all other groups fixed.

        Blocks whose other group has no placement yet are left out.
        """
        linear = self.linear[name]
        total = {False: linear.before, True: linear.after}
        for block in self.blocks:
            rows, columns = block.rows.group or "", block.columns.group or ""
            if rows == name and columns in placements:
                moved = placements[columns].place(block.b.mT, reads=block.columns.reads)
                total[block.rows.reads] = total[block.rows.reads] + block.a @ moved
            if columns == name and rows in placements:
                moved = placements[rows].place(block.b, reads=block.rows.reads)
                total[block.columns.reads] = total[block.columns.reads] + block.a.mT @ moved
        return Gains(total[False], total[True], linear.bias)

    def value(self, placements: Mapping[str, UnitPlacement]) -> float:
        """The agreement for these placements."""
        total = 0.0
        for name, linear in self.linear.items():
            total += Gains(linear.before, linear.after, linear.bias).of(placements[name])
        for block in self.blocks:
            rows, columns = (
                placements[block.rows.group or ""],
                placements[block.columns.group or ""],
            )
            moved = columns.place(block.b.mT, reads=block.columns.reads).mT
            total += float((block.a * rows.place(moved, reads=block.rows.reads)).sum())
        return total

    def element(self, placements: Mapping[str, UnitPlacement]) -> Element:
        """Placements of all groups as an element of the symmetry."""
        perms, gauges = {}, {}
        for group in self.groups:
            placement, freedom = placements[group.name], self.freedoms[group.name]
            perms[group.name] = placement.perm
            if freedom == "order" or (freedom == "linear" and placement.matrix is None):
                continue
            value = placement.before if placement.matrix is None else placement.matrix
            if freedom == "turn":
                value = torch.stack([value, self.turns_of(group.name, placement)], 1)
            # The signs before and after a norm are one sign: the norm's weights do not change.
            gauges[group.name] = {
                number: value for number, gauge in enumerate(group.gauges) if gauge.kind == freedom
            }
        return Element(perms, gauges)

    def turns_of(self, name: str, placement: UnitPlacement) -> Float[Tensor, " units"]:
        """Number of half turns of each slot's bias, for given signs and order."""
        slots = torch.arange(len(placement.perm), device=placement.perm.device)
        total = torch.zeros_like(placement.before)
        for (r, c), turns in (self.linear[name].turns or {}).items():
            chosen = (placement.before == r) & (placement.after == c)
            total = total + chosen * turns[slots, placement.perm]
        return total

    def neighbours(self) -> dict[str, set[str]]:
        """Group -> groups that share a block with it."""
        neighbours: dict[str, set[str]] = {group.name: set() for group in self.groups}
        for block in self.blocks:
            one, other = block.rows.group or "", block.columns.group or ""
            neighbours[one].add(other)
            neighbours[other].add(one)
        return neighbours
