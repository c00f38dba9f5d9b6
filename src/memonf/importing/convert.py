"""From a stranger's named tensors to a `classic_nerf`: its shape is read off the params alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import FieldFileError
from ..fields.classic_nerf import ClassicNerf, ClassicNerfConfig
from ..typing import Tensor
from .layer_names import LayerNames, State

__all__ = ["converted", "named_keras", "net_of"]

#: Names that the Keras list of arrays is given: those of the PyTorch port.
KERAS_TAIL = ("feature_linear", "views_linears.0", "rgb_linear", "alpha_linear")


def net_of(
    content: Mapping[str, Any], code_bases: Sequence[LayerNames], net: str
) -> dict[str, Tensor]:
    """The tensors of one net of a checkpoint.

    Args:
        content: The checkpoint.
        code_bases: Code bases that say where nets are kept.
        net: ``fine`` or ``coarse``; a checkpoint that has one net alone gives that.

    Returns:
        Name -> tensor; empty if there is no net of any known name.
    """
    content = unwrapped(content)
    for names in code_bases:
        for name in (names.nets.get(net, ""), names.nets.get("coarse", "")):
            if isinstance(content.get(name), Mapping):
                return tensors(content[name])
            if name.endswith("."):
                found = {key: value for key, value in content.items() if key.startswith(name)}
                if found:
                    return tensors({key.removeprefix(name): found[key] for key in found})
    return tensors(content)


def unwrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the mapping that some trainers put around the state."""
    for key in ("state_dict", "model_state_dict", "model", "network"):
        if isinstance(content.get(key), Mapping):
            return content[key]
    return content


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors alone, without the prefix of a network that ran on several devices."""
    found = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if found and all(key.startswith("module.") for key in found):
        return {key.removeprefix("module."): value for key, value in found.items()}
    return found


def named_keras(arrays: Sequence[Tensor], where: str) -> dict[str, Tensor]:
    """Names for the arrays of bmild/nerf, in the order in which Keras lists them.

    Kernel and bias by turns: of the trunk's layers, then of feature, view layer, colour and
    density; of the one output layer where there is no view branch.

    Raises:
        FieldFileError: Another number of arrays, or no kernels and biases by turns.
    """
    pairs = list(zip(arrays[::2], arrays[1::2], strict=False))
    fits = len(arrays) % 2 == 0 and len(pairs) > 1
    if not fits or any(kernel.ndim != 2 or bias.ndim != 1 for kernel, bias in pairs):
        raise FieldFileError(
            f"{where}: expected kernels and biases by turns, received {len(arrays)} arrays"
        )
    plain = pairs[-1][1].shape[0] in (4, 5)
    tail = ("output_linear",) if plain else KERAS_TAIL
    depth = len(pairs) - len(tail)
    names = [*(f"pts_linears.{index}" for index in range(depth)), *tail]
    found = {}
    for name, (kernel, bias) in zip(names, pairs, strict=True):
        found[f"{name}.weight"], found[f"{name}.bias"] = kernel.T.contiguous(), bias
    return found


class Reader:
    """Takes layers out of a state and knows which tensors nobody took."""

    def __init__(self, state: State, where: str) -> None:
        self.state, self.where = state, where
        self.left = set(state)

    def layer(self, name: str, rows: int | None = None) -> tuple[Tensor, Tensor]:
        """Weight (rows, columns) and bias (rows,) of a layer.

        Raises:
            FieldFileError: Not there, or of another shape.
        """
        found = []
        for part, dimensions in (("weight", 2), ("bias", 1)):
            key = f"{name}.{part}"
            if key not in self.state:
                raise FieldFileError(f"{self.where}: tensor `{key}` is missing")
            self.left.discard(key)
            tensor = self.state[key]
            if tensor.ndim != dimensions or not tensor.is_floating_point() or not tensor.numel():
                raise FieldFileError(
                    f"{self.where}: `{key}`: expected {dimensions} dimensions of real numbers, "
                    f"received {tuple(tensor.shape)} of {tensor.dtype}"
                )
            if not tensor.isfinite().all():
                raise FieldFileError(f"{self.where}: `{key}`: holds NaN or infinity")
            if rows is not None and len(tensor) != rows:
                raise FieldFileError(
                    f"{self.where}: `{key}`: expected {rows} rows, received {len(tensor)}"
                )
            found.append(tensor.float())
        weight, bias = found
        if len(weight) != len(bias):
            raise FieldFileError(f"{self.where}: `{name}`: weight and bias differ in rows")
        return weight, bias

    def columns(self, name: str, weight: Tensor, *expected: int) -> int:
        """Columns of a weight, one of those expected."""
        if weight.shape[1] not in expected:
            raise FieldFileError(
                f"{self.where}: `{name}.weight`: reads {weight.shape[1]} values, expected "
                f"{' or '.join(map(str, dict.fromkeys(expected)))}"
            )
        return weight.shape[1]

    def encoding(self, name: str, features: int) -> tuple[int, bool]:
        """Frequencies of an encoding of three coordinates, and whether it starts with them."""
        frequencies, rest = divmod(features, 6)
        if features < 3 or rest not in (0, 3):
            raise FieldFileError(
                f"{self.where}: `{name}.weight`: reads {features} features of three coordinates, "
                "expected 6 L or 6 L + 3 for L frequencies; other encodings are not known"
            )
        return frequencies, rest == 3


def encoded_order(frequencies: int, include_input: bool) -> list[int]:
    """Column of the other code bases for each of `memonf.encodings`.

    Theirs go from frequency to frequency (sines of x, y, z, then cosines), ours keep the
    frequencies of a coordinate side by side, all sines before all cosines.
    """
    first = 3 * include_input
    return [*range(first), *(
        first + 6 * octave + 3 * wave + axis
        for wave in range(2) for axis in range(3) for octave in range(frequencies)
    )]  # fmt: skip


def converted(
    state: State, names: LayerNames, aabb: Tensor, where: str, *, octave_steps: bool = True
) -> ClassicNerf:
    """The network of the code base as a field of ours.

    Args:
        state: Tensors of one net by name.
        names: Names and departures of the code base.
        aabb: (2, 3), box outside which the field is empty, scene units.
        where: What messages call the file.
        octave_steps: Whether frequencies double; params do not say it.

    Raises:
        FieldFileError: A layer is missing, of a shape that does not fit, or of no known use.
    """
    reader = Reader(state, where)
    trunk = names.layers(names.trunk, state)
    if len(trunk) < 1:
        raise FieldFileError(f"{where}: no trunk layer of {names.name} is there")
    params: dict[str, Tensor] = {}
    first, bias = reader.layer(trunk[0])
    width, inputs = first.shape
    frequencies, include_input = reader.encoding(trunk[0], inputs)
    order = encoded_order(frequencies, include_input)
    params["layers.0.weight"], params["layers.0.bias"] = first[:, order], bias
    skips = []
    for index, name in enumerate(trunk[1:], 1):
        weight, bias = reader.layer(name, width)
        if reader.columns(name, weight, width, width + inputs) > width:
            skips.append(index)
            seen, hidden = (
                (weight[:, width:], weight[:, :width]) if names.hidden_first
                else (weight[:, :inputs], weight[:, inputs:])
            )  # fmt: skip
            weight = torch.cat([seen[:, order], hidden], 1)
        params[f"layers.{index}.weight"], params[f"layers.{index}.bias"] = weight, bias
    view = read_heads(reader, names, width, params)
    if reader.left:
        raise FieldFileError(
            f"{where}: `{min(reader.left)}` is of no layer that {names.name} has; what it does is "
            "not known, so the field cannot be taken over"
        )
    config = ClassicNerfConfig(
        width=width, depth=len(trunk), frequencies=frequencies, skips=tuple(skips),
        include_input=include_input, octave_steps=octave_steps,
        first_activation=names.first_activation, feature_activation=names.feature_activation,
        density_from_feature=names.density_from_feature, **view,
    )  # fmt: skip
    field = ClassicNerf(config, aabb)
    field.load_state_dict(params | {"aabb": field.aabb})
    return field.eval()


def read_heads(
    reader: Reader, names: LayerNames, width: int, params: dict[str, Tensor]
) -> dict[str, Any]:
    """What lies above the trunk; adds to `params`, and returns what the config says of it."""
    if names.both and f"{names.both}.weight" in reader.state:
        return read_plain_heads(reader, names, width, params)
    density, bias = reader.layer(names.density, 1)
    reader.columns(names.density, density, width)
    params["density_head.weight"], params["density_head.bias"] = density, bias
    view = names.layers(names.view, reader.state)
    if not names.feature or not view:
        weight, bias = reader.layer(names.colour, 3)
        reader.columns(names.colour, weight, width)
        params["colour_head.weight"], params["colour_head.bias"] = weight, bias
        return {"view_width": 0}
    feature, bias = reader.layer(names.feature, width)
    reader.columns(names.feature, feature, width)
    params["feature.weight"], params["feature.bias"] = feature, bias
    weight, bias = reader.layer(view[0])
    view_width, columns = weight.shape
    frequencies, include_direction = reader.encoding(view[0], columns - width)
    order = encoded_order(frequencies, include_direction)
    weight = torch.cat([weight[:, :width], weight[:, width:][:, order]], 1)
    params["view_layers.0.weight"], params["view_layers.0.bias"] = weight, bias
    for index, name in enumerate(view[1:], 1):
        weight, bias = reader.layer(name, view_width)
        reader.columns(name, weight, view_width)
        params[f"view_layers.{index}.weight"], params[f"view_layers.{index}.bias"] = weight, bias
    weight, bias = reader.layer(names.colour, 3)
    reader.columns(names.colour, weight, view_width)
    params["colour_head.weight"], params["colour_head.bias"] = weight, bias
    return {
        "view_width": view_width, "view_depth": len(view),
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
        reader.left -= {f"{name}.weight", f"{name}.bias"}
    return {"view_width": 0}
