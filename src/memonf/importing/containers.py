"""Tensors out of files that strangers made, without running anything that is in them.

PyTorch checkpoints (``.ckpt``, ``.tar``, ``.pt``, ``.pth``) are read by ``torch.load`` with
``weights_only``; ``.safetensors`` hold nothing else; ``.npy`` lists of arrays, which NumPy pickles,
by an unpickler that knows how to build arrays and refuses every other name.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ..array_pickles import load_arrays
from ..errors import FieldFileError, decoding
from ..typing import Tensor

__all__ = ["read_arrays", "read_checkpoint"]

#: Larger than any network of a single scene, optimiser included.
MOST_BYTES = 4 << 30
ENDINGS = (".ckpt", ".tar", ".pt", ".pth", ".safetensors")
#: A list of arrays is nested so deep at most.
DEEPEST = 4


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Content of a checkpoint: nested mappings, tensors, numbers and texts, on the CPU.

    Raises:
        FieldFileError: Not there, too large, broken, or it asks for code.
    """
    check_file(path)
    if path.suffix.lower() == ".safetensors":
        with decoding(f"{path}: cannot be read", FieldFileError):
            return load_file(path)
    check_archive(path)
    with decoding(f"{path}: cannot be read as a PyTorch checkpoint", FieldFileError):
        content = load_plain(path)
    if not isinstance(content, Mapping):
        raise FieldFileError(f"{path}: expected a mapping, received {type(content).__name__}")
    return content


def load_plain(path: Path) -> Any:
    """What `torch.load` reads without running code; a file that asks for code is refused."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"unsupported global:? (?:GLOBAL )?(\S+)", str(error), re.IGNORECASE)
        why = f"it asks for `{asked[1]}`, which is code" if asked else "it is not plain data"
        raise FieldFileError(
            f"{path}: {why}; nothing was run. Save the state_dict alone where it comes from: "
            "torch.save(model.state_dict(), ...)"
        ) from None


def check_file(path: Path) -> None:
    """Refuse what is no ordinary file of a sensible size."""
    try:
        if not path.is_file():
            raise FieldFileError(f"{path}: there is no such file")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise FieldFileError(f"{path}: {size >> 20} MiB; no network of one scene is so large")
    except OSError as error:
        raise FieldFileError(f"{path}: cannot be read: {error.strerror or error}") from None


def check_archive(path: Path) -> None:
    """Refuse archives whose entries unpack to more than the file holds: torch packs none."""
    with decoding(f"{path}: a broken archive", FieldFileError):
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    if total > path.stat().st_size:
        raise FieldFileError(
            f"{path}: claims {total} bytes in a file of {path.stat().st_size}; PyTorch does not "
            "compress: it is no checkpoint"
        )


def read_arrays(path: Path) -> list[Tensor]:
    """The arrays of an ``.npy`` file in their order, float32.

    Raises:
        FieldFileError: Not there, too large, broken, or it asks for more than arrays.
    """
    check_file(path)
    content = path.read_bytes()
    stream = BytesIO(content)
    with decoding(f"{path}: cannot be read as a list of arrays", FieldFileError):
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        _, _, dtype = read_header(stream)
        if not dtype.hasobject:
            stream.seek(0)
            return [as_tensor(np.load(stream, allow_pickle=False))]
        return [as_tensor(array) for array in flat(load_arrays(stream))]


def as_tensor(array: np.ndarray) -> Tensor:
    """A float32 copy."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"expected arrays of numbers, received {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=np.float32))


def flat(found: Any, depth: int = 0) -> list[np.ndarray]:
    """The arrays of numbers in nested lists and arrays of objects, in their order."""
    if isinstance(found, np.ndarray) and found.dtype != object:
        return [found]
    if depth == DEEPEST or not isinstance(found, (list, tuple, np.ndarray)):
        raise ValueError(f"expected arrays of numbers, received {type(found).__name__}")
    return [array for part in found for array in flat(part, depth + 1)]
