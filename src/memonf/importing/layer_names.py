"""How code bases name the layers of a NeRF: one `LayerNames` each, told apart by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError, nearest
from ..typing import Tensor

__all__ = ["CODE_BASES", "LayerNames", "State", "code_base_of", "named_by_hand"]

State = Mapping[str, Tensor]


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
        first_activation: See `memonf.fields.classic_nerf`; likewise the next two.
        feature_activation: Likewise.
        density_from_feature: Likewise.
        nets: Where a checkpoint keeps coarse and fine net: key of the mapping, or prefix of names.
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
    nets: Mapping[str, str] = field(default_factory=dict)

    def layers(self, pattern: str | Sequence[str], state: State) -> list[str]:
        """Names of the layers of a pattern that are there, in their order."""
        if not isinstance(pattern, str):
            return list(pattern)
        numbered = {}
        for name in state:
            found = re.fullmatch(pattern + r"\.weight", name)
            if found is not None:
                numbered[-1 if found[1] is None else int(found[1])] = name.removesuffix(".weight")
        return [numbered[number] for number in sorted(numbered)]


KRRISH = LayerNames(
    "krrish94/nerf-pytorch",
    r"(?:layer1|layers_xyz\.(\d+))",
    "fc_alpha", "fc_rgb", "fc_out", "fc_feat", r"layers_dir\.(\d+)",
    hidden_first=True, first_activation=False, feature_activation=True,
    nets={"coarse": "model_coarse_state_dict", "fine": "model_fine_state_dict"},
)  # fmt: skip
YENCHENLIN = LayerNames(
    "yenchenlin/nerf-pytorch",
    r"pts_linears\.(\d+)",
    "alpha_linear", "rgb_linear", "output_linear", "feature_linear", r"views_linears\.(\d+)",
    nets={"coarse": "network_fn_state_dict", "fine": "network_fine_state_dict"},
)  # fmt: skip
NERF_PL = LayerNames(
    "kwea123/nerf_pl",
    r"xyz_encoding_(\d+)\.0",
    "sigma", "rgb.0", "", "xyz_encoding_final", r"dir_encoding\.(\d+)",
    nets={"coarse": "nerf_coarse.", "fine": "nerf_fine."},
)  # fmt: skip
CODE_BASES = (KRRISH, YENCHENLIN, NERF_PL)

#: What a YAML file that names the layers may say.
NAMED_KEYS = {
    "trunk": list, "density": str, "colour": str, "both": str, "feature": str, "view": list,
    "hidden_first": bool, "first_activation": bool, "feature_activation": bool,
    "density_from_feature": bool,
}  # fmt: skip


def code_base_of(state: State) -> LayerNames | None:
    """The code base whose names these are; None if it is none of them."""
    for names in CODE_BASES:
        if len(names.layers(names.trunk, state)) > 1:
            return names
    return None


def named_by_hand(values: Any, where: str) -> LayerNames:
    """Names of layers that a user writes down.

    Raises:
        InputError: Unknown keys, or values of another type.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a mapping with `trunk`, `density` and `colour`")
    for key, value in values.items():
        if key not in NAMED_KEYS:
            raise InputError(f"{where}: unknown key `{key}`: {nearest(str(key), NAMED_KEYS)}")
        kind = NAMED_KEYS[key]
        texts = not isinstance(value, list) or all(isinstance(name, str) for name in value)
        if not isinstance(value, kind) or not texts:
            expected = "a list of layer names" if kind is list else kind.__name__
            raise InputError(f"{where}: `{key}`: expected {expected}, received {value!r}")
    if "trunk" not in values or not ("both" in values or {"density", "colour"} <= values.keys()):
        raise InputError(f"{where}: expected `trunk`, and `density` and `colour`, or `both`")
    return LayerNames(**{"name": where, "density": "", "colour": "", **values})
