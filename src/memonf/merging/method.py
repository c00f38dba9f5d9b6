"""Base of merge methods: two phases, and claims that the property tests check.

A method is one file in `memonf.merging.methods`, or in another package through the entry-point
group ``memonf.merge_methods``: a registered frozen dataclass whose fields are its settings.
`prepare` does what depends on the parents alone, `combine` merges at given coefficients; most
methods consist of parts (`memonf.merging.parts`) and define neither. Class attributes state claims,
which the property tests check; the command line, the docs table and the citation come from the
same class.
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
from ..symmetry import Params
from ..utils.registry import Registry
from .coefficients import Coefficients
from .problem import MergeProblem

__all__ = ["METHODS", "SETTINGS", "Figures", "MergeMethod", "build_method", "settings_dataclass"]

METHODS: Registry[MergeMethod[Any]] = Registry(
    "merge method", package="memonf.merging.methods", group="memonf.merge_methods"
)

#: Rules for the settings of all methods: frozen, no unknown names, checked values.
SETTINGS: dict[str, Any] = {"frozen": True, "config": {"extra": "forbid", "allow_inf_nan": False}}

#: Figures of a merge for its report: plain JSON values, by name.
Figures = dict[str, Any]

State = TypeVar("State")


class MergeMethod(ABC, Generic[State]):
    """Base of all merge methods.

    Example:
        >>> method = memonf.merging.build_method("distill", {"steps": 300})
        >>> isinstance(method, MergeMethod), method.settings()["steps"]
        (True, 300)
    """

    name: ClassVar[str]
    #: One line for tables and help.
    summary: ClassVar[str]
    #: Authors, year, arXiv id.
    paper: ClassVar[str]
    #: Whether it evaluates the parents at sampled positions.
    needs_positions: ClassVar[bool] = False
    #: Whether it uses the parents' knowledge.
    needs_knowledge: ClassVar[bool] = False
    #: Whether the parents must be trained from the same initial params.
    needs_ancestor: ClassVar[bool] = False
    #: Whether parents may differ in architecture, size, box and background.
    any_architecture: ClassVar[bool] = False
    #: Whether parents of one architecture may differ in the widths of their layers.
    any_width: ClassVar[bool] = False
    #: Whether the merge is fitted to the parents' outputs rather than combined from their params.
    function_space: ClassVar[bool] = False
    #: Whether merge([a, a]) computes the same function as a, up to float noise.
    idempotent: ClassVar[bool] = True
    #: Whether merge([a, b]) computes the same function as merge([b, a]).
    symmetric: ClassVar[bool] = False
    #: Whether comparisons and the viewer list it; false if its results have other names too.
    listed: ClassVar[bool] = True
    #: Whether it supports coefficients by tensor, see `Coefficients.of`.
    layerwise: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, problem: MergeProblem) -> State:
        """Do what does not depend on the coefficients: alignment, statistics, checks.

        Args:
            problem: The parents; must not be changed.

        Returns:
            The state for `combine`, which is called any number of times.
        """

    @abstractmethod
    def combine(self, state: State, coefficients: Coefficients) -> tuple[Params, Figures]:
        """Merge at these coefficients.

        Args:
            state: What `prepare` returned; must not be changed.
            coefficients: Weight of each parent; the method may read `overall` alone unless it is
                `layerwise`.

        Returns:
            The merged params, for the field of `outline`, and figures for the report.
        """

    def outline(self, problem: MergeProblem) -> Field:
        """A field of the merged architecture; the first parent's unless overridden."""
        return copy.deepcopy(problem.parents[0])

    def settings(self) -> dict[str, Any]:
        """The hyperparameters, as plain values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]


def build_method(name: str, settings: dict[str, Any]) -> MergeMethod[Any]:
    """Build a method by its name.

    Example:
        >>> memonf.merging.build_method("weight_matching", {"restarts": 2}).restarts
        2

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
