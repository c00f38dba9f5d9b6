"""Where text meets the terminal: what comes from files is escaped, and any terminal will do.

`say` prints one line; whatever stands in it, it stays one line and does nothing to the terminal.
While a command runs, standard output and standard error are `Guarded`, which also covers what other
packages print: warnings, logs and tracebacks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

from ..errors import OutputError, shown

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "guarded", "say", "say_text", "unguarded"]

#: Columns that a package is told of at least: tyro's help never ends in fewer than it needs.
LEAST_COLUMNS = 60


def say(line: str, *, error: bool = False, flush: bool = False) -> None:
    """Print one line on standard output, or on standard error; all in it is escaped by `shown`."""
    print(shown(line), file=sys.stderr if error else sys.stdout, flush=flush)


def say_text(text: str) -> None:
    """Print text of this package, which may have several lines."""
    for line in text.splitlines():
        say(line)


class Guarded:
    """A standard stream that prints no control characters and that needs no reader.

    Once the reader of a pipe has gone (``memonf scenes | head -1``), what is printed is dropped and
    the work goes on: its files are still wanted.

    Args:
        stream: The stream itself.
        escape: Whether text is escaped; not where bars and colours are drawn.
        required: Whether it is an error that the stream cannot be written, for example on a full
            disk; else what is printed is dropped.
    """

    def __init__(self, stream: TextIO, *, escape: bool, required: bool) -> None:
        self.stream = stream
        self.escape = escape
        self.required = required

    def write(self, text: str) -> int:
        """Write text, escaped line by line."""
        if self.escape:
            text = "\n".join(map(shown, text.split("\n")))
        with self.in_use():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what is held back."""
        with self.in_use():
            self.stream.flush()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Deal with a stream that takes nothing any more."""
        try:
            yield
        except OSError as error:
            # Python writes what is left when it ends: there has to be a place for it.
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
            if self.required and not isinstance(error, BrokenPipeError):
                raise OutputError(
                    f"standard output: cannot be written: {error.strerror or error}; what was "
                    "printed is incomplete"
                ) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard both standard streams, whatever they are, while a command runs."""
    before = sys.stdout, sys.stderr
    # A closed stream is None, which others ask for its encoding; its number must stay taken too.
    streams = [stream or open_nowhere() for stream in before]
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = print_traceback
    sys.stdout = cast(TextIO, Guarded(streams[0], escape=True, required=True))
    sys.stderr = cast(TextIO, Guarded(streams[1], escape=True, required=False))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def open_nowhere() -> TextIO:
    """A stream that drops what is written to it, open until the process ends."""
    return Path(os.devnull).open("w", encoding="utf-8")


def print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback of a defect; messages in it may quote files as well."""
    for part in traceback.format_exception(kind, error, trace):
        for line in part.splitlines():
            say(line, error=True)


def drawn_on(stream: TextIO) -> TextIO:
    """A standard stream for bars and colours."""
    if not isinstance(stream, Guarded):
        return stream
    return cast(TextIO, Guarded(stream.stream, escape=False, required=stream.required))


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """Let through what a package lays out and colours that was given nothing from files."""
    before, columns = (sys.stdout, sys.stderr), os.environ.get("COLUMNS")
    sys.stdout, sys.stderr = map(drawn_on, before)
    if shutil.get_terminal_size().columns < LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(LEAST_COLUMNS)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        if columns is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = columns


def console(*, error: bool) -> Console:
    """A console for tables and bars; texts in them are handed over as they are, without markup."""
    from rich.console import Console  # not for `--help`

    stream = sys.stderr if error else sys.stdout
    return Console(file=drawn_on(stream), markup=False, highlight=False, emoji=False)
