"""Frank–Wolfe over relaxed placements: all groups are updated together.

Coordinate descent places one group while its neighbours are still wrong. The relaxation allows any
mixture of placements and follows the gradient of the agreement: the direction is the best placement
for the gradient; the step length is exact, because along a line the agreement is a parabola. The
result is projected to the nearest placement, from which the caller starts a descent.
"""

from __future__ import annotations

from .agreement import Agreement
from .mixtures import gains_of, mixture_of, project, uniform, value_of
from .placement import Freedom, UnitPlacement, best_placement

__all__ = ["relax"]

#: Iterations end at this duality gap, relative to the bound.
TOLERANCE = 1e-7


def relax(agreement: Agreement, iterations: int, *, signs: bool = True) -> dict[str, UnitPlacement]:
    """Maximise the agreement over mixtures of placements; project the result to placements.

    Args:
        agreement: The objective.
        iterations: Largest number of steps.
        signs: Whether signs may change. With noise, orders are found more reliably without; the
            descent that follows then finds the signs.

    Reference:
        Crisostomi et al. 2024, C²M³, arXiv 2405.17897; Frank and Wolfe 1956. Departures: signs and
        orthogonal maps; the exact step from the values at both ends of the line.
    """
    mixtures = uniform(agreement)
    freedoms: dict[str, Freedom] = {
        name: "order" if freedom in ("sign", "turn") and not signs else freedom
        for name, freedom in agreement.freedoms.items()
    }
    value = value_of(agreement, mixtures)
    for _ in range(iterations):
        gains = {name: gains_of(agreement, name, mixtures) for name in mixtures}
        corners = {name: best_placement(gains[name], freedoms[name]) for name in mixtures}
        ends = {name: mixture_of(agreement, name, corner) for name, corner in corners.items()}
        slope = sum(
            float(((ends[name].before - mixture.before) * gains[name].before).sum())
            + float(((ends[name].after - mixture.after) * gains[name].after).sum())
            + ends[name].bias - mixture.bias
            for name, mixture in mixtures.items()
        )  # fmt: skip
        if slope <= TOLERANCE * agreement.bound:
            break
        at_end = agreement.value(corners)
        curvature = at_end - value - slope
        step = 1.0 if curvature >= 0 else min(1.0, -slope / (2 * curvature))
        if step == 1.0:
            mixtures, value = ends, at_end
        else:
            mixtures = {n: mixture.towards(ends[n], step) for n, mixture in mixtures.items()}
            value += step * slope + step * step * curvature
    return {name: project(mixtures[name], freedoms[name]) for name in mixtures}
