"""Weights of the parents of a merge: one number per parent, optionally by tensor.

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
    """Coefficients of each parent, sum 1: overall ones, and others for tensors by pattern.

    Attributes:
        overall: One per parent, for every tensor that no pattern matches.
        layers: (pattern of tensor names, one coefficient per parent); the first pattern that
            matches is used.
    """

    overall: tuple[float, ...]
    layers: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def of(self, tensor: str) -> tuple[float, ...]:
        """Coefficients of the tensor of this name, one per parent."""
        return self.layers[chosen][1] if (chosen := self.place_of(tensor)) >= 0 else self.overall

    def place_of(self, tensor: str) -> int:
        """Place of the first pattern that matches the name, -1 if none does."""
        for place, (pattern, _) in enumerate(self.layers):
            if fnmatchcase(tensor, pattern):
                return place
        return -1

    def check_patterns(self, tensors: Sequence[str]) -> None:
        """Refuse patterns that apply to no tensor.

        Raises:
            InputError: A pattern matches no tensor, or only tensors that an earlier one matches.
        """
        used = {self.place_of(tensor) for tensor in tensors}
        for place, (pattern, _) in enumerate(self.layers):
            if place in used:
                continue
            if any(fnmatchcase(tensor, pattern) for tensor in tensors):
                raise InputError(
                    f"coefficients: all tensors of `{pattern}` are matched by an earlier pattern, "
                    "and the first match is used; move it up"
                )
            raise InputError(
                f"coefficients: `{pattern}` matches no tensor; "
                f"{nearest(pattern, [DEFAULT, *tensors])}"
            )

    def contributing(self, tensors: Sequence[str]) -> list[int]:
        """Numbers of the parents with a coefficient above 0 for any of the tensors."""
        lists = [self.of(tensor) for tensor in tensors] if self.layers else [self.overall]
        parents = range(len(self.overall))
        return [number for number in parents if any(shares[number] > 0 for shares in lists)]

    def only(self, parents: Sequence[int]) -> Coefficients:
        """Coefficients of these parents alone, of which all others have coefficient 0."""
        overall = tuple(self.overall[number] for number in parents)
        if any(share > 0 for number, share in enumerate(self.overall) if number not in parents):
            # Then no tensor takes the overall coefficients; they still have to sum to 1.
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
    """Check and complete coefficients given by a caller.

    Args:
        given: One number per parent; or a mapping from patterns of tensor names (``layers.0.*``)
            to such lists, of which the first that matches is used, with `DEFAULT` for the rest.
            None, or a mapping without a default: equal weights.
        parents: Number of parents.

    Raises:
        InputError: Invalid coefficients, see `check_coefficients`.
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
    """Check one list of coefficients; equal ones by default.

    Args:
        coefficients: Numbers, one per parent; None: equal weights.
        parents: Number of parents.
        where: Name of the list in error messages.

    Raises:
        InputError: Not one number in [0, 1] per parent, or their sum is not 1.
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
        raise InputError(
            f"{where}: expected {parents} numbers (one per parent), received {len(shares)}"
        )
    if not all(math.isfinite(share) and 0 <= share <= 1 for share in shares):
        raise InputError(f"{where}: expected numbers in [0, 1], received {list(shares)}")
    if abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"{where}: expected a sum of 1, received {sum(shares):g}")
    return shares
