"""How verbs read their options: a dataclass is the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import ValidationError

from ..errors import InputError

__all__ = ["Common", "Switch", "flag_value", "parse", "with_settings"]

T = TypeVar("T")

#: A flag without a ``--no-`` twin.
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every verb.

    Attributes:
        device: auto, cpu, cuda, mps, …
        quiet: Show no progress.
        json: Print the result as JSON.
    """

    device: str = "auto"
    quiet: Switch = False
    json: Switch = False


def parse(options: type[T], verb: str, args: Sequence[str], examples: str) -> T:
    """Parse a verb's arguments; tyro prints mistakes and exits with status 2."""
    about = (options.__doc__ or "").partition("Attributes:")[0].strip()
    description = f"{about}\n\nExamples:\n{examples}"
    try:
        return tyro.cli(options, prog=f"memonf {verb}", args=list(args), description=description)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        raise InputError(f"--{name}: {first['msg']}, received {first['input']!r}") from None


def flag_value(args: Sequence[str], flag: str, default: str) -> str:
    """Value of a flag before the full parse: it decides which other options there are."""
    for index, arg in enumerate(args):
        if arg == flag and index + 1 < len(args):
            return args[index + 1]
        if arg.startswith(f"{flag}="):
            return arg.partition("=")[2]
    return default


def with_settings(options: type[T], **settings: type[Any]) -> type[T]:
    """Extend a verb's options by those of settings classes, all on one level.

    Args:
        options: Keyword-only dataclass of the verb.
        settings: Attribute -> settings dataclass with defaults.
    """
    extended = dataclasses.make_dataclass(
        options.__name__,
        [
            (
                name,
                Annotated[cls, tyro.conf.OmitArgPrefixes],
                dataclasses.field(default_factory=cls),
            )
            for name, cls in settings.items()
        ],
        bases=(options,),
        frozen=True,
        kw_only=True,
    )
    extended.__doc__ = options.__doc__
    return extended
