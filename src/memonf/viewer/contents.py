"""What can be looked at: parents, merged files, and merges made while one watches."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, MergeError
from ..fields import Field
from ..merging import METHODS, MergeProblem, Merger
from ..merging.combining.task_vectors import find_ancestor
from ..merging.parents import Parents, check_alike

__all__ = ["Contents"]


class Contents:
    """Fields by name, and merges of the parents by method and coefficient.

    Args:
        parents: Fields of one scene, by name; the first is the reference.
        others: Further fields to look at, for example merged files.

    Attributes:
        fields: All of them by name; one called like a merge method has " (file)" behind its name.
        methods: Merge methods whose merges can follow the coefficient: those of weight space.
        why_none: Why there are none, in words; empty if there are.
    """

    def __init__(self, parents: dict[str, Field], others: dict[str, Field] | None = None) -> None:
        self.parents = distinct(parents)
        self.fields = {**self.parents, **distinct(others or {})}
        self.methods: tuple[str, ...] = ()
        self.why_none = ""
        self._mergers: dict[str, Merger] = {}
        if len(parents) < 2:
            self.why_none = "a merge takes two parents or more"
            return
        try:
            check_alike(Parents(list(parents.values())).facts)
        except (InputError, MergeError) as error:
            self.why_none = str(error)
            return
        related = share_an_ancestor(list(parents.values()))
        self.methods = tuple(
            name
            for name in METHODS
            if METHODS[name].listed
            and not METHODS[name].function_space
            and (related or not METHODS[name].needs_ancestor)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be chosen: fields, then methods."""
        return (*self.fields, *self.methods)

    def coefficients(self, share: float) -> list[float]:
        """Weights of the parents: the first has 1 - share, the others share the rest equally."""
        others = len(self.parents) - 1
        return [1 - share, *[share / others] * others]

    def field(self, name: str, share: float = 0.5) -> Field:
        """The field called `name`, or the merge by the method of that name.

        Args:
            name: One of `names`.
            share: Weight of all parents but the first together, in [0, 1]; only merges heed it.

        Raises:
            InputError: No such name.
            MergeError: The method refuses these parents.
        """
        if name in self.fields:
            return self.fields[name]
        if name not in self.methods:
            raise InputError(f"nothing called `{name}` is open; there are {', '.join(self.names)}")
        if name not in self._mergers:
            self._mergers[name] = Merger(list(self.parents.values()), name, force=True)
        return self._mergers[name].at(self.coefficients(share)).field


def distinct(fields: dict[str, Field]) -> dict[str, Field]:
    """The same fields, none of them called like a merge method: a list shows each name once."""
    return {f"{name} (file)" if name in METHODS else name: one for name, one in fields.items()}


def share_an_ancestor(parents: Sequence[Field]) -> bool:
    """Whether the parents were trained from the same params, which can be drawn anew."""
    try:
        find_ancestor(MergeProblem(Parents(parents)), file="")
    except MergeError:
        return False
    return True
