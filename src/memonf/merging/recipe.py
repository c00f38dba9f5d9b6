"""A merge as a text file: which parents, how, and where the result goes (``docs/recipes.md``).

A recipe is plain YAML: mappings, lists, texts, numbers as in JSON, ``true``, ``false`` and
``null``. Tags, anchors, aliases, duplicate keys and long files are refused, so that a recipe means
exactly what it shows.
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

from ..errors import InputError, nearest
from ..io.checkpoint import save
from ..typing import PathLike
from ..utils.files import check_writable
from . import MergeResult, build_method, merge
from .coefficients import read_coefficients

__all__ = ["Recipe", "read_recipe", "recorded_recipe"]

#: A recipe of fifty parents and fifty layers takes some tens of kilobytes.
MOST_BYTES = 1 << 18

#: Key -> expected value, for messages.
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
    """Refuse a file name with null characters, which no file system accepts."""
    if "\0" in str(path):
        raise ValueError("a file name without null characters")
    return path


FileName: TypeAlias = Annotated[Path, AfterValidator(no_null)]
Shares: TypeAlias = tuple[Annotated[float, Strict()], ...]


@dataclass(frozen=True, config={"extra": "forbid"})
class Recipe:
    """All inputs of a merge.

    Example:
        >>> recipe = Recipe(parents=("a.safetensors", "b.safetensors"), method="average")
        >>> recipe.as_yaml().splitlines()[3]
        'method: average'

    Attributes:
        parents: Field files; the first is the reference.
        method: Registered name of the method.
        coefficients: Weight of each parent, see `memonf.merge`; None: equal weights.
        settings: The method's own settings.
        seed: Seed of every random choice.
        out: Field file to write; None to write no file.
        force: Merge also parents that contradict each other, have empty knowledge or are the same
            file.
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
            device: Device that field files are read to.
            on_progress: Called during long work with the share done, in [0, 1].

        Raises:
            InputError: Invalid recipe, see `memonf.merge`.
            OutputError: The merged field cannot be written.
        """
        self.check_files()
        build_method(self.method, self.settings)
        result = merge(
            self.parents, self.method, coefficients=self.coefficients or None, seed=self.seed,
            force=self.force, device=device, on_progress=on_progress, **self.settings,
        )  # fmt: skip
        # All settings, including those that were left out: defaults may change.
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
        """The recipe as kept in a field file: JSON values, file names without folders."""
        coefficients: Any = self.coefficients
        if isinstance(coefficients, dict):  # a list keeps the order, a mapping is sorted in a file
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
        """The recipe as text for `read_recipe`; unset values are left out.

        Paths are written as they are; `read_recipe` takes them relative to the file's folder.
        """
        values = TypeAdapter(Recipe).dump_python(self, mode="json", exclude_none=False)
        set_values = {key: value for key, value in values.items() if value not in (None, {}, [])}
        return yaml.dump(
            set_values, Dumper=RecipeDumper, sort_keys=False, allow_unicode=True, width=100
        )


def read_recipe(path: PathLike) -> Recipe:
    """Read a recipe file; paths in it are relative to its folder.

    Example:
        >>> recipe = memonf.read_recipe("merge.yaml")  # doctest: +SKIP
        >>> recipe.run()  # doctest: +SKIP

    Raises:
        InputError: Not a recipe; the message names the line if it is known.
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
    """The recipe kept in a merged field's lineage.

    Args:
        lineage: See `Record`.
        where: Name of the field in error messages.

    Raises:
        InputError: The lineage has no recipe, or a damaged one.
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
    """Build a recipe from plain values; errors name the key and the line."""

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
    """Refuse an unknown method, and settings whose types differ from the method's."""
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
    """Text of a recipe file; its size is limited."""
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
        InputError: Not YAML, YAML that `RecipeLoader` refuses, or not a mapping.
    """
    try:
        reader = RecipeLoader(text)
        root = reader.get_single_node()
        values: Any = {} if root is None else reader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: not a recipe: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise InputError(
            f"{where}: not a text: {error.reason}; expected a recipe, which is YAML"
        ) from None
    except (RecursionError, ValueError):  # deeply nested lists; a number of 5000 digits
        raise InputError(f"{where}: nested too deeply or numbers too long for a recipe") from None
    if root is None:
        raise InputError(f"{where}: is empty; expected a recipe with keys {', '.join(EXPECTED)}")
    if not isinstance(root, yaml.MappingNode):
        raise InputError(
            f"{where}: expected a mapping with keys {', '.join(EXPECTED)}, received "
            f"{reprlib.repr(values)}"
        )
    return values, {key.value: key.start_mark.line + 1 for key, _ in root.value}


class RecipeLoader(yaml.SafeLoader):
    """Reads plain YAML; scalars have the types of JSON, all others are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, this is where PyYAML looks

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse anchors, aliases and tags."""
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
        """Refuse keys that are not text, and duplicate keys."""
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


class RecipeDumper(yaml.SafeDumper):
    """Writes YAML for `RecipeLoader`: quotes text that looks like a number; numbers on one line."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, this is where PyYAML looks

    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated values in full."""
        return True

    def represent_sequence(
        self, tag: str, sequence: Iterable[Any], flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        """Write lists of numbers on one line."""
        items = list(sequence)
        numbers = all(isinstance(item, (int, float)) for item in items)
        return super().represent_sequence(tag, items, flow_style=numbers)


def key_in_words(key: yaml.Node) -> str:
    """A key that is not text, for a message."""
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "a list or a mapping"


#: Types of plain scalars, in the order in which they are tried, with their first characters. YAML
#: 1.1 has more types: octals, sexagesimals, dates, ``yes`` and ``off``; and reads 1e-3 as text.
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
    for handler in (RecipeLoader, RecipeDumper):
        handler.add_implicit_resolver(
            f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$"), list(begins)
        )
