"""Every error that a user can cause, in one place.

A message names the place, what was expected, what was received and what to do next, for example
``front.safetensors: `trunk.2.weight` is (256, 256), the config says (128, 128); the file is
damaged, train or copy it again``. The command line prints the message without a traceback and
exits with `exit_status`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = [
    "DataError",
    "FieldFileError",
    "InputError",
    "MemonfError",
    "MergeError",
    "OutputError",
    "TrainingError",
    "decoding",
    "nearest",
]


class MemonfError(Exception):
    """Base of all errors that MeMo NF raises on purpose."""

    exit_status = 1


class InputError(MemonfError, ValueError):
    """The caller asked for something that cannot be done as asked."""

    exit_status = 2


class DataError(InputError):
    """A data set is missing, broken or inconsistent."""


class FieldFileError(InputError):
    """A field file cannot be read as what it says it is."""


class MergeError(InputError):
    """These parents cannot be merged by this method."""


class OutputError(MemonfError):
    """A result could not be written; nothing half-written is left behind."""


class TrainingError(MemonfError):
    """Training could not reach a usable field."""


@contextmanager
def decoding(what: str, kind: type[InputError] = DataError) -> Iterator[None]:
    """Turn whatever somebody else's decoder raises on broken bytes into an error of ours.

    Decoders raise what they like when bytes lie (`fuzz/` found `TokenError`, `SystemError`,
    `NotImplementedError` and more), so that no list of classes is ever whole.

    Args:
        what: File and what it was read as, for example ``a.npy: cannot be read as an array``.
        kind: Error to raise.
    """
    try:
        yield
    except MemonfError:
        raise
    except Exception as error:
        lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines()
        said = lines[0][:200] if lines else type(error).__name__
        raise kind(f"{what}: {said}") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known names, the nearest first: ``did you mean `nerf`? known: …``."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return f"{hint}known: {', '.join(known)}"
