"""Every error that a user can cause, in one place.

A message names the place, what was expected, what was received and what to do next, for example
``front.safetensors: `trunk.2.weight` is (256, 256), the config says (128, 128); the file is
damaged, train or copy it again``. The command line prints the message without a traceback and
exits with `exit_status`. Whatever a message quotes from a file is escaped (`shown`), so that it can
be printed anywhere.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = [
    "DataError",
    "ExperimentError",
    "FieldFileError",
    "InputError",
    "MemonfError",
    "MergeError",
    "OutputError",
    "TrainingError",
    "decoding",
    "nearest",
    "reason_of",
    "shown",
]

#: Characters of a message that are printed: its beginning, and its end with what to do next.
MOST_BEGIN, MOST_END = 3000, 800
#: Letters and marks that take no room or look like a space, beside the format characters.
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
VARIATION_SELECTORS = (("\ufe00", "\ufe0f"), ("\U000e0100", "\U000e01ef"))


def shown(text: str) -> str:
    r"""The text on one line, without a character that acts on a terminal or cannot be seen.

    Control characters, line separators, writing directions, invisible characters and lone
    surrogates become what Python writes for them: ``\n``, ``\x1b``, ``\u202e``. Everything else
    stays, so the result may be escaped again without change.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if visible(c) else ascii(c)[1:-1] for c in text)


def visible(character: str) -> bool:
    """Whether a character shows what it is, and does nothing else."""
    if character in INVISIBLE or any(a <= character <= b for a, b in VARIATION_SELECTORS):
        return False
    return character.isprintable() or unicodedata.category(character) == "Zs"


class MemonfError(Exception):
    """Base of all errors that MeMo NF raises on purpose; its text is one printable line."""

    exit_status = 1

    def __str__(self) -> str:
        """The message, escaped; the middle of a very long one is left out."""
        text = super().__str__()
        if len(text) > MOST_BEGIN + MOST_END:
            left_out = len(text) - MOST_BEGIN - MOST_END
            text = f"{text[:MOST_BEGIN]} [{left_out} characters left out] {text[-MOST_END:]}"
        return shown(text)


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


class ExperimentError(MemonfError):
    """Jobs of an experiment failed; what is finished is kept."""


#: Characters of what another package says.
MOST_REASON = 200
#: What packages say of a check that they would have switched off, and what is said in its place.
ADVICE = tuple(
    (re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in (
        (
            r"max_header_size|safe to load",
            "its header is far longer than one of an array; it is damaged or of another kind",
        ),
        (
            r"allow_pickle|weights_only|object arrays|trusted? (source|the)|torch\.load",
            "it holds objects, which would be code; save arrays of numbers alone",
        ),
        (
            r"decompression bomb|max_image_pixels|max_text_chunk|max_text_memory",
            "it unpacks to far more than a picture; make it smaller",
        ),
        (
            r"truncated|before seeing STOP|not enough data in stream|but only \d+ remain",
            "its end is missing; copy it again",
        ),
        (r"(pip3?|conda|apt|apt-get|brew) install", "it needs a package that is not installed"),
    )
)
#: Where in its own source a package stood, and pages of its documentation.
SOURCE_LINE = re.compile(r"^\[?[\w./\\-]+\.(?:cc|cpp|cxx|h|hpp|py|rs):\d+\]?:?\s*")
ADDRESS = re.compile(
    r"(?:for further information,? )?(?:visit|see|at|read)?\s*\(?https?://\S+", re.I
)


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
        raise kind(f"{what}: {reason_of(error)}") from None


def reason_of(error: BaseException) -> str:
    """What another package's error says, in a line that a user can act on.

    Packages advise whoever called them: to allow pickles, to trust a file, to raise a limit, to
    look at a page or a line of their source. None of that is for users here.
    """
    text = str(getattr(error, "strerror", None) or error).strip()
    for advice, instead in ADVICE:
        if advice.search(text):
            return instead
    line = SOURCE_LINE.sub("", text.splitlines()[0]) if text else ""
    line = ADDRESS.sub("", line).strip(" :;,(-")
    if len(line) > MOST_REASON:
        line = f"{line[:MOST_REASON].rsplit(' ', 1)[0]} ..."
    return line or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known names, the nearest first: ``did you mean `nerf`? known: …``."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return f"{hint}known: {', '.join(known)}"
