"""The symmetry of a network, derived from its own forward pass.

`find_symmetry` traces a network once. It lists which slices of which tensor axes carry the same
hidden units (`Group`), and which further changes of a unit leave the network's function as it is
(`Gauge`). `Element` is one such change, `transform` applies it to params, and `verify` checks that
the outputs stay the same. An architecture declares nothing.
"""

from .elements import (
    Element,
    Permutations,
    in_double,
    inverse,
    permute,
    permute_tensor,
    random_element,
    transform,
)
from .groups import AxisSlice, Gauge, Group, Params, Symmetry
from .recording import record
from .tracing import find_symmetry
from .verifying import verify

__all__ = [
    "AxisSlice",
    "Element",
    "Gauge",
    "Group",
    "Params",
    "Permutations",
    "Symmetry",
    "find_symmetry",
    "in_double",
    "inverse",
    "permute",
    "permute_tensor",
    "random_element",
    "record",
    "transform",
    "verify",
]
