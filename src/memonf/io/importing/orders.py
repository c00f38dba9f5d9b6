"""In which order the features of an encoding stand in other code bases.

Three loops make them: over frequencies, over sine and cosine (the *wave*), over axes. Which loop is
the outermost, where the bare coordinates stand, and what the angles are multiplied by differs from
code base to code base, and nothing in a checkpoint says it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any

import torch

from ...typing import Tensor

__all__ = ["ORDERS", "EncodingOrder", "factor_words", "other_orders"]

#: Names of the common orders: the loops, from the outermost to the innermost.
ORDERS = {
    "frequency-major": "frequency wave axis", "axis-major": "axis frequency wave",
    "wave-major": "wave frequency axis",
}  # fmt: skip
AXES = 3


@dataclass(frozen=True)
class EncodingOrder:
    """Order of the features of an encoding of three coordinates.

    Attributes:
        loops: ``frequency``, ``wave`` and ``axis``, from the outermost loop to the innermost.
        cosines_first: Whether the cosine of a pair stands before its sine.
        input: Where the bare coordinates stand: ``first``, ``last``, ``each`` (ahead of the waves
            of each axis, whose loop is the outermost then), ``absent``; "" for where they stand in
            most code bases of that order. That they are there at all is seen by the number of
            features.
        factor: What angles are multiplied by: 1, or π or 2π.
        negated: Whether the coordinates are taken the other way round, as directions from the
            scene to the camera are.
    """

    loops: tuple[str, str, str] = ("frequency", "wave", "axis")
    cosines_first: bool = False
    input: str = ""
    factor: float = 1.0
    negated: bool = False

    @classmethod
    def named(cls, values: Mapping[str, Any]) -> EncodingOrder:
        """From the keys of a YAML file, which were checked."""
        return cls(**{"loops" if key == "order" else key: value for key, value in values.items()})

    @property
    def place(self) -> str:
        """Where the bare coordinates stand if they are there."""
        if self.input in ("first", "last", "each"):
            return self.input
        return "each" if self.loops[0] == "axis" else "first"

    def columns(self, frequencies: int, include_input: bool) -> list[int]:
        """Column of the code base for each feature of `memonf.fields.encodings`.

        Ours are the bare coordinates, then all sines, then all cosines, the frequencies of a
        coordinate side by side.
        """
        waves = ("cosine", "sine") if self.cosines_first else ("sine", "cosine")
        ranges = {"frequency": range(frequencies), "wave": waves, "axis": range(AXES)}
        features: list[tuple[Any, ...]] = []
        for values in product(*(ranges[loop] for loop in self.loops)):
            feature = dict(zip(self.loops, values, strict=True))
            features.append((feature["wave"], feature["axis"], feature["frequency"]))
        if include_input:
            bare = [("bare", axis, 0) for axis in range(AXES)]
            if self.place == "each":
                features = [
                    feature for axis in range(AXES)
                    for feature in (bare[axis], *(f for f in features if f[1] == axis))
                ]  # fmt: skip
            else:
                features = bare + features if self.place == "first" else features + bare
        place = {feature: index for index, feature in enumerate(features)}
        first = [place["bare", axis, 0] for axis in range(AXES)] if include_input else []
        return first + [
            place[wave, axis, frequency] for wave in ("sine", "cosine")
            for axis in range(AXES) for frequency in range(frequencies)
        ]  # fmt: skip

    def taken(self, columns: Tensor, frequencies: int, include_input: bool) -> Tensor:
        """The columns of a weight that read such an encoding, as they read one of ours."""
        ours = columns[:, self.columns(frequencies, include_input)]
        if self.negated:  # sines and coordinates change their sign, cosines do not
            odd = AXES * (include_input + frequencies)
            signs = torch.ones(ours.shape[1])
            signs[:odd] = -1
            ours = ours * signs
        return ours

    def words(self, prefix: str = "") -> str:
        """As a YAML file says it, the lines joined by commas; keys begin with a prefix."""
        loops = " ".join(self.loops)
        name = next((name for name, known in ORDERS.items() if known == loops), loops)
        said = {"order": name, "input": self.place}
        if self.cosines_first:
            said["cosines_first"] = "true"
        if self.factor != 1:
            said["factor"] = factor_words(self.factor)
        if self.negated:
            said["negated"] = "true"
        return ", ".join(f"{prefix}{key}: {value}" for key, value in said.items())


def factor_words(factor: float) -> str:
    """A factor as a YAML file says it."""
    return {math.pi: "pi", 2 * math.pi: "2pi"}.get(factor, f"{factor:g}")


def other_orders(order: EncodingOrder, include_input: bool) -> list[EncodingOrder]:
    """All orders that differ from one in their loops, waves or the place of the coordinates.

    Args:
        order: The one.
        include_input: Whether there are bare coordinates.
    """
    found = []
    loops: tuple[str, str, str]
    for loops in permutations(("frequency", "wave", "axis")):  # type: ignore[assignment]
        places = ["first", "last", "each"] if loops[0] == "axis" else ["first", "last"]
        for place, cosines_first in product(places if include_input else [""], (False, True)):
            other = replace(order, loops=loops, cosines_first=cosines_first, input=place)
            found.append(other)
    same = order.columns(2, include_input)
    distinct: dict[tuple[int, ...], EncodingOrder] = {}
    for other in found:
        columns = other.columns(2, include_input)
        if columns != same:
            distinct.setdefault(tuple(columns), other)
    return list(distinct.values())
