"""What every merge method is: two phases, and claims that the tests hold it to.

A method is one file in `memonf.merging.methods`, or in another package through the entry-point
group ``memonf.merge_methods``: a registered frozen dataclass whose fields are its settings.
`prepare` does what depends on the parents alone, `combine` merges at given coefficients; most
methods are made of parts (`memonf.merging.parts`) and write neither. Class attributes state
claims; the property tests check them, and the command line, the docs table and the citation are
read off the same class.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as settings_dataclass

from ..errors import InputError, nearest
from ..fields import Field
from ..registry import Registry
from ..symmetry import Params
from .coefficients import Coefficients
from .problem import MergeProblem

__all__ = ["METHODS", "SETTINGS", "Figures", "MergeMethod", "build_method", "settings_dataclass"]

METHODS: Registry[MergeMethod[Any]] = Registry(
    "merge method", package="memonf.merging.methods", group="memonf.merge_methods"
)

#: Rules for the settings of all methods: frozen, no unknown names, checked values.
SETTINGS: dict[str, Any] = {"frozen": True, "config": {"extra": "forbid"}}

#: What a method reports of a merge: plain values for JSON, by name.
Figures = dict[str, Any]

State = TypeVar("State")


class MergeMethod(ABC, Generic[State]):
    """Base of all merge methods."""

    name: ClassVar[str]
    #: One line for tables and help.
    summary: ClassVar[str]
    #: Authors, year, arXiv id.
    paper: ClassVar[str]
    #: Does it look at the parents' activations at sampled positions?
    needs_positions: ClassVar[bool] = False
    #: Does it look at what the parents saw?
    needs_knowledge: ClassVar[bool] = False
    #: Does it take only parents that were trained from the same params?
    needs_ancestor: ClassVar[bool] = False
    #: Does it take parents of different architectures, sizes, boxes and backgrounds?
    any_architecture: ClassVar[bool] = False
    #: Does it take parents of one architecture whose layers are not equally wide?
    any_width: ClassVar[bool] = False
    #: Is the merge fitted to what the parents answer, rather than combined from their params?
    function_space: ClassVar[bool] = False
    #: Is merge([a, a]) the same function as a, up to float noise?
    idempotent: ClassVar[bool] = True
    #: Does merge([a, b]) compute the same function as merge([b, a])?
    symmetric: ClassVar[bool] = False
    #: Do comparisons and the viewer list it? Not if every result of it has another name too.
    listed: ClassVar[bool] = True
    #: Does it follow other coefficients for chosen tensors, see `Coefficients.of`?
    layerwise: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, problem: MergeProblem) -> State:
        """Do what does not depend on the coefficients: alignment, statistics, checks.

        Args:
            problem: The parents; not to be changed.

        Returns:
            What `combine` needs, any number of times.
        """

    @abstractmethod
    def combine(self, state: State, coefficients: Coefficients) -> tuple[Params, Figures]:
        """Merge at these coefficients.

        Args:
            state: What `prepare` returned; not to be changed.
            coefficients: Weight of each parent; the method may read `overall` alone unless it is
                `layerwise`.

        Returns:
            The merged params, for the field of `outline`, and figures for the report.
        """

    def outline(self, problem: MergeProblem) -> Field:
        """A field of the architecture that is merged into; the first parent's unless overridden."""
        return copy.deepcopy(problem.parents[0])

    def settings(self) -> dict[str, Any]:
        """The hyperparameters, as plain values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]


def build_method(name: str, settings: dict[str, Any]) -> MergeMethod[Any]:
    """Build a method by its name.

    Args:
        name: Registered name.
        settings: Its hyperparameters.

    Raises:
        InputError: Unknown method or setting, or a value out of range.
    """
    cls = METHODS[name]
    known = [entry.name for entry in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in settings:
        if key not in known:
            hint = nearest(key, known) if known else "it has no settings"
            raise InputError(f"`{name}`: unknown setting `{key}`; {hint}")
    try:
        return TypeAdapter(cls).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"`{name}`: setting `{key}`: {first['msg']}, received {first['input']!r}"
        ) from None
