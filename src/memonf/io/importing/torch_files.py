"""PyTorch's files as data: the zip archives of today, the streams of before, plain pickles.

`torch.load` is not used: with ``weights_only`` it refuses checkpoints that carry a NumPy scalar or
the run's options beside their tensors, and without it it runs what is in them. Here the pickle is
followed by `memonf.utils.safe_unpickle`, tensors are views of the file's storages, and no view
reaches beyond its storage.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...typing import Tensor
from ...utils.safe_unpickle import BUILDERS, Builder, Name, Stream, unpickle

__all__ = ["OtherArchive", "is_legacy", "read_legacy", "read_plain", "read_zip"]

#: What a stream of before begins with, and the version that follows.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
#: Axes of a tensor.
MOST_AXES = 16
#: Streams within a pickle within a stream: a plain pickle holds one for each storage.
DEEPEST = 2

#: Storage class -> type of its numbers; bools and quantised numbers as the integers they are.
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.uint8, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128, "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32, "UntypedStorage": torch.uint8,
}  # fmt: skip
#: Types that tensors name themselves.
TYPES = {
    name: getattr(torch, name)
    for name in (
        "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64",
        "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64",
    )
    if hasattr(torch, name)
}  # fmt: skip


class OtherArchive(Exception):  # noqa: N818 - an answer to the one caller
    """A zip archive that PyTorch did not write."""


@dataclass(frozen=True)
class Storage:
    """The numbers that tensors are views of.

    Attributes:
        values: (numbers,), flat.
    """

    values: Tensor


def tensor_of(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage.

    Raises:
        ValueError: It reaches beyond its storage, or repeats it.
    """
    if not isinstance(storage, Storage):
        raise ValueError("a tensor whose numbers are not in the file")
    return view_of(storage.values, offset, size, stride)


def view_of(values: Tensor, offset: Any, size: Any, stride: Any) -> Tensor:
    """See `tensor_of`; values are flat."""
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
        raise ValueError("a tensor whose size and stride are not alike")
    numbers = (offset, *size, *stride)
    if len(size) > MOST_AXES or not all(type(value) is int and value >= 0 for value in numbers):
        raise ValueError("a tensor whose size and stride are no lengths")
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and (last >= len(values) or count > len(values)):
        raise ValueError(f"a tensor of {count} numbers that reaches beyond its storage")
    return torch.as_strided(values, size, stride, offset)


def typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any
) -> Tensor:
    """A view of a storage of bytes, by the type that the tensor names."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor whose numbers are not in the file")
    return view_of(storage.values.view(type_of(kind)), offset, size, stride)


def type_of(kind: Any) -> torch.dtype:
    """``torch.float32`` by its name."""
    if not isinstance(kind, Name) or kind.module != "torch" or kind.name not in TYPES:
        raise ValueError(f"numbers of kind {kind}")
    return TYPES[kind.name]


def quantised_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, how: Any, *_: Any
) -> Tensor:
    """The real numbers that quantised ones stand for, if one scale serves all of them."""
    if how[0] != Name("torch", "per_tensor_affine"):
        raise ValueError(f"a quantised tensor of scheme {how[0]}")
    _, scale, zero = how
    return (tensor_of(storage, offset, size, stride).float() - float(zero)) * float(scale)


def parameter(data: Any, *_: Any) -> Any:
    """A parameter is its tensor."""
    if not isinstance(data, Tensor):
        raise ValueError("a parameter without its tensor")
    return data


def tensor_of_array(array: Any, kind: Any = None, *_: Any) -> Tensor:
    """A tensor that another device wrote as an array, or as a tensor of this one."""
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
    return tensor if kind is None else tensor.to(type_of(kind))


def of_subclass(function: Any, _type: Any, args: Any, *_: Any) -> Any:
    """A tensor with attributes: the tensor."""
    if not isinstance(function, Name) or not isinstance(args, tuple):
        raise ValueError("a tensor of an unknown class")
    return TENSORS[function.module, function.name](*args)


TENSORS: Mapping[tuple[str, str], Builder] = {
    ("torch._utils", "_rebuild_tensor"): tensor_of,
    ("torch._utils", "_rebuild_tensor_v2"): tensor_of,
    ("torch._utils", "_rebuild_tensor_v3"): typed_tensor,
    ("torch._utils", "_rebuild_qtensor"): quantised_tensor,
    ("torch._utils", "_rebuild_parameter"): parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): parameter,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): tensor_of_array,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): tensor_of_array,
    ("torch._utils", "_rebuild_xla_tensor"): tensor_of_array,
    ("torch.nn.parameter", "Parameter"): parameter,
}
#: All that is built of a file of PyTorch; jit archives call the first by another name.
KNOWN: Mapping[tuple[str, str], Builder] = {
    **BUILDERS,
    **TENSORS,
    ("torch._tensor", "_rebuild_from_type_v2"): of_subclass,
    ("torch._tensor", "_rebuild_from_type"): of_subclass,
    ("torch", "Size"): lambda lengths=(): tuple(lengths),
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("torch.jit._pickle", "restore_type_tag"): lambda value, _tag: value,
    **{("torch.jit._pickle", f"build_{kind}list"): list
       for kind in ("int", "tensor", "double", "bool")},
}  # fmt: skip


def storage_type(kind: Any) -> torch.dtype:
    """Type of a storage by the name of its class."""
    name = kind.name.removeprefix("_") if isinstance(kind, Name) else ""
    if name not in STORAGES:
        raise ValueError(f"a storage of class {kind}")
    return STORAGES[name]


def numbers_of(content: bytes | memoryview, kind: torch.dtype, *, swapped: bool) -> Tensor:
    """The numbers in raw bytes, a copy; the other byte order is turned round."""
    size = kind.itemsize
    whole = np.frombuffer(content, np.uint8, len(content) // size * size).copy()
    if swapped and size > 1:
        part = size // 2 if kind.is_complex else size
        whole = np.ascontiguousarray(whole.reshape(-1, part)[:, ::-1]).reshape(-1)
    return torch.from_numpy(whole).view(kind) if len(whole) else torch.empty(0, dtype=kind)


def read_zip(path: Path) -> Any:
    """Content of an archive of `torch.save`, or of a traced module.

    Raises:
        OtherArchive: It is a zip archive of something else.
        Exception: Broken; see `memonf.errors.decoding`.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if f"/{name}".endswith("/data.pkl")]
        if not names:
            raise OtherArchive
        root = min(names, key=len).removesuffix("data.pkl")
        length = path.stat().st_size
        swapped = stored(archive, f"{root}byteorder", length, b"little").strip() == b"big"
        storages: dict[str, Storage] = {}
        taken = 0

        def persistent(ident: Any) -> Storage:
            nonlocal taken
            kind, key, count = fields_of(ident)
            if key not in storages:
                content = stored(archive, f"{root}data/{key}", length - taken)
                taken += len(content)
                if count * kind.itemsize > len(content):
                    raise pickle.UnpicklingError(f"storage {key} is shorter than it says")
                storages[key] = Storage(numbers_of(content, kind, swapped=swapped))
            values = storages[key].values
            return storages[key] if values.dtype == kind else Storage(values.view(kind))

        return unpickle(BytesIO(stored(archive, f"{root}data.pkl", length)), KNOWN, persistent)


