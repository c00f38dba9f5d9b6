"""How code bases name the layers of a NeRF and lay out its encodings; told apart by their names.

What a code base does not say, or does otherwise, a user writes in a YAML file: `Hints`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...errors import InputError, nearest
from ...typing import Tensor
from .orders import ORDERS, EncodingOrder

__all__ = ["CODE_BASES", "Hints", "LayerNames", "State", "layer_of", "unwrapped"]

State = Mapping[str, Tensor]

#: What wrappers put into names: several devices, torch.compile, FSDP.
WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module)\.")
#: A layer of which some rows are meant: ``head[0]``, ``head[1:4]``.
ROWS = re.compile(r"(.+)\[(-?\d*)(:?)(-?\d*)\]")


def unwrapped(name: str) -> str:
    """A name without what wrappers put into it."""
    return WRAPPERS.sub("", name)


def layer_of(name: str) -> str:
    """A layer's name without the rows that are meant of it."""
    match = ROWS.fullmatch(name)
    return unwrapped(match[1] if match is not None else name)


def rows_of(name: str) -> slice:
    """The rows of a layer that are meant: all, if the name does not say it."""
    match = ROWS.fullmatch(name)
    if match is None:
        return slice(None)
    start, end = (int(text) if text else None for text in (match[2], match[4]))
    if match[3]:
        return slice(start, end)
    assert start is not None
    return slice(start, start + 1 if start != -1 else None)


@dataclass(frozen=True)
class LayerNames:
    """Names of the layers, and where the code base departs from the paper.

    Attributes:
        name: Of the code base.
        trunk: Layers of the trunk in their order; a pattern whose group is the number, or names.
        density: Layer of the density.
        colour: Layer of the colour.
        both: Layer of colour and density together, where there is no view branch.
        feature: Layer of the feature; "" without view branch.
        view: Layers of the view branch, as `trunk`.
        hidden_first: Whether skips join (hidden, inputs); else (inputs, hidden).
        first_activation: See `memonf.fields.classic_nerf`; likewise the next three.
        feature_activation: Likewise.
        density_from_feature: Likewise.
        density_activation: Likewise.
        direction_first: Whether the view branch joins (direction, feature).
        positions: How the encoding of positions is laid out.
        directions: That of directions; None for the same.
        octave_steps: Whether frequencies double; else they are evenly spaced.
        transposed: Whether weights are (columns, rows), as JAX and Keras have them; None to see by
            their shapes.
    """

    name: str
    trunk: str | Sequence[str]
    density: str
    colour: str
    both: str = ""
    feature: str = ""
    view: str | Sequence[str] = ()
    hidden_first: bool = False
    first_activation: bool = True
    feature_activation: bool = False
    density_from_feature: bool = False
    density_activation: Literal["relu", "softplus", "exp"] = "relu"
    direction_first: bool = False
    positions: EncodingOrder = field(default_factory=EncodingOrder)
    directions: EncodingOrder | None = None
    octave_steps: bool = True
    transposed: bool | None = None

    @property
    def direction_order(self) -> EncodingOrder:
        """How the encoding of directions is laid out: by default as that of positions."""
        if self.directions is not None:
            return self.directions
        place = "" if self.positions.input == "absent" else self.positions.input
        return replace(self.positions, input=place, negated=False)

    def layers(self, pattern: str | Sequence[str], state: State) -> list[str]:
        """Names of the layers of a pattern that are there, in their order."""
        if not isinstance(pattern, str):
            return list(pattern)
        numbered = {}
        for name in state:
            found = re.fullmatch(pattern + r"\.(?:weight|kernel)", name)
            if found is not None:
                numbered[-1 if found[1] is None else int(found[1])] = name.rpartition(".")[0]
        return [numbered[number] for number in sorted(numbered)]

    def all_layers(self) -> list[str]:
        """All layers that are named, of those that are not named by a pattern."""
        lists = [names for names in (self.trunk, self.view) if not isinstance(names, str)]
        heads = (self.density, self.colour, self.both, self.feature)
        return [name for names in (*lists, heads) for name in names if name]

    def share(self, state: Container[str], prefix: str) -> int:
        """How many of the layers are there under a prefix."""
        return sum(
            f"{prefix}{layer_of(name)}.{part}" in state
            for name in self.all_layers() for part in ("weight", "kernel")
        )  # fmt: skip


