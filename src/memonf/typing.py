"""Axis names and tensor aliases that public signatures share.

Axis names, used all over the package: ``views`` (images or cameras), ``rays``, ``samples`` (points
on rays, packed one after another), ``points`` (free positions), ``units`` (hidden units of one
layer), ``height width channels`` (images, row-major). They are checked under pytest only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, TypeAlias

from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field as Limits
from torch import Tensor

__all__ = [
    "Bool",
    "ColourFunction",
    "DensityFunction",
    "Float",
    "Int",
    "PathLike",
    "Seed",
    "Tensor",
    "UInt8",
]

#: Seed of random choices; those that are derived from it by adding still have 64 bits.
Seed: TypeAlias = Annotated[int, Limits(ge=-(1 << 62), le=1 << 62)]

PathLike: TypeAlias = "str | os.PathLike[str]"

#: positions (points, 3) -> density (points,), per scene unit
DensityFunction: TypeAlias = Callable[[Tensor], Tensor]

#: positions (points, 3), unit directions (points, 3) -> density (points,), rgb (points, 3)
ColourFunction: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
