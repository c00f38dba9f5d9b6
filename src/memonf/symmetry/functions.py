"""Known functions and modules, and the factors with which each commutes.

A function that is missing from these tables fixes the units that it reads: a missing entry loses
symmetry, never correctness. To add an activation, add its name to `ELEMENTWISE` and, if it has a
module, the module to `MODULES`.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import fx, nn

from .carriers import FREE, ONE, SCALE, SIGN

__all__ = [
    "ARITHMETIC",
    "AUGMENTED",
    "ELEMENTWISE",
    "JOINING",
    "MODULES",
    "NORMS",
    "RANK_KEEPING",
    "SPLITTING",
    "TRANSPARENT",
    "VIEWS",
    "argument",
    "called_name",
    "says_nothing_of_entries",
]

#: Elementwise functions, by name: the kinds of factor that pass through them.
ELEMENTWISE = {
    **dict.fromkeys(("relu", "leaky_relu"), SCALE),
    **dict.fromkeys(("tanh", "sin", "atan", "arctan", "asinh", "sinh", "erf", "softsign"), SIGN),
    **dict.fromkeys(
        ("sigmoid", "silu", "gelu", "softplus", "elu", "selu", "celu", "mish", "relu6", "exp",
         "cos", "square", "abs", "logsigmoid", "hardsigmoid", "hardswish", "sqrt", "clamp", "pow"),
        ONE,
    ),
    **dict.fromkeys(("contiguous", "clone", "detach", "float", "dropout", "identity"), FREE),
}  # fmt: skip
#: Elementwise modules, and the function that each computes.
MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.Tanh: "tanh", nn.Softsign: "softsign",
    nn.Sigmoid: "sigmoid", nn.SiLU: "silu", nn.GELU: "gelu", nn.Softplus: "softplus",
    nn.ELU: "elu", nn.SELU: "selu", nn.CELU: "celu", nn.Mish: "mish", nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish", nn.Identity: "identity", nn.Dropout: "dropout",
}  # fmt: skip
#: Norm -> the kinds of factor that its input may have. Batch norm divides by a deviation that is
#: proportional to the factor except for ε, so that only signs pass exactly.
NORMS: dict[type[nn.Module], frozenset[str]] = {
    nn.BatchNorm1d: SIGN, nn.LayerNorm: ONE, nn.RMSNorm: SIGN,
}  # fmt: skip
#: Elementwise functions that are not activations.
TRANSPARENT = {name for name, passed in ELEMENTWISE.items() if passed == FREE}
#: Functions that concatenate values, and that split them.
JOINING = {"cat", "concat", "concatenate"}
SPLITTING = {"split", "chunk"}
ARITHMETIC = {"add", "sub", "mul", "div", "truediv", "neg"}
#: Functions whose result may share memory with their input.
VIEWS = TRANSPARENT | SPLITTING | {"getitem"}
#: Functions whose result has as many axes as their input.
RANK_KEEPING = ELEMENTWISE.keys() | VIEWS | JOINING | ARITHMETIC | {"linear"}
#: Augmented assignments, which change tensors in place.
AUGMENTED = {
    f"__{name}__": getattr(operator, name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul",
                 "iand", "ior", "ixor")
}  # fmt: skip
#: Attributes of a value that do not depend on its entries.
OUTER_ATTRIBUTES = {"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout"}


def called_name(node: fx.Node) -> str:
    """Name of the function that a step calls; the same for functions, methods, in-place forms."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    home = getattr(node.target, "__module__", None) or "torch"
    name = str(getattr(node.target, "__name__", node.target)).rstrip("_")
    if node.op != "call_function" or home.split(".")[0] not in ("torch", "_operator", "builtins"):
        return ""  # not a torch function: its name says nothing about what it does
    return name.removeprefix("i") if name in ("iadd", "imul", "isub", "itruediv") else name


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of a step, given by position or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def says_nothing_of_entries(node: fx.Node, called: str) -> bool:
    """Whether a step reads only a value's shape or type, which no order or factor changes."""
    if called == "getattr":
        return node.args[1] in OUTER_ATTRIBUTES
    return called in ("size", "dim")