KRRISH = LayerNames(
    "krrish94/nerf-pytorch",
    r"(?:layer1|layers_xyz\.(\d+))",
    "fc_alpha", "fc_rgb", "fc_out", "fc_feat", r"layers_dir\.(\d+)",
    hidden_first=True, first_activation=False, feature_activation=True,
)  # fmt: skip
YENCHENLIN = LayerNames(
    "yenchenlin/nerf-pytorch",
    r"pts_linears\.(\d+)",
    "alpha_linear", "rgb_linear", "output_linear", "feature_linear", r"views_linears\.(\d+)",
)  # fmt: skip
NERF_PL = LayerNames(
    "kwea123/nerf_pl",
    r"xyz_encoding_(\d+)\.0",
    "sigma", "rgb.0", "", "xyz_encoding_final", r"dir_encoding\.(\d+)",
)  # fmt: skip
CODE_BASES = (KRRISH, YENCHENLIN, NERF_PL)

DENSITY_ACTIVATIONS: tuple[Literal["relu", "softplus", "exp"], ...] = ("relu", "softplus", "exp")
FACTORS = {"pi": math.pi, "π": math.pi, "2pi": 2 * math.pi, "2π": 2 * math.pi}

#: What a YAML file may say: of the layers, of the encodings, and where the network is.
LAYER_KEYS: dict[str, type] = {
    "trunk": list, "density": str, "colour": str, "both": str, "feature": str, "view": list,
    "hidden_first": bool, "first_activation": bool, "feature_activation": bool,
    "density_from_feature": bool, "density_activation": str, "direction_first": bool,
    "transposed": bool,
}  # fmt: skip
ENCODING_KEYS = ("order", "input", "cosines_first", "factor", "negated")
OTHER_KEYS = (
    *ENCODING_KEYS, *(f"direction_{key}" for key in ENCODING_KEYS), "octave_steps", "state",
    "ignore",
)  # fmt: skip


@dataclass(frozen=True)
class Hints:
    """What a user says of a checkpoint in a YAML file.

    Attributes:
        where: The file.
        layers: Names of layers and departures, as `LayerNames` has them.
        positions: What is said of the encoding of positions, as `EncodingOrder` has it.
        directions: Likewise of directions.
        state: Path or prefix of the network in the checkpoint; "" to look for it.
        ignore: Tensors that belong to no layer: names, what they are in, patterns with ``*``.
    """

    where: str
    layers: Mapping[str, Any]
    positions: Mapping[str, Any] = field(default_factory=dict)
    directions: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    ignore: tuple[str, ...] = ()

    @property
    def names_layers(self) -> bool:
        """Whether the file names layers, or leaves them to a code base that is known."""
        return "trunk" in self.layers

    def names(self, code_base: LayerNames | None) -> LayerNames:
        """The layers: those of the file, or of a code base, with what the file says of them."""
        if self.names_layers:
            base = LayerNames(**{"name": self.where, "density": "", "colour": "", **self.layers})
        else:
            assert code_base is not None
            base = replace(code_base, **self.layers)
        if self.positions:
            base = replace(base, positions=EncodingOrder.named(self.positions))
        if self.directions:
            # What is said of positions holds for directions, but whether the input is there.
            same = {key: value for key, value in self.positions.items()
                    if key != "negated" and value != "absent"}  # fmt: skip
            base = replace(base, directions=EncodingOrder.named({**same, **self.directions}))
        return base


