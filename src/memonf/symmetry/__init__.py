"""The symmetry of a network, read off its own forward pass.

`find_symmetry` traces a network once and says which slices of which axes of which tensors carry the
same hidden units (`Group`), and what else can be done to each unit without changing what the
network computes (`Gauge`). `Element` is one such change, `transform` makes it, `verify` checks
that it changes nothing. Nothing is declared by the architecture.
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
