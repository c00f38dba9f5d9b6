"""A merge as a text file: which parents, how, and where the result goes (``docs/recipes.md``).

A recipe is plain YAML: mappings, lists, texts, numbers as in JSON, ``true``, ``false`` and
``null``. Tags, anchors and aliases, keys given twice and long files are refused, so that a recipe
is what it looks like.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import reprlib
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import torch
import yaml
from pydantic import AfterValidator, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .checkpoint import save
from .errors import InputError, nearest
from .files import check_writable
from .merging import MergeResult, build_method, merge
from .merging.coefficients import read_coefficients
from .typing import PathLike

__all__ = ["Recipe", "read_recipe", "recorded_recipe"]

#: A recipe of fifty parents and fifty layers takes some tens of kilobytes.
MOST_BYTES = 1 << 18

#: Key -> what stands there, for messages.
EXPECTED = {
    "parents": "a list of field files",
    "method": "the name of a merge method",
    "coefficients": "a list of numbers, or a mapping from tensor names to such lists",
    "settings": "a mapping from the method's settings to their values",
    "seed": "a whole number",
    "out": "the name of a field file",
    "force": "true or false",
}


def no_null(path: Path) -> Path:
    """Refuse what no file system takes for a name."""
    if "\0" in str(path):
        raise ValueError("a file name without null characters")
    return path


FileName: TypeAlias = Annotated[Path, AfterValidator(no_null)]
Shares: TypeAlias = tuple[Annotated[float, Strict()], ...]


@dataclass(frozen=True, config={"extra": "forbid"})
class Recipe:
    """All that decides a merge.

    Attributes:
        parents: Field files; the first is the reference.
        method: Registered name of the method.
        coefficients: Weight of each parent, see `memonf.merge`; None weighs equally.
        settings: The method's own settings.
        seed: Seed of every random choice.
        out: Field file to write; None to write none.
        force: Merge parents that contradict each other, know nothing or are one file all the same.
    """

    parents: tuple[FileName, ...] = ()
    method: Annotated[str, Strict()] = "distill"
    coefficients: Shares | dict[str, Shares] | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: Annotated[int, Strict()] = 0
    out: FileName | None = None
    force: Annotated[bool, Strict()] = False

    def run(
        self,
        device: torch.device | str = "cpu",
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> MergeResult:
        """Merge, keep the recipe in the merged field's lineage, and write it if `out` is set.

        Args:
            device: Where field files are read to.
            on_progress: Called with the share done as long work goes on.

        Raises:
            InputError: The recipe cannot be followed, see `memonf.merge`.
            OutputError: The merged field cannot be written.
        """
        self.check_files()
        build_method(self.method, self.settings)
        result = merge(
            self.parents, self.method, coefficients=self.coefficients or None, seed=self.seed,
            force=self.force, device=device, on_progress=on_progress, **self.settings,
        )  # fmt: skip
        # All settings, also those that were left out: defaults may change.
        done = dataclasses.replace(self, settings=result.report["settings"])
        result.field.record.lineage["recipe"] = done.record()
        if self.out is not None:
            save(result.field, self.out)
        return result

    def check_files(self) -> None:
        """Refuse one file given twice, and a result that cannot be written."""
        places: dict[Path, int] = {}
        for number, parent in enumerate(self.parents, 1):
            first = places.setdefault(Path(os.path.realpath(parent)), number)
            if first != number and not self.force:
                raise InputError(
                    f"parents {first} and {number} are the same file, {parent}; name each once, or "
                    "force the merge if you mean it (--force, force: true)"
                )
        if self.out is not None:
            if Path(os.path.realpath(self.out)) in places:
                raise InputError(f"--out {self.out}: is one of the parents; choose another name")
            check_writable(self.out)

    def record(self) -> dict[str, Any]:
        """What a field file keeps: JSON values, names of files without their folders."""
        coefficients: Any = self.coefficients
        if isinstance(coefficients, dict):  # the order decides, and a file sorts its mappings
            coefficients = [[pattern, list(shares)] for pattern, shares in coefficients.items()]
        elif coefficients is not None:
            coefficients = list(coefficients)
        return {
            "parents": [parent.name for parent in self.parents],
            "method": self.method,
            "coefficients": coefficients,
            "settings": dict(self.settings),
            "seed": self.seed,
            "force": self.force,
        }

    def as_yaml(self) -> str:
        """The recipe as the text of a file that `read_recipe` reads; what is unset is left out.

        Paths stand as they are, a reader takes them relative to the file's folder.
        """
        values = TypeAdapter(Recipe).dump_python(self, mode="json", exclude_none=False)
        set_values = {key: value for key, value in values.items() if value not in (None, {}, [])}
        return yaml.dump(set_values, Dumper=Writer, sort_keys=False, allow_unicode=True, width=100)


def read_recipe(path: PathLike) -> Recipe:
    """Read a recipe file; its paths are taken relative to its folder.

    Raises:
        InputError: Not a recipe; the message names the line where there is one.
    """
    file = Path(path)
    values, lines = parse(read_text(file), str(file))
    recipe = checked(values, str(file), lines)
    here = file.parent
    return dataclasses.replace(
        recipe,
        parents=tuple(here / parent for parent in recipe.parents),
        out=None if recipe.out is None else here / recipe.out,
    )


def recorded_recipe(lineage: dict[str, Any], where: str) -> Recipe:
    """The recipe that a merged field's lineage keeps.

    Args:
        lineage: See `Record`.
        where: What messages call the field.

    Raises:
        InputError: There is none, or it is damaged.
    """
    if not isinstance(lineage.get("recipe"), dict):
        raise InputError(f"{where}: holds no recipe; the files that `memonf merge` writes do")
    values = dict(lineage["recipe"])
    given = values["coefficients"] = values.get("coefficients") or None
    if isinstance(given, list) and given and all(isinstance(pair, list) for pair in given):
        if any(len(pair) != 2 or not isinstance(pair[0], str) for pair in given):
            raise InputError(f"{where}: `coefficients`: expected pairs of a name and a list")
        values["coefficients"] = dict(given)
    return checked(values, f"{where}: recipe", {})


def checked(values: dict[str, Any], where: str, lines: dict[str, int]) -> Recipe:
    """Build a recipe from plain values; what is wrong is refused by name and line."""

    def at(key: str) -> str:
        return f"{where}, line {lines[key]}" if key in lines else where

    for key in values:
        if key not in EXPECTED:
            raise InputError(f"{at(key)}: unknown key `{key}`; {nearest(key, EXPECTED)}")
    try:
        recipe = TypeAdapter(Recipe).validate_python(values)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        raise InputError(
            f"{at(key)}: `{key}`: expected {EXPECTED[key]}, received {reprlib.repr(values[key])}"
        ) from None
    key = "coefficients"
    try:
        if recipe.parents:
            read_coefficients(recipe.coefficients, len(recipe.parents))
        key = "settings" if recipe.settings else "method"
        check_types(recipe)
    except InputError as error:
        raise InputError(f"{at(key)}: {error}") from None
    return recipe


def check_types(recipe: Recipe) -> None:
    """Refuse an unknown method, and settings of other types than its own: a file has no excuse."""
    method = build_method(recipe.method, recipe.settings)
    try:
        text = json.dumps(recipe.settings, allow_nan=False)
        TypeAdapter(type(method)).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"`{recipe.method}`: setting `{key}`: {first['msg']}, received {first['input']!r}"
        ) from None
    except ValueError:
        raise InputError(f"`{recipe.method}`: settings: expected finite numbers") from None


def read_text(file: Path) -> str:
    """Text of a file that is small enough to be a recipe."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: cannot be read: {reason}; expected a recipe") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{file}: longer than {MOST_BYTES} bytes; expected a recipe")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file}: not a text in UTF-8; expected a recipe, which is YAML") from None


