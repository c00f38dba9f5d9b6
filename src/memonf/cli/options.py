"""How verbs read their options: a dataclass is the command line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import os
import shlex
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import tyro
from pydantic import Field as Limits
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ..errors import InputError, shown
from ..utils.files import check_folder, check_writable, destination, same_place
from .main import module_of
from .terminal import unguarded

__all__ = [
    "Common",
    "Finite",
    "NewFile",
    "Output",
    "ResultsFolder",
    "Switch",
    "described",
    "flag_value",
    "flags_given",
    "outputs_of",
    "parse",
    "shown_command",
    "with_settings",
]

T = TypeVar("T")

#: A number that is one: no infinity, no NaN.
Finite = Annotated[float, Limits(allow_inf_nan=False)]
#: A flag without a ``--no-`` twin.
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclasses.dataclass(frozen=True)
class Output:
    """Marks an option that names something to write; `parse` checks it before the verb begins.

    Attributes:
        kind: A ``file``, a ``folder`` that results are added to, or ``any`` of them, which the
            verb tells apart and checks itself.
    """

    kind: Literal["file", "folder", "any"] = "file"

    def check(self, path: Path) -> None:
        """Refuse what cannot be written, see `memonf.utils.files`."""
        if self.kind == "any":
            destination(path, folder=path.is_dir())
        else:
            (check_folder if self.kind == "folder" else check_writable)(path)


#: A file to write, and a folder to write into.
NewFile = Annotated[Path, Output()]
ResultsFolder = Annotated[Path, Output("folder")]

#: Asks a verb what it could be asked, instead of running it; for the shell's completion.
DESCRIBE = "--describe-options"


class Described(Exception):  # noqa: N818 - an answer, not an error
    """Carries a verb's options out of its `run`."""

    def __init__(self, options: type[Any], actions: list[argparse.Action]) -> None:
        super().__init__()
        self.options = options
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
        InputError: A flag is given twice, a setting is out of its range, or an output is an input.
        OutputError: An output cannot be written.
    """
    if DESCRIBE in args:
        with warnings.catch_warnings():  # deprecated, with nothing in its place yet
            warnings.simplefilter("ignore", DeprecationWarning)
            raise Described(options, tyro.extras.get_parser(options)._actions)
    refuse_repeated_flags(args)
    about = (options.__doc__ or "").partition("Attributes:")[0].strip()
    description = f"{about}\n\nExamples:\n{examples}"

    def parsed_from(args: list[str]) -> T:
        return tyro.cli(options, prog=f"memonf {verb}", args=args, description=description)

    parsed = without_a_trace(parsed_from, args)
    check_ranges(parsed)
    checked = {
        entry.name: check_settings(entry.metadata["settings"], getattr(parsed, entry.name))
        for entry in dataclasses.fields(parsed)  # type: ignore[arg-type]
        if "settings" in entry.metadata
    }
    parsed = dataclasses.replace(parsed, **checked)  # type: ignore[type-var]
    check_outputs(parsed)
    return parsed


def check_ranges(options: Any) -> None:
    """Hold numbers to the limits that stand beside them.

    Raises:
        InputError: One is beyond.
    """
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        limits = limits_in(hint)
        if limits is None:
            continue
        value = getattr(options, name)
        try:
            TypeAdapter(hint).validate_python(value)
        except ValidationError as error:
            refused = error.errors()[0]["input"]
            raise InputError(
                f"--{flag_of(name)}: expected {limits_in_words(limits)}, received {refused}"
            ) from None


def limits_in(hint: Any) -> FieldInfo | None:
    """The limits of a number within a type, for example of ``Annotated[int, …] | None``."""
    for part in get_args(hint):
        found = part if isinstance(part, FieldInfo) else limits_in(part)
        if found is not None:
            return found
    return None


def limits_in_words(limits: FieldInfo) -> str:
    """For example ``at least 1 and at most 100``."""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    said = [
        f"{phrase} {in_words(getattr(limit, key))}"
        for limit in limits.metadata
        for key, phrase in words.items()
        if hasattr(limit, key)
    ]
    return " and ".join(said) or "a finite number"


def in_words(limit: float) -> str:
    """A limit as it is written: whole numbers with all digits."""
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def outputs_of(options: type[Any]) -> dict[str, Output]:
    """What a verb writes: attribute -> what is written there."""
    found: dict[str, Output] = {}
    for name, hint in get_type_hints(options, include_extras=True).items():
        marks = [mark for part in (hint, *get_args(hint)) for mark in get_args(part)]
        found.update((name, mark) for mark in marks if isinstance(mark, Output))
    return found


def check_outputs(options: Any) -> None:
    """Refuse outputs that cannot be written, and those that are read or written by another name.

    Raises:
        InputError: Two options name one file.
        OutputError: A device, a pipe, a protected file, …
    """
    outputs = outputs_of(type(options))
    named = [
        (entry.name, Path(path))
        for entry in dataclasses.fields(options)
        if "settings" not in entry.metadata
        for path in paths_in(getattr(options, entry.name))
    ]
    for name, path in named:
        if name not in outputs:
            continue
        outputs[name].check(path)
        for other, elsewhere in named:
            if other != name and same_place(path, elsewhere) and not path.is_dir():
                raise InputError(
                    f"--{flag_of(name)} {path}: is the file of `{flag_of(other)}` as well; choose "
                    "another name"
                )


def paths_in(value: Any) -> list[str | Path]:
    """The paths that an option holds; a text is one if a file has this name."""
    if isinstance(value, Path):
        return [value]
    if isinstance(value, str):
        return [value] if value and "\0" not in value and os.path.isfile(value) else []
    return [path for part in value for path in paths_in(part)] if isinstance(value, tuple) else []


def flag_of(attribute: str) -> str:
    """An option as it is typed."""
    return attribute.replace("_", "-")


def without_a_trace(parsed_from: Callable[[list[str]], T], args: Sequence[str]) -> T:
    """What tyro makes of the arguments; its message about them shows them escaped.

    Raises:
        SystemExit: A mistake, printed by tyro, or the help was asked for.
    """
    escaped = [shown(arg) for arg in args]
    with unguarded():
        if escaped != list(args):
            nowhere = io.StringIO()
            try:
                with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                    return parsed_from(list(args))
            except SystemExit:  # the same mistake again, with names that can be printed
                pass
        return parsed_from(escaped)


def refuse_repeated_flags(args: Sequence[str]) -> None:
    """Refuse a flag that stands there twice: one reader would take the first, one the last.

    Raises:
        InputError: There is one.
    """
    seen: dict[str, str] = {}
    for flag in flags_in(args):
        option = attribute_of(flag)
        if option in seen:
            twice = flag if flag == seen[option] else f"{seen[option]} and {flag}"
            raise InputError(
                f"{twice}: expected once, received twice; give it once, with all its values behind"
            )
        seen[option] = flag


def flags_in(args: Sequence[str]) -> list[str]:
    """The flags among the arguments, without values that are joined to them."""
    return [arg.partition("=")[0] for arg in args if arg.startswith("--")]


def attribute_of(flag: str) -> str:
    """Name of the option that a flag sets: ``--no-log`` and ``--log`` are one."""
    return flag[2:].replace("-", "_").removeprefix("no_")


def described(verb: str, args: Sequence[str]) -> Described:
    """The options that a verb has once `args` are given: their class, and as parsed."""
    try:
        importlib.import_module(f".{module_of(verb)}", __package__).run([*args, DESCRIBE])
    except Described as answer:
        return answer
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
    """Value of a flag before the full parse: it decides which other options there are.

    Raises:
        InputError: A flag is given twice.
    """
    refuse_repeated_flags(args)
    for index, arg in enumerate(args):
        if arg == flag and index + 1 < len(args):
            return args[index + 1]
        if arg.startswith(f"{flag}="):
            return arg.partition("=")[2]
    return default


def flags_given(args: Sequence[str]) -> set[str]:
    """Names of the options that stand on the command line, as attributes are called."""
    return {attribute_of(flag) for flag in flags_in(args)}


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
