"""Merge fields: once (`merge`), or the same parents at many coefficients (`Merger`).

Symbols: c_i coefficient of parent i, Σ c_i = 1. Parent 0 is the reference: its unit order is kept.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import InputError, MergeError
from ..fields import Field
from ..rendering.knowledge import Knowledge
from ..typing import PathLike
from .checks import check_knowledge, check_placements
from .coefficients import Coefficients, read_coefficients
from .method import METHODS, Figures, MergeMethod, build_method
from .parents import Parents, check_alike, width_keys
from .problem import MergeProblem
from .records import merged_record

__all__ = ["MergeResult", "Merger", "merge"]

#: Seeds lie in [-SEEDS, SEEDS), as torch takes them.
SEEDS = 1 << 63
#: The tensor that is equal in all parents of weight-space methods and takes no coefficients.
BOX = "aabb"


@dataclass(frozen=True)
class MergeResult:
    """A merged field and the report of its merge.

    Example:
        >>> result = memonf.merge([front, rear], "average")
        >>> result.report["method"], result.report["coefficients"]
        ('average', [0.5, 0.5])

    Attributes:
        field: The merged field, of the size of one parent.
        report: Method, settings, coefficients, seconds and the method's own figures.
    """

    field: Field
    report: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Parents with a nonzero coefficient, prepared by a method.

    Attributes:
        problem: The parents.
        recorded: Knowledge of each of them; None where it is not recorded and the method does not
            need it.
        state: What the method's `prepare` returned.
    """

    problem: MergeProblem
    recorded: Sequence[Knowledge | None]
    state: Any


class Merger:
    """Parents and a method, prepared once and merged at any coefficients.

    Example:
        >>> merger = memonf.Merger([front, rear], "weight_matching")
        >>> fields = [merger.at([1 - share, share]).field for share in (0.0, 0.5, 1.0)]

    Args:
        parents: Two or more fields or field files of one scene; the first is the reference whose
            unit order weight-space methods keep. Files are read when they are needed.
        method: Registered name, see ``memonf merge --help``, or a method object.
        seed: Seed of every random choice.
        force: Merge also parents that contradict each other or have empty knowledge.
        device: Device that field files are read to.
        on_progress: Called during long work with the share done, in [0, 1].
        keep_parents: Whether what was computed for each parent stays in memory, so that the next
            coefficients take milliseconds; if not, two parents at most are in memory at a time.
        settings: The method's hyperparameters, if it is given by name.

    Raises:
        MergeError: Incompatible parents.
        InputError: Unknown method or setting, or a seed out of range.
        FieldFileError: A field file cannot be read.
    """

    def __init__(
        self,
        parents: Sequence[Field | PathLike],
        method: str | MergeMethod[Any] = "distill",
        *,
        seed: int = 0,
        force: bool = False,
        device: torch.device | str = "cpu",
        on_progress: Callable[[float], None] = lambda share: None,
        keep_parents: bool = True,
        **settings: Any,
    ) -> None:
        self._began = time.perf_counter()
        if isinstance(method, str):
            method = build_method(method, settings)
        elif settings:
            raise InputError(
                f"settings {', '.join(settings)}: expected none beside a method object, which "
                f"has its own; pass them to `{type(method).__name__}(...)`"
            )
        if not -SEEDS <= seed < SEEDS:
            raise InputError(f"seed: expected a whole number of 64 bits, received {seed}")
        self.method = method
        self.parents = Parents(parents, device)
        self._seed, self._force, self._keep = seed, force, keep_parents
        self._on_progress = on_progress
        facts = self.parents.facts
        check_placements([parent.record.placement for parent in facts])
        if not method.any_architecture:
            check_alike(facts, width_keys(facts) if method.any_width else ())
        self._prepared: dict[tuple[int, ...], Prepared] = {}

    def at(
        self, coefficients: Sequence[float] | Mapping[str, Sequence[float]] | None = None
    ) -> MergeResult:
        """Merge at these coefficients.

        Args:
            coefficients: See `merge`.

        Raises:
            MergeError: Parents that contradict each other, or a result that is not finite.
            InputError: Invalid coefficients, see `read_coefficients`.
        """
        started = time.perf_counter()
        shares = read_coefficients(coefficients, len(self.parents))
        contributing = self.contributing(shares)
        method = self.method
        figures: Figures = {}
        with torch.no_grad():
            if len(contributing) == 1:
                single = self.parents.only(contributing)
                merged = copy.deepcopy(single[0]).eval()
                facts = single.facts
                recorded: Sequence[Knowledge | None] = [facts[0].record.knowledge]
            else:
                prepared = self.prepared(contributing)
                facts, recorded = prepared.problem.parents.facts, prepared.recorded
                params, figures = method.combine(prepared.state, shares.only(contributing))
                merged = method.outline(prepared.problem)
                merged.load_state_dict(params)
                merged.eval()
        for name, tensor in merged.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise MergeError(
                    f"`{method.name}`: expected finite params, computed NaN or infinity in "
                    f"`{name}`; try another method"
                )
        lineage = {
            "method": method.name,
            "settings": method.settings(),
            "coefficients": list(shares.overall),
            "seed": self._seed,
            "parents": [parent.content for parent in self.parents.facts],
        }
        if shares.layers:  # a list keeps the order of patterns, a mapping is sorted in the file
            lineage["layers"] = [[pattern, list(values)] for pattern, values in shares.layers]
        merged.record = merged_record(facts, recorded, lineage, merged.aabb)
        report = {**lineage, **figures, "seconds": time.perf_counter() - started}
        return MergeResult(merged, report)

    def prepared(self, contributing: Sequence[int]) -> Prepared:
        """The first phase for these parents, computed once."""
        key = tuple(contributing)
        if key not in self._prepared:
            parents = self.parents.only(contributing)
            began = time.perf_counter() if self._prepared else self._began
            problem = MergeProblem(parents, self._seed, self._keep, self._on_progress, began)
            # Methods without knowledge check only what is recorded, which keeps them fast.
            recorded: Sequence[Knowledge | None] = [
                facts.record.knowledge for facts in parents.facts
            ]
            if self.method.needs_knowledge:
                recorded = problem.knowledge
            if not self._force:
                check_knowledge(recorded)
            self._prepared[key] = Prepared(problem, recorded, self.method.prepare(problem))
        return self._prepared[key]

    def contributing(self, shares: Coefficients) -> list[int]:
        """Numbers of the parents that have a coefficient above 0 for any tensor.

        Raises:
            InputError: Coefficients by layer for a method that does not support them.
        """
        if not shares.layers:
            return shares.contributing([])
        if not self.method.layerwise:
            takers = ", ".join(name for name in METHODS if METHODS[name].layerwise)
            raise InputError(
                f"`{self.method.name}` takes one coefficient per parent, the same for all layers; "
                f"these methods take coefficients by layer: {takers}"
            )
        tensors = [
            name
            for name, tensor in self.parents[0].state_dict().items()
            if tensor.is_floating_point() and name != BOX
        ]
        shares.check_patterns(tensors)
        return shares.contributing(tensors)