def read_hints(values: Any, where: str) -> Hints:
    """What a YAML file says of a checkpoint.

    Raises:
        InputError: Unknown keys, values of another type, or layers that are named in part.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a mapping with `trunk`, `density` and `colour`")
    layers: dict[str, Any] = {}
    encodings: dict[str, dict[str, Any]] = {"": {}, "direction_": {}}
    for key, value in values.items():
        if key in LAYER_KEYS or key == "octave_steps":
            layers[key] = checked(key, value, LAYER_KEYS.get(key, bool), where)
        elif key in OTHER_KEYS and key not in ("state", "ignore"):
            group = "direction_" if key.startswith("direction_") else ""
            encodings[group][key.removeprefix(group)] = encoding_value(key, value, where)
        elif key not in OTHER_KEYS:
            known = [*LAYER_KEYS, *OTHER_KEYS]
            raise InputError(f"{where}: unknown key `{key}`: {nearest(str(key), known)}")
    named = layers.keys() & {"trunk", "density", "colour", "both", "feature", "view"}
    heads = "both" in layers or {"density", "colour"} <= layers.keys()
    if named and not ("trunk" in layers and heads):
        raise InputError(f"{where}: expected `trunk`, and `density` and `colour`, or `both`")
    if "trunk" in layers and not layers["trunk"]:
        raise InputError(f"{where}: `trunk`: expected one layer or more, received none")
    if not values:
        raise InputError(f"{where}: says nothing; name `trunk`, `density` and `colour`")
    state = checked("state", values.get("state", ""), str, where)
    ignore = values.get("ignore", [])
    ignore = checked("ignore", [ignore] if isinstance(ignore, str) else ignore, list, where)
    activation = layers.get("density_activation", "relu")
    if activation not in DENSITY_ACTIVATIONS:
        raise InputError(
            f"{where}: `density_activation`: expected {', '.join(DENSITY_ACTIVATIONS)}, received "
            f"`{activation}`"
        )
    return Hints(where, layers, encodings[""], encodings["direction_"], state, tuple(ignore))


def checked(key: str, value: Any, kind: type, where: str) -> Any:
    """A value of a type; lists are of texts.

    Raises:
        InputError: It is of another.
    """
    texts = not isinstance(value, list) or all(isinstance(name, str) for name in value)
    if not isinstance(value, kind) or not texts:
        expected = "a list of layer names" if kind is list else {
            str: "a name", bool: "true or false"}[kind]  # fmt: skip
        raise InputError(f"{where}: `{key}`: expected {expected}, received {value!r}")
    return value


def encoding_value(key: str, value: Any, where: str) -> Any:
    """What a file says of an encoding.

    Raises:
        InputError: It is no order, place or number that is known.
    """
    name = key.removeprefix("direction_")
    if name in ("cosines_first", "negated"):
        return checked(key, value, bool, where)
    if name == "factor":
        number = FACTORS.get(str(value).replace(" ", "").replace("*", "").lower(), value)
        if not isinstance(number, (int, float)) or not 0 < number < 1e6:
            raise InputError(
                f"{where}: `{key}`: expected pi, 2pi or a number > 0, received {value!r}"
            )
        return float(number)
    if name == "input":
        if value not in ("first", "last", "each", "absent"):
            raise InputError(
                f"{where}: `{key}`: expected first, last, each or absent, received {value!r}"
            )
        return value
    text = " ".join(value) if isinstance(value, list) and all(
        isinstance(part, str) for part in value) else value  # fmt: skip
    text = ORDERS.get(text, text) if isinstance(text, str) else text
    if not isinstance(text, str) or sorted(text.split()) != ["axis", "frequency", "wave"]:
        raise InputError(
            f"{where}: `{key}`: expected {', '.join(ORDERS)}, or a list of frequency, wave and "
            f"axis from the outermost loop to the innermost, received {value!r}"
        )
    return tuple(text.split())
