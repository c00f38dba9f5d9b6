"""Elements of a symmetry: changes of params that leave the network's function as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..typing import Tensor
from .groups import AxisSlice, Gauge, Group, Params, Permutations, Symmetry

__all__ = [
    "Element",
    "Permutations",
    "in_double",
    "inverse",
    "permute",
    "permute_tensor",
    "random_element",
    "transform",
]


@dataclass(frozen=True)
class Element:
    """One element of a symmetry: units are reordered, then each gauge acts on the slots.

    Example:
        >>> swap = Element(perms={"layers.0": torch.tensor([1, 0])})
        >>> swap.gauges
        {}

    Attributes:
        perms: Group -> permutation (units,); groups that are left out keep their order.
        gauges: Group -> gauge number -> value. ``scale`` and ``sign``: factors (units,);
            ``linear``: a map (units, units); ``turn``: (units, 2), the sign of z and the number of
            half turns.
    """

    perms: Permutations = field(default_factory=dict)
    gauges: dict[str, dict[int, Tensor]] = field(default_factory=dict)


def random_element(symmetry: Symmetry, generator: torch.Generator) -> Element:
    """A random element: any order, factors of ½ to 2, any signs, up to two half turns.

    The maps of linear groups are orthogonal matrices times factors of ½ to 2, so that float noise
    stays small.

    Example:
        >>> symmetry = find_symmetry(build_field("tiny_nerf", None, box))
        >>> element = random_element(symmetry, torch.Generator().manual_seed(0))
        >>> sorted(element.perms) == sorted(group.name for group in symmetry.groups)
        True
    """

    def factors(size: int) -> Tensor:
        return 2.0 ** (2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1)

    def signs(size: int) -> Tensor:
        return 2.0 * torch.randint(2, (size,), generator=generator).double() - 1

    def value(gauge: Gauge, size: int) -> Tensor:
        if gauge.kind == "scale":
            return factors(size)
        if gauge.kind == "sign":
            return signs(size)
        if gauge.kind == "turn":
            turns = torch.randint(-2, 3, (size,), generator=generator).double()
            return torch.stack([signs(size), turns], 1)
        square = torch.randn(size, size, generator=generator, dtype=torch.float64)
        return torch.linalg.qr(square).Q * factors(size)

    gauges = {
        group.name: {n: value(gauge, group.size) for n, gauge in enumerate(group.gauges)}
        for group in symmetry.groups
    }
    return Element(symmetry.random(generator), gauges)


def inverse(element: Element, symmetry: Symmetry) -> Element:
    """The inverse of an element.

    Example:
        >>> symmetry = find_symmetry(build_field("tiny_nerf", None, box))
        >>> element = random_element(symmetry, torch.Generator().manual_seed(0))
        >>> perm = element.perms["layers.0"]
        >>> torch.equal(inverse(element, symmetry).perms["layers.0"], perm.argsort())
        True
    """
    perms = {name: perm.argsort() for name, perm in element.perms.items()}
    kinds = {group.name: [gauge.kind for gauge in group.gauges] for group in symmetry.groups}

    def undone(name: str, number: int, value: Tensor) -> Tensor:
        kind = kinds[name][number]
        back = perms.get(name, torch.arange(len(value), device=value.device))
        if kind == "linear":
            return torch.linalg.inv(value)[back][:, back]
        if kind == "turn":  # z = r (z' − k π) for z' = r z + k π
            value = torch.stack([value[:, 0], -value[:, 0] * value[:, 1]], 1)
        else:
            value = 1 / value
        return value[back]

    gauges = {
        name: {number: undone(name, number, value) for number, value in values.items()}
        for name, values in element.gauges.items()
    }
    return Element(perms, gauges)


def transform(params: Mapping[str, Tensor], symmetry: Symmetry, element: Element) -> Params:
    """Equivalent params: those of the same function, changed by an element.

    Computed in float64 and rounded once; the inputs stay as they are.

    Example:
        >>> field = build_field("tiny_nerf", None, box)
        >>> symmetry = find_symmetry(field)
        >>> element = random_element(symmetry, torch.Generator().manual_seed(0))
        >>> equivalent = transform(field.state_dict(), symmetry, element)
        >>> torch.equal(equivalent["layers.0.weight"], field.state_dict()["layers.0.weight"])
        False
    """
    out = dict(params)
    for group in symmetry.groups:
        values = element.gauges.get(group.name, {})
        for part in group.slices if values else ():
            out[part.tensor] = out[part.tensor].double()
        for name in {part.tensor: None for part in group.slices}:
            if group.name in element.perms:
                out[name] = permute_tensor(out[name], name, group, element.perms)
        for number, value in values.items():
            act(out, group.gauges[number], value)
    return {name: tensor.to(params[name].dtype) for name, tensor in out.items()}


def act(params: Params, gauge: Gauge, value: Tensor) -> None:
    """Apply one gauge to params; the tensors that it changes are replaced."""
    reference = params[(gauge.rows or gauge.columns)[0].tensor]
    value = value.to(reference)
    if gauge.kind == "linear":
        undo = torch.linalg.inv(value).mT
        for parts, matrix in ((gauge.rows, value), (gauge.columns, undo)):
            for part in parts:
                replace_slice(params, part, lambda rows, matrix=matrix: matrix @ rows)
        return
    row_factor, column_factor, shift = value, 1 / value, None
    if gauge.kind == "turn":
        row_factor, turns = value[:, 0], value[:, 1]
        column_factor = row_factor * (1 - 2 * turns.abs().remainder(2))
        shift = turns * gauge.half_turn
        # sin(r z + k π) = r (−1)^k sin z for r = ±1.
    for part in gauge.rows:
        # The shift is added to the bias, the only row slice with one axis.
        moved = shift if params[part.tensor].ndim == 1 else None
        replace_slice(
            params,
            part,
            lambda rows, moved=moved: (
                row_factor[:, None] * rows + (0 if moved is None else moved[:, None])
            ),
        )
    for part in gauge.columns:
        replace_slice(params, part, lambda rows: column_factor[:, None] * rows)


def replace_slice(params: Params, part: AxisSlice, change) -> None:  # type: ignore[no-untyped-def]
    """Change the entries of one slice, viewed as rows (units, rest)."""
    tensor = params[part.tensor].clone()
    view = tensor.movedim(part.axis, 0)[part.start : part.stop]
    view.copy_(change(view.flatten(1) if view.ndim > 1 else view[:, None]).reshape(view.shape))
    params[part.tensor] = tensor


def in_double(params: Mapping[str, Tensor]) -> Params:
    """Params with floating-point tensors converted to float64.

    Example:
        >>> in_double({"weight": torch.zeros(2), "steps": torch.tensor(3)})["weight"].dtype
        torch.float64
    """
    return {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in params.items()
    }


def permute(params: Mapping[str, Tensor], symmetry: Symmetry, perms: Permutations) -> Params:
    """Reorder hidden units: slot i of each group receives unit `perm[i]`; inputs are untouched.

    Example:
        >>> field = build_field("tiny_nerf", None, box)
        >>> symmetry = find_symmetry(field)
        >>> perms = symmetry.random(torch.Generator().manual_seed(0))
        >>> bias = field.state_dict()["layers.0.bias"]
        >>> permuted = permute(field.state_dict(), symmetry, perms)
        >>> torch.equal(permuted["layers.0.bias"], bias[perms["layers.0"]])
        True
    """
    out = dict(params)
    for group in symmetry.groups:
        for name in {part.tensor: None for part in group.slices}:
            out[name] = permute_tensor(out[name], name, group, perms)
    return out


def permute_tensor(tensor: Tensor, name: str, group: Group, perms: Permutations) -> Tensor:
    """Reorder one group's units along the axes of the tensor called `name`.

    Example:
        >>> part = AxisSlice("bias", 0, 0, 3)
        >>> group = Group("layer", 3, (part,), (), "layer")
        >>> perms = {"layer": torch.tensor([2, 0, 1])}
        >>> permute_tensor(torch.tensor([10, 11, 12]), "bias", group, perms)
        tensor([12, 10, 11])
    """
    for part in group.slices:
        if part.tensor == name:
            index = torch.arange(tensor.shape[part.axis], device=tensor.device)
            index[part.start : part.stop] = part.start + perms[group.name].to(tensor.device)
            tensor = tensor.index_select(part.axis, index)
    return tensor