def merge(
    parents: Sequence[Field | PathLike],
    method: str | MergeMethod[Any] = "distill",
    *,
    coefficients: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    force: bool = False,
    device: torch.device | str = "cpu",
    on_progress: Callable[[float], None] = lambda share: None,
    **settings: Any,
) -> MergeResult:
    """Merge fields of one scene into one field of the size of one, without images.

    Example:
        >>> result = memonf.merge([front, rear], "distill", steps=300)  # doctest: +SKIP
        >>> memonf.save(result.field, "merged.safetensors")  # doctest: +SKIP

    Args:
        parents: Two or more fields or field files; the first is the reference whose unit order
            weight-space methods keep. Files are read when they are needed, two at most at once.
        method: Registered name, see ``memonf merge --help``, or a method object such as
            ``Distill(steps=300)``. The default is by far the best in quality and takes parents of
            any architecture; the weight-space methods take milliseconds to seconds.
        coefficients: Weight of each parent, each in [0, 1], sum 1; None: equal weights. A parent
            with coefficient 1 is returned exactly, one with 0 is ignored. Methods that average
            params also take coefficients by tensor: a mapping from patterns of tensor names to
            such lists, of which the first that matches is used, and ``"default"`` for the rest
            (docs/recipes.md).
        seed: Seed of every random choice.
        force: Merge also parents that contradict each other or have empty knowledge.
        device: Device that field files are read to.
        on_progress: Called during long work with the share done, in [0, 1].
        settings: The method's hyperparameters, if it is given by name.

    Raises:
        MergeError: Incompatible parents, or parents that contradict each other.
        InputError: Unknown method or setting, coefficients or seed out of range.
        FieldFileError: A field file cannot be read.
    """
    started = time.perf_counter()
    merger = Merger(
        parents, method, seed=seed, force=force, device=device, on_progress=on_progress,
        keep_parents=False, **settings,
    )  # fmt: skip
    result = merger.at(coefficients)
    result.report["seconds"] = time.perf_counter() - started
    return result
