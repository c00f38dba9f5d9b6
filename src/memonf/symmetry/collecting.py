"""Collecting the result of tracing: the groups that are free, and their gauges."""

from __future__ import annotations

from collections.abc import Iterable

from .carriers import Factor, Units, join_factors, leaves
from .groups import Gauge, GaugeKind, Group

__all__ = ["groups_of"]


def groups_of(units: Iterable[Units], unmovable: set[str]) -> tuple[Group, ...]:
    """The groups whose units can be reordered.

    Args:
        units: Units of each dense layer, in the order of the forward pass.
        unmovable: Tensors that must not be changed.
    """
    return tuple(
        Group(name_of(leaf, whole), leaf.size, tuple(leaf.slices), gauges_of(leaf), *leaf.readout)
        for whole in units
        for leaf in leaves(whole)
        if leaf.joined is None
        and not leaf.fixed
        and not any(part.tensor in unmovable for part in leaf.slices)
    )


def name_of(leaf: Units, whole: Units) -> str:
    """The layer's name, with the range of its units if they were split."""
    if leaf.size == whole.size:
        return leaf.name
    return f"{leaf.name}[{leaf.start}:{leaf.start + leaf.size}]"


def gauges_of(units: Units) -> tuple[Gauge, ...]:
    """The gauges of a group, one or more for each free factor."""
    drop_impossible_turns(units)
    factors = roots(units)
    inner_ones = {factor.turned[0].root() for factor in factors if factor.turned is not None}
    return tuple(
        gauge for factor in factors if factor not in inner_ones for gauge in gauges_from(factor)
    )


def roots(units: Units) -> list[Factor]:
    """The distinct factors on a range of units, in order."""
    return list(dict.fromkeys(factor.root() for factor in units.factors))


def drop_impossible_turns(units: Units) -> None:
    """Treat a sine whose input is also read elsewhere as any odd function."""
    factors = roots(units)
    inners = [factor.turned[0].root() for factor in factors if factor.turned is not None]
    for factor in factors:
        if factor.turned is not None:
            inner = factor.turned[0].root()
            # Turns need a sine that is the only reader of its layer, and no other tensor that
            # changes with its sign.
            alone = inners.count(inner) == 1 and not inner.columns and not inner.united
            if not alone or factor.united or factor.rows or "sign" not in inner.allowed:
                join_factors(factor, inner)


def gauges_from(factor: Factor) -> list[Gauge]:
    """The gauges of one factor."""
    columns = tuple(factor.columns)
    if factor.turned is not None:
        inner, half_turn = factor.turned
        rows = tuple(inner.root().rows)
        return [Gauge("turn", rows, columns, half_turn)] if "sign" in factor.allowed else []
    rows = tuple(factor.rows)
    if "linear" in factor.allowed:
        return [Gauge("linear", rows, columns)]
    kinds: tuple[GaugeKind, ...] = ("scale", "sign")
    return [Gauge(kind, rows, columns) for kind in kinds if kind in factor.allowed]
