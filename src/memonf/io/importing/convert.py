"""From another code base's named tensors to a `classic_nerf`: its shape is read off the params."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...errors import FieldFileError
from ...fields.classic_nerf import ClassicNerf, ClassicNerfConfig
from ...typing import Tensor
from ...utils.safe_unpickle import PickledObject, short
from .layer_names import LayerNames, State, layer_of, rows_of
from .orders import EncodingOrder

__all__ = ["converted"]


class Reader:
    """Takes layers out of a state and knows which tensors nobody took.

    Args:
        state: Name -> tensor.
        where: What messages call the file.
        transposed: Whether weights are (columns, rows).
        unread: Name -> object that stands where a tensor was expected.
    """

    def __init__(
        self,
        state: State,
        where: str,
        transposed: bool = False,
        unread: Mapping[str, PickledObject] | None = None,
    ) -> None:
        self.state, self.where, self.transposed = state, where, transposed
        self.unread = unread or {}
        self.left = set(state)

    def layer(self, name: str, rows: int | None = None) -> tuple[Tensor, Tensor]:
        """Weight (rows, columns) and bias (rows,) of a layer, or of some rows of it.

        Raises:
            FieldFileError: Not there, or of another shape.
        """
        layer = layer_of(name)
        kernel = f"{layer}.weight" not in self.state and f"{layer}.kernel" in self.state
        weight = self.tensor(f"{layer}.kernel" if kernel else f"{layer}.weight", 2)
        bias = self.tensor(f"{layer}.bias", 1)
        if kernel or self.transposed:
            weight = weight.T
        if len(weight) != len(bias):
            raise FieldFileError(
                f"{self.where}: `{short(layer)}.weight`: expected {len(bias)} rows, as many as its "
                f"bias, received {tuple(weight.shape)}"
                + ("; rows and columns are exchanged; say `transposed: true` in --layers"
                   if weight.shape[1] == len(bias) else "")
            )  # fmt: skip
        weight, bias = weight[rows_of(name)], bias[rows_of(name)]
        if (rows is not None and len(weight) != rows) or not len(weight):
            raise FieldFileError(
                f"{self.where}: `{short(name)}`: expected {rows or 'some'} rows, received "
                f"{len(weight)}"
            )
        return weight, bias

    def tensor(self, key: str, dimensions: int) -> Tensor:
        """One tensor as float32.

        Raises:
            FieldFileError: Not there, of other dimensions, or no finite numbers.
        """
        if key not in self.state:
            raise FieldFileError(f"{self.where}: {self.missing(key)}")
        self.left.discard(key)
        tensor = self.state[key]
        if tensor.ndim != dimensions or not tensor.is_floating_point() or not tensor.numel():
            whole = not tensor.is_floating_point() and not tensor.is_complex()
            raise FieldFileError(
                f"{self.where}: `{short(key)}`: expected {dimensions} dimensions of real numbers, "
                f"received {tuple(tensor.shape)} of {tensor.dtype}"
                + ("; quantised weights mean nothing without their scales: save them as floats"
                   if whole and tensor.ndim == dimensions else "")
            )  # fmt: skip
        values = tensor.float()
        if not values.isfinite().all():
            raise FieldFileError(f"{self.where}: `{short(key)}`: holds NaN or infinity")
        return values

    def missing(self, key: str) -> str:
        """Why a tensor is not there."""
        if (thing := self.unread.get(key)) is not None:
            why = f" ({thing.reason})" if thing.reason else ""
            return f"`{short(key)}` is a `{thing.kind}`, not a plain tensor{why}"
        layer = key.rpartition(".")[0]
        beside = sorted(name for name in self.state if name.startswith(f"{layer}."))
        there = ", ".join(f"`{short(name)}`" for name in beside[:4])
        return f"tensor `{short(key)}` is missing" + (f"; {there} is there" if there else "")

    def columns(self, name: str, weight: Tensor, *expected: int) -> int:
        """Columns of a weight, one of those expected."""
        if weight.shape[1] not in expected:
            raise FieldFileError(
                f"{self.where}: `{short(name)}.weight`: reads {weight.shape[1]} values, expected "
                f"{' or '.join(map(str, dict.fromkeys(expected)))}"
            )
        return weight.shape[1]

    def encoding(self, name: str, features: int, order: EncodingOrder) -> tuple[int, bool]:
        """Frequencies of an encoding of three coordinates, and whether it has them bare."""
        frequencies, rest = divmod(features, 6)
        if features < 3 or rest not in (0, 3):
            raise FieldFileError(
                f"{self.where}: `{short(name)}.weight`: reads {features} features of three "
                "coordinates, expected 6 L or 6 L + 3 for L frequencies; other encodings are not "
                "known"
            )
        if order.input and (order.input == "absent") == (rest == 3):
            raise FieldFileError(
                f"{self.where}: `{short(name)}.weight`: reads {features} features, which is "
                f"{'with' if rest else 'without'} the bare coordinates; `input: {order.input}` "
                "says otherwise"
            )
        return frequencies, rest == 3


def is_transposed(state: State, names: LayerNames, first: str) -> bool:
    """Whether weights are (columns, rows): said, or seen by the first layer and its bias."""
    if names.transposed is not None:
        return names.transposed
    weight, bias = state.get(f"{layer_of(first)}.weight"), state.get(f"{layer_of(first)}.bias")
    if weight is None or bias is None or weight.ndim != 2 or bias.ndim != 1:
        return False
    return weight.shape[0] != len(bias) and weight.shape[1] == len(bias)


def converted(
    state: State,
    names: LayerNames,
    aabb: Tensor,
    where: str,
    unread: Mapping[str, PickledObject] | None = None,
) -> ClassicNerf:
    """The network of the code base as a field of ours.

    Args:
        state: Tensors of one net by name.
        names: Names and departures of the code base.
        aabb: (2, 3), box outside which the field is empty, scene units.
        where: What messages call the file.
        unread: Objects that stand where tensors were expected.

    Raises:
        FieldFileError: A layer is missing, of a shape that does not fit, or of no known use.
    """
    trunk = names.layers(names.trunk, state)
    if len(trunk) < 1:
        raise FieldFileError(f"{where}: no trunk layer of {names.name} is there")
    reader = Reader(state, where, is_transposed(state, names, trunk[0]), unread)
    params: dict[str, Tensor] = {}
    first, bias = reader.layer(trunk[0])
    width, inputs = first.shape
    order = names.positions
    frequencies, include_input = reader.encoding(trunk[0], inputs, order)
    params["layers.0.weight"] = order.taken(first, frequencies, include_input)
    params["layers.0.bias"] = bias
    skips = []
    for index, name in enumerate(trunk[1:], 1):
        weight, bias = reader.layer(name, width)
        if reader.columns(name, weight, width, width + inputs) > width:
            skips.append(index)
            seen, hidden = (
                (weight[:, width:], weight[:, :width]) if names.hidden_first
                else (weight[:, :inputs], weight[:, inputs:])
            )  # fmt: skip
            weight = torch.cat([order.taken(seen, frequencies, include_input), hidden], 1)
        params[f"layers.{index}.weight"], params[f"layers.{index}.bias"] = weight, bias
    view = read_heads(reader, names, width, params)
    if reader.left:
        raise FieldFileError(
            f"{where}: `{short(min(reader.left))}` is of no layer that {names.name} has; what it "
            "does is not known, so the field cannot be taken over; if the network does not need "
            f"it, say `ignore: [{short(min(reader.left))}]` in a YAML file, --layers"
        )
    config = ClassicNerfConfig(
        width=width, depth=len(trunk), frequencies=frequencies, skips=tuple(skips),
        include_input=include_input, octave_steps=names.octave_steps,
        first_activation=names.first_activation, feature_activation=names.feature_activation,
        density_from_feature=names.density_from_feature, position_factor=order.factor,
        density_activation=names.density_activation, **view,
    )  # fmt: skip
    field = ClassicNerf(config, aabb)
    field.load_state_dict(params | {"aabb": field.aabb})
    return field.eval()


def read_heads(
    reader: Reader, names: LayerNames, width: int, params: dict[str, Tensor]
) -> dict[str, Any]:
    """What lies above the trunk; adds to `params`, and returns what the config says of it."""
    both = layer_of(names.both)
    if both and {f"{both}.weight", f"{both}.kernel"} & reader.state.keys():
        return read_plain_heads(reader, names, width, params)
    density, bias = reader.layer(names.density, 1)
    reader.columns(names.density, density, width)
    params["density_head.weight"], params["density_head.bias"] = density, bias
    view = names.layers(names.view, reader.state)
    if not view:
        weight, bias = reader.layer(names.colour, 3)
        reader.columns(names.colour, weight, width)
        params["colour_head.weight"], params["colour_head.bias"] = weight, bias
        return {"view_width": 0}
    if names.feature:
        feature, bias = reader.layer(names.feature, width)
        reader.columns(names.feature, feature, width)
    else:  # the view branch reads the trunk itself
        feature, bias = torch.eye(width), torch.zeros(width)
    params["feature.weight"], params["feature.bias"] = feature, bias
    return read_view_branch(reader, names, view, width, params)


def read_view_branch(
    reader: Reader, names: LayerNames, view: list[str], width: int, params: dict[str, Tensor]
) -> dict[str, Any]:
    """The layers that join feature and direction, and the colour; as `read_heads`."""
    weight, bias = reader.layer(view[0])
    view_width, columns = weight.shape
    order = names.direction_order
    inputs = columns - width
    frequencies, include_direction = reader.encoding(view[0], inputs, order)
    seen, feature = (
        (weight[:, :inputs], weight[:, inputs:]) if names.direction_first
        else (weight[:, width:], weight[:, :width])
    )  # fmt: skip
    weight = torch.cat([feature, order.taken(seen, frequencies, include_direction)], 1)
    params["view_layers.0.weight"], params["view_layers.0.bias"] = weight, bias
    for index, name in enumerate(view[1:], 1):
        weight, bias = reader.layer(name, view_width)
        reader.columns(name, weight, view_width)
        params[f"view_layers.{index}.weight"], params[f"view_layers.{index}.bias"] = weight, bias
    weight, bias = reader.layer(names.colour, 3)
    reader.columns(names.colour, weight, view_width)
    params["colour_head.weight"], params["colour_head.bias"] = weight, bias
    return {
        "view_width": view_width, "view_depth": len(view), "direction_factor": order.factor,
        "direction_frequencies": frequencies, "include_direction": include_direction,
    }  # fmt: skip


def read_plain_heads(
    reader: Reader, names: LayerNames, width: int, params: dict[str, Tensor]
) -> dict[str, Any]:
    """One layer that gives rgb, density and maybe more that nobody reads; no view branch."""
    weight, bias = reader.layer(names.both)
    reader.columns(names.both, weight, width)
    if len(weight) not in (4, 5):
        raise FieldFileError(
            f"{reader.where}: `{names.both}.weight`: expected 4 or 5 rows, received {len(weight)}"
        )
    params["colour_head.weight"], params["colour_head.bias"] = weight[:3], bias[:3]
    params["density_head.weight"], params["density_head.bias"] = weight[3:4], bias[3:4]
    # Some networks have the branch and do not use it.
    for name in (names.density, names.colour, names.feature,
                 *names.layers(names.view, reader.state)):  # fmt: skip
        reader.left -= {f"{layer_of(name)}.{part}" for part in ("weight", "kernel", "bias")}
    return {"view_width": 0}
