"""Fields trained elsewhere: NeRF checkpoints of the common code bases, never run as code."""

from __future__ import annotations

from pathlib import Path

import yaml

from ...errors import InputError
from ...fields import Field
from ...typing import Float, PathLike, Tensor
from .containers import read_content
from .layer_names import CODE_BASES, Hints, LayerNames, read_hints
from .nets import Checkpoint, Net, find_net
from .trial import AS_SAID, Look, Reading, Verdict, try_readings

__all__ = [
    "AS_SAID",
    "CODE_BASES",
    "Hints",
    "LayerNames",
    "Look",
    "Net",
    "Reading",
    "Verdict",
    "import_field",
    "read_layers",
    "read_net",
    "try_readings",
]

#: Bytes of a YAML file that names layers.
MOST_YAML = 1 << 16


def import_field(
    path: PathLike,
    aabb: Float[Tensor, "2 3"],
    *,
    net: str = "fine",
    layers: Hints | None = None,
    octave_steps: bool = True,
) -> Field:
    """Take over another code base's network; its record is left to the caller.

    Nothing in a checkpoint says how its encoding is laid out: `try_readings` finds it by training
    views. This takes the order of the code base, or what `layers` say.

    Args:
        path: Checkpoint of PyTorch, safetensors, ``.npy``, or a pickle.
        aabb: (2, 3), box outside which the field is taken to be empty, in the units it was trained
            in.
        net: ``fine`` or ``coarse``, where there are both.
        layers: What is said of the file: names of layers, order of the encoding; see `read_layers`.
        octave_steps: Whether frequencies of the encodings double.

    Raises:
        FieldFileError: It cannot be read as data alone, or cannot be taken over; the message names
            the tensor.
    """
    return read_net(path, net=net, layers=layers, octave_steps=octave_steps).field(aabb)


def read_net(
    path: PathLike,
    *,
    net: str = "fine",
    layers: Hints | None = None,
    octave_steps: bool = True,
) -> Net:
    """The params of a network in a checkpoint, and what is known of its layers.

    Args:
        path: As `import_field` takes it, likewise the others.
        net: Likewise.
        layers: Likewise.
        octave_steps: Likewise.

    Raises:
        FieldFileError: As `import_field`.
    """
    file = Path(path)
    if net not in ("fine", "coarse"):
        raise InputError(f"net: expected fine or coarse, received `{net}`")
    checkpoint = Checkpoint.of(read_content(file), str(file))
    found = find_net(checkpoint, net, layers)
    return found if octave_steps else found.with_names(octave_steps=False)


def read_layers(path: PathLike) -> Hints:
    """Read a YAML file that says what a checkpoint does not.

    Keys: ``trunk`` (list), ``density`` and ``colour``, or ``both``; ``feature`` and ``view`` (list)
    for a view branch; true or false: ``hidden_first``, ``first_activation``,
    ``feature_activation``, ``density_from_feature``, ``direction_first``, ``transposed``, see
    `memonf.io.importing.LayerNames`; ``density_activation``; of the encoding ``order``, ``input``,
    ``cosines_first``, ``factor``, ``negated``, ``octave_steps``, and the same with ``direction_``
    before them; ``state`` and ``ignore``. Without layers it speaks of a code base that is known.

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
    return read_hints(values, str(file))
