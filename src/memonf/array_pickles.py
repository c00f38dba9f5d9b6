"""Pickles of NumPy arrays in mappings and lists; anything else is refused, no code is run."""

from __future__ import annotations

import pickle
import pickletools
from typing import IO, Any

import numpy as np

__all__ = ["load_arrays"]

#: Opcodes that name a place of the memo.
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}


def load_arrays(stream: IO[bytes]) -> Any:
    """Unpickle mappings, lists, texts, numbers and arrays.

    Raises:
        pickle.UnpicklingError: It asks for anything else, which is named.
        Exception: Of any kind, where it is broken; see `memonf.errors.decoding`.
    """
    check_claims(stream)
    return ArrayUnpickler(stream, encoding="latin1").load()


def check_claims(stream: IO[bytes]) -> None:
    """Walk through the opcodes: the unpickler takes memory for what they claim before it looks.

    `pickletools` reads what an opcode claims and complains where it is not there; what remains are
    places of the memo, for which the unpickler makes a table as long as the largest.
    """
    start = stream.tell()
    length = stream.seek(0, 2) - start
    stream.seek(start)
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in PUTS and not 0 <= int(argument or 0) <= length:
            raise pickle.UnpicklingError("a memo that is longer than the file")
    stream.seek(start)


class ArrayUnpickler(pickle.Unpickler):
    """Refuses every name but those that an array is made of, before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that an array is made of."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return empty_array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return latin_bytes
        raise pickle.UnpicklingError(f"it asks for `{module}.{name}`, which is code")


def latin_bytes(text: str, encoding: str) -> bytes:
    """How old protocols write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes in another form than pickle writes them")
    return text.encode("latin1")


def empty_array(kind: type, shape: tuple[int, ...], code: bytes | str) -> np.ndarray:
    """What NumPy's pickles begin an array with; its content follows as state."""
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array that does not begin empty")
    return np.ndarray((0,), dtype="b")
