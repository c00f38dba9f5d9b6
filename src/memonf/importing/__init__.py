"""Fields trained elsewhere: NeRF checkpoints of the common code bases, never run as code."""

from __future__ import annotations

from pathlib import Path

import yaml

from ..errors import FieldFileError, InputError
from ..fields import Field
from ..typing import Float, PathLike, Tensor
from .containers import ENDINGS, read_arrays, read_checkpoint
from .convert import converted, named_keras, net_of
from .layer_names import CODE_BASES, YENCHENLIN, LayerNames, code_base_of, named_by_hand

__all__ = ["import_field", "read_layers"]

#: Bytes of a YAML file that names layers.
MOST_YAML = 1 << 16


def import_field(
    path: PathLike,
    aabb: Float[Tensor, "2 3"],
    *,
    net: str = "fine",
    layers: LayerNames | None = None,
    octave_steps: bool = True,
) -> Field:
    """Take over a stranger's network; its record is left to the caller.

    Args:
        path: Checkpoint (``.ckpt``, ``.tar``, ``.pt``, ``.pth``, ``.safetensors``, ``.npy``).
        aabb: (2, 3), box outside which the field is taken to be empty, in the units it was trained
            in.
        net: ``fine`` or ``coarse``, where there are both.
        layers: Names of the layers, for code bases that are not known; see `read_layers`.
        octave_steps: Whether frequencies of the encodings double.

    Raises:
        FieldFileError: It cannot be read as data alone, or cannot be taken over; the message names
            the tensor.
    """
    file = Path(path)
    if net not in ("fine", "coarse"):
        raise InputError(f"net: expected fine or coarse, received `{net}`")
    if file.suffix.lower() == ".npy":
        state = named_keras(read_arrays(file), str(file))
        return converted(state, layers or YENCHENLIN, aabb, str(file), octave_steps=octave_steps)
    if file.suffix.lower() not in ENDINGS:
        raise InputError(f"{file}: expected a name that ends in {', '.join((*ENDINGS, '.npy'))}")
    state = net_of(read_checkpoint(file), CODE_BASES, net)
    names = layers or code_base_of(state)
    if names is None:
        some = ", ".join(f"`{name}`" for name in list(state)[:4]) or "no tensor at all"
        raise FieldFileError(
            f"{file}: its layers ({some}) are of no code base that is known "
            f"({', '.join(names.name for names in CODE_BASES)}); name them in a file, --layers"
        )
    return converted(state, names, aabb, str(file), octave_steps=octave_steps)


def read_layers(path: PathLike) -> LayerNames:
    """Read a YAML file that names the layers of a network.

    Keys: ``trunk`` (list), ``density`` and ``colour``, or ``both``; ``feature`` and ``view`` (list)
    for a view branch; true or false: ``hidden_first``, ``first_activation``,
    ``feature_activation``, ``density_from_feature``, see `memonf.fields.classic_nerf`.

    Raises:
        InputError: Not there, no YAML, unknown keys.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MOST_YAML:
            raise InputError(f"{file}: too long to name a network's layers")
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from None
    return named_by_hand(values, str(file))
