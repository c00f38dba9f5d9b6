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
from ..knowledge import Knowledge
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
#: The one tensor that the parents of weight-space methods have in common.
BOX = "aabb"


@dataclass(frozen=True)
class MergeResult:
    """A merged field and what is known of how it came about.

    Attributes:
        field: The merged field, of the size of one parent.
        report: Method, settings, coefficients, seconds and the method's own figures.
    """

    field: Field
    report: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Parents that have a say, and what a method found out about them.

    Attributes:
        problem: The parents.
        recorded: What each of them saw; None where it is not recorded and was not asked for.
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
        force: Merge parents that contradict each other, or know nothing, all the same.
        device: Where field files are read to.
        on_progress: Called with the share done as long work goes on.
        keep_parents: Whether what was computed for each parent stays in memory, so that the next
            coefficients take milliseconds; if not, two parents at most are in memory at a time.
        settings: The method's own hyperparameters, where it is given by name.

    Raises:
        MergeError: Parents that do not fit together.
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
                f"settings {', '.join(settings)}: received beside a method object, which has its "
                f"own; give them to `{type(method).__name__}(...)`"
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
            InputError: Coefficients that do not weigh the parents.
        """
        started = time.perf_counter()
        shares = read_coefficients(coefficients, len(self.parents))
        having_a_say = self.parents_with_a_say(shares)
        method = self.method
        figures: Figures = {}
        with torch.no_grad():
            if len(having_a_say) == 1:
                heeded = self.parents.only(having_a_say)
                merged = copy.deepcopy(heeded[0]).eval()
                facts = heeded.facts
                recorded: Sequence[Knowledge | None] = [facts[0].record.knowledge]
            else:
                prepared = self.prepared(having_a_say)
                facts, recorded = prepared.problem.parents.facts, prepared.recorded
                params, figures = method.combine(prepared.state, shares.only(having_a_say))
                merged = method.outline(prepared.problem)
                merged.load_state_dict(params)
                merged.eval()
        for name, tensor in merged.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise MergeError(
                    f"`{method.name}` made `{name}` NaN or infinite; try another method"
                )
        lineage = {
            "method": method.name,
            "settings": method.settings(),
            "coefficients": list(shares.overall),
            "seed": self._seed,
            "parents": [parent.content for parent in self.parents.facts],
        }
        if shares.layers:  # a list: the first pattern that matches wins, a file sorts its mappings
            lineage["layers"] = [[pattern, list(own)] for pattern, own in shares.layers]
        merged.record = merged_record(facts, recorded, lineage, merged.aabb)
        report = {**lineage, **figures, "seconds": time.perf_counter() - started}
        return MergeResult(merged, report)

    def prepared(self, having_a_say: Sequence[int]) -> Prepared:
        """The first phase for these parents, done once."""
        key = tuple(having_a_say)
        if key not in self._prepared:
            parents = self.parents.only(having_a_say)
            began = time.perf_counter() if self._prepared else self._began
            problem = MergeProblem(parents, self._seed, self._keep, self._on_progress, began)
            # Methods that use no knowledge look only at what is recorded; they are to stay fast.
            recorded: Sequence[Knowledge | None] = [
                facts.record.knowledge for facts in parents.facts
            ]
            if self.method.needs_knowledge:
                recorded = problem.knowledge
            if not self._force:
                check_knowledge(recorded)
            self._prepared[key] = Prepared(problem, recorded, self.method.prepare(problem))
        return self._prepared[key]

    def parents_with_a_say(self, shares: Coefficients) -> list[int]:
        """Numbers of the parents with a coefficient above 0 anywhere.

        Raises:
            InputError: Coefficients by layer for a method that does not follow them.
        """
        if not shares.layers:
            return shares.heard([])
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
        return shares.heard(tensors)


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
        >>> result = memonf.merge(["front.safetensors", "rear.safetensors"], "distill", steps=300)
        >>> memonf.save(result.field, "merged.safetensors")

    Args:
        parents: Two or more fields or field files; the first is the reference whose unit order
            weight-space methods keep. Files are read when they are needed, two at most at once.
        method: Registered name, see ``memonf merge --help``, or a method object such as
            ``Distill(steps=300)``. The default is by far the best in quality and takes parents of
            any kind; the weight-space methods take milliseconds to seconds.
        coefficients: Weight of each parent, each in [0, 1], sum 1; None weighs equally. A parent
            with coefficient 1 is given back exactly, one with 0 has no say. Methods that average
            params take other ones for chosen tensors: a mapping from patterns of tensor names to
            such lists, the first that matches wins, ``"default"`` for the rest
            (docs/recipes.md).
        seed: Seed of every random choice.
        force: Merge parents that contradict each other, or know nothing, all the same.
        device: Where field files are read to.
        on_progress: Called with the share done as long work goes on.
        settings: The method's own hyperparameters, where it is given by name.

    Raises:
        MergeError: Parents that do not fit together, or contradict each other.
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