def stored(archive: zipfile.ZipFile, name: str, most: int, default: bytes | None = None) -> bytes:
    """An entry of an archive; PyTorch compresses none of those that are read here."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        if default is not None:
            return default
        raise pickle.UnpicklingError(f"its entry `{name}` is missing") from None
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most:
        raise pickle.UnpicklingError(
            f"its entry `{name}` claims {entry.file_size} bytes in a file of {most}; PyTorch does "
            "not compress: it is no checkpoint"
        )
    return archive.read(entry)


def fields_of(ident: Any) -> tuple[torch.dtype, str, int]:
    """Type, key and number of elements of a storage.

    Raises:
        pickle.UnpicklingError: It is no storage.
    """
    if not isinstance(ident, tuple) or len(ident) < 5 or ident[0] != "storage":
        raise pickle.UnpicklingError("a persistent id that is no storage")
    _, kind, key, _, count = ident[:5]
    if type(count) is not int or count < 0 or not isinstance(key, (str, int)):
        raise pickle.UnpicklingError("a storage without a length")
    return storage_type(kind), str(key), count


def is_legacy(head: bytes) -> bool:
    """Whether a file begins as PyTorch's streams did before 1.6."""
    try:
        return unpickle(BytesIO(head[:64])) == MAGIC
    except Exception:
        return False


def read_legacy(stream: Stream, length: int, depth: int = 0) -> Any:
    """Content of a stream of `torch.save` before 1.6.

    Args:
        stream: See `memonf.utils.safe_unpickle.unpickle`.
        length: Bytes of it.
        depth: Streams that this one is in.

    Raises:
        Exception: Broken; see `memonf.errors.decoding`.
    """
    if unpickle(stream) != MAGIC or unpickle(stream) != PROTOCOL:
        raise pickle.UnpicklingError("not a stream of PyTorch")
    machine = unpickle(stream)
    swapped = isinstance(machine, dict) and machine.get("little_endian") is False
    storages: dict[str, Storage] = {}
    taken = 0

    def persistent(ident: Any) -> Any:
        nonlocal taken
        if isinstance(ident, tuple) and len(ident) > 1 and ident[0] == "module":
            return ident[1]  # a class with its source code, which nobody runs
        kind, key, count = fields_of(ident)
        view = ident[5] if len(ident) > 5 else None
        if key not in storages:
            taken += count * kind.itemsize
            if taken > length:
                raise pickle.UnpicklingError("storages that are longer than the file")
            storages[key] = Storage(torch.zeros(count, dtype=kind))
        if view is None:
            return storages[key]
        _, offset, size = view
        return Storage(view_of(storages[key].values, offset, (size,), (1,)))

    content = unpickle(stream, {**KNOWN, **within(depth)}, persistent)
    keys = unpickle(stream)
    for key in keys if isinstance(keys, list) else []:
        values = storages[str(key)].values if str(key) in storages else torch.empty(0)
        (count,) = struct.unpack(">q" if swapped else "<q", stream.read(8))
        raw = stream.read(count * values.dtype.itemsize)
        if count != len(values) or len(raw) != values.nbytes:
            raise pickle.UnpicklingError(f"storage {key} is shorter than it says")
        values.copy_(numbers_of(raw, values.dtype, swapped=swapped))
    return content


def within(depth: int) -> dict[tuple[str, str], Builder]:
    """Builders of storages that are streams of their own, as plain pickles hold them."""

    def load(content: Any) -> Storage:
        if depth >= DEEPEST or not isinstance(content, bytes):
            raise ValueError("a storage that is no stream")
        storage = read_legacy(BytesIO(content), len(content), depth + 1)
        if not isinstance(storage, Storage):
            raise ValueError("an invalid storage")
        return storage

    return {("torch.storage", "_load_from_bytes"): load}


def read_plain(stream: Stream) -> Any:
    """Content of a plain pickle: arrays, and tensors as `pickle.dump` writes them.

    Raises:
        Exception: Broken; see `memonf.errors.decoding`.
    """
    return unpickle(stream, {**KNOWN, **within(0)})
