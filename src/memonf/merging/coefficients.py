"""Weights of the parents of a merge: one number a parent, or other ones for chosen tensors.

Symbols: c_i coefficient of parent i, Σ c_i = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..errors import InputError, nearest

__all__ = ["DEFAULT", "Coefficients", "check_coefficients", "read_coefficients"]

#: Key of the coefficients of all tensors that no pattern matches.
DEFAULT = "default"


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of each parent, sum 1, overall and for the tensors that patterns choose.

    Attributes:
        overall: One a parent, for every tensor that no pattern matches.
        layers: (pattern of tensor names, one coefficient a parent); the first that matches wins.
    """

    overall: tuple[float, ...]
    layers: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def of(self, tensor: str) -> tuple[float, ...]:
        """Coefficients of the tensor of this name, one a parent."""
        return self.layers[chosen][1] if (chosen := self.place_of(tensor)) >= 0 else self.overall

    def place_of(self, tensor: str) -> int:
        """Place of the first pattern that matches the name, -1 if none does."""
        for place, (pattern, _) in enumerate(self.layers):
            if fnmatchcase(tensor, pattern):
                return place
        return -1

    def check_patterns(self, tensors: Sequence[str]) -> None:
        """Refuse, by name, patterns that decide about none of the tensors.

        Raises:
            InputError: A pattern matches nothing, or only what patterns before it match.
        """
        used = {self.place_of(tensor) for tensor in tensors}
        for place, (pattern, _) in enumerate(self.layers):
            if place in used:
                continue
            if any(fnmatchcase(tensor, pattern) for tensor in tensors):
                raise InputError(
                    f"coefficients: all that `{pattern}` matches is matched by patterns before it; "
                    "the first that matches wins, move it up"
                )
            raise InputError(
                f"coefficients: `{pattern}` matches no tensor; "
                f"{nearest(pattern, [DEFAULT, *tensors])}"
            )

    def heard(self, tensors: Sequence[str]) -> list[int]:
        """Numbers of the parents that have a say in any of the tensors."""
        lists = [self.of(tensor) for tensor in tensors] if self.layers else [self.overall]
        parents = range(len(self.overall))
        return [number for number in parents if any(shares[number] > 0 for shares in lists)]

    def only(self, parents: Sequence[int]) -> Coefficients:
        """Coefficients without the parents that are not `heard`."""
        overall = tuple(self.overall[number] for number in parents)
        if any(share > 0 for number, share in enumerate(self.overall) if number not in parents):
            # No tensor takes the overall coefficients; what they are for all else has to sum to 1.
            total = sum(overall)
            overall = tuple(share / total if total else 1 / len(parents) for share in overall)
        layers = tuple(
            (pattern, tuple(shares[number] for number in parents))
            for pattern, shares in self.layers
        )
        return Coefficients(overall, layers)


def read_coefficients(
    given: Sequence[float] | Mapping[str, Sequence[float]] | None, parents: int
) -> Coefficients:
    """Check what a caller gives as coefficients.

    Args:
        given: One a parent; or such lists by pattern of tensor names (``layers.0.*``), the first
            that matches wins, and `DEFAULT` for the rest. None, or no default, weighs equally.
        parents: Number of parents.

    Raises:
        InputError: A list does not weigh the parents.
    """
    if not isinstance(given, Mapping):
        return Coefficients(check_coefficients(given, parents))
    layers = tuple(
        (pattern, check_coefficients(shares, parents, f"coefficients `{pattern}`"))
        for pattern, shares in given.items()
        if pattern != DEFAULT
    )
    overall = check_coefficients(given.get(DEFAULT), parents, f"coefficients `{DEFAULT}`")
    return Coefficients(overall, layers)


def check_coefficients(
    coefficients: Any, parents: int, where: str = "coefficients"
) -> tuple[float, ...]:
    """Equal coefficients by default; refuse what is not a weighting of the parents.

    Args:
        coefficients: Numbers, one a parent; None weighs equally.
        parents: Number of parents.
        where: What messages call the list.

    Raises:
        InputError: Not one number in [0, 1] a parent, or their sum is not 1.
    """
    if coefficients is None:
        return (1.0 / parents,) * parents
    if isinstance(coefficients, str):
        raise InputError(f"{where}: expected numbers, received {coefficients!r}")
    try:
        shares = tuple(float(value) for value in coefficients)
    except (TypeError, ValueError):
        raise InputError(f"{where}: expected numbers, received {coefficients!r}") from None
    if len(shares) != parents:
        raise InputError(f"{where}: expected {parents}, one a parent, received {len(shares)}")
    if not all(math.isfinite(share) and 0 <= share <= 1 for share in shares):
        raise InputError(f"{where}: expected numbers in [0, 1], received {list(shares)}")
    if abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"{where}: expected a sum of 1, received {sum(shares):g}")
    return shares
