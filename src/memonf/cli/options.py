"""How verbs read their options: a dataclass is the command line."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro
from pydantic import ValidationError

from ..errors import InputError
from .main import module_of

__all__ = [
    "Common",
    "Switch",
    "described",
    "flag_value",
    "flags_given",
    "parse",
    "shown_command",
    "with_settings",
]

T = TypeVar("T")

#: A flag without a ``--no-`` twin.
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]

#: Asks a verb what it could be asked, instead of running it; for the shell's completion.
DESCRIBE = "--describe-options"


class Described(Exception):  # noqa: N818 - an answer, not an error
    """Carries a verb's options out of its `run`."""

    def __init__(self, actions: list[argparse.Action]) -> None:
        super().__init__()
        self.actions = actions


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
    """Parse a verb's arguments; tyro prints mistakes and exits with status 2.

    Raises:
        InputError: A setting is out of its range.
    """
    if DESCRIBE in args:
        with warnings.catch_warnings():  # deprecated, with nothing in its place yet
            warnings.simplefilter("ignore", DeprecationWarning)
            raise Described(tyro.extras.get_parser(options)._actions)
    about = (options.__doc__ or "").partition("Attributes:")[0].strip()
    description = f"{about}\n\nExamples:\n{examples}"
    parsed = tyro.cli(options, prog=f"memonf {verb}", args=list(args), description=description)
    checked = {
        entry.name: check_settings(entry.metadata["settings"], getattr(parsed, entry.name))
        for entry in dataclasses.fields(parsed)  # type: ignore[arg-type]
        if "settings" in entry.metadata
    }
    return dataclasses.replace(parsed, **checked)  # type: ignore[type-var]


def described(verb: str, args: Sequence[str]) -> list[argparse.Action]:
    """The options that a verb has once `args` are given."""
    try:
        importlib.import_module(f".{module_of(verb)}", __package__).run([*args, DESCRIBE])
    except Described as answer:
        return answer.actions
    raise AssertionError(f"{verb} does not read its options by `parse`")


def check_settings(settings: type[Any], values: Any) -> Any:
    """Build the settings from parsed values; a value out of range is named by its flag."""
    try:
        return settings(
            **{entry.name: getattr(values, entry.name) for entry in dataclasses.fields(values)}
        )
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise InputError(message) from None
        name = str(first["loc"][0]).replace("_", "-")
        raise InputError(f"--{name}: {message}, received {first['input']!r}") from None


def flag_value(args: Sequence[str], flag: str, default: str) -> str:
    """Value of a flag before the full parse: it decides which other options there are."""
    for index, arg in enumerate(args):
        if arg == flag and index + 1 < len(args):
            return args[index + 1]
        if arg.startswith(f"{flag}="):
            return arg.partition("=")[2]
    return default


def flags_given(args: Sequence[str]) -> set[str]:
    """Names of the options that stand on the command line, as attributes are called."""
    flags = (arg.partition("=")[0] for arg in args if arg.startswith("--"))
    return {flag[2:].removeprefix("no-").replace("-", "_") for flag in flags}


def shown_command(verb: str, args: Sequence[str]) -> str:
    """The command to make a result again; folders of this machine are cut to their names."""
    return shlex.join(["memonf", verb, *(Path(arg).name if "/" in arg else arg for arg in args)])


def with_settings(options: type[T], **settings: type[Any]) -> type[T]:
    """Extend a verb's options by those of settings classes, all on one level.

    Args:
        options: Keyword-only dataclass of the verb.
        settings: Attribute -> settings dataclass with defaults.
    """
    entries = []
    for name, cls in settings.items():
        unchecked = without_checks(cls)
        default = dataclasses.field(default_factory=unchecked, metadata={"settings": cls})
        entries.append((name, Annotated[unchecked, tyro.conf.OmitArgPrefixes], default))
    extended = dataclasses.make_dataclass(
        options.__name__, entries, bases=(options,), frozen=True, kw_only=True
    )
    extended.__doc__ = options.__doc__
    return extended


def plain_default(value: Any) -> Any:
    """A dataclass field with this default; dictionaries are made anew each time."""
    if isinstance(value, dict):
        return dataclasses.field(default_factory=lambda: dict(value))
    return dataclasses.field(default=value)


def without_checks(settings: type[Any]) -> type[Any]:
    """A plain dataclass with the same fields: ranges are checked once all is parsed."""
    hints = get_type_hints(settings, include_extras=True)
    plain = dataclasses.make_dataclass(
        settings.__name__,
        [
            (e.name, hints[e.name], plain_default(getattr(settings(), e.name)))
            for e in dataclasses.fields(settings)
        ],
        frozen=True,
        kw_only=True,
    )
    # The help of inherited settings stands in the docstring of the class that declares them.
    documented = [
        base.__doc__ for base in settings.__mro__ if "Attributes:" in (base.__doc__ or "")
    ]
    about = (settings.__doc__ or "").partition("Attributes:")[0].rstrip()
    listed = (documented[0] or "").partition("Attributes:")[2] if documented else ""
    plain.__doc__ = f"{about}\n\n    Attributes:{listed}" if listed else about
    return plain