def parse(text: str, where: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Values of a YAML mapping, and the line of each of its keys.

    Raises:
        InputError: Not YAML, more than `Reader` takes, or not a mapping.
    """
    try:
        reader = Reader(text)
        root = reader.get_single_node()
        values: Any = {} if root is None else reader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: not a recipe: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise InputError(
            f"{where}: not a text: {error.reason}; expected a recipe, which is YAML"
        ) from None
    except (RecursionError, ValueError):  # lists in lists without end; a number of 5000 digits
        raise InputError(f"{where}: nested too deeply or numbers too long for a recipe") from None
    if root is None:
        raise InputError(f"{where}: is empty; expected a recipe with keys {', '.join(EXPECTED)}")
    if not isinstance(root, yaml.MappingNode):
        raise InputError(
            f"{where}: expected a mapping with keys {', '.join(EXPECTED)}, received "
            f"{reprlib.repr(values)}"
        )
    return values, {key.value: key.start_mark.line + 1 for key, _ in root.value}


class Reader(yaml.SafeLoader):
    """Reads plain YAML; scalars are what they are in JSON, all else is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, this is where PyYAML looks

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse all that makes a node something other than it looks."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases (&, *) have no place here; quote a text that begins "
                "so, write out what repeats",
                problem_mark=event.start_mark,
            )
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"tags ({event.tag}) have no place here", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse keys that are no text, and keys given twice."""
        assert isinstance(node, yaml.MappingNode)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(
                    problem=f"expected a text as key, received {key_in_words(key)}",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key `{key.value}` is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class Writer(yaml.SafeDumper):
    """Writes what `Reader` reads: quotes what it would take for a number; numbers in a row."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, this is where PyYAML looks

    def ignore_aliases(self, data: Any) -> bool:
        """Write out what repeats."""
        return True

    def represent_sequence(
        self, tag: str, sequence: Iterable[Any], flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        """Lists of numbers take one line."""
        items = list(sequence)
        numbers = all(isinstance(item, (int, float)) for item in items)
        return super().represent_sequence(tag, items, flow_style=numbers)


def key_in_words(key: yaml.Node) -> str:
    """A key that is no text, for a message."""
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "a list or a mapping"


#: What plain scalars are, in the order in which it is tried, and how they may begin. YAML 1.1 has
#: more: octals, sexagesimals, dates, ``yes`` and ``off``; and takes 1e-3 for a text.
SCALARS = (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+.0123456789",
    ),
)
for kind, pattern, begins in SCALARS:
    for handler in (Reader, Writer):
        handler.add_implicit_resolver(
            f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$"), list(begins)
        )
