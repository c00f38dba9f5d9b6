"""What every merge method is, and the steps that they share.

A method is one file in this package: a registered frozen dataclass whose fields are its settings
and whose `combine` makes the merged params. Class attributes state its claims; the property tests
hold it to them, and the command line, the docs table and the citation are read off the same class.

Symbols: c_i coefficient of parent i, Σ c_i = 1. Parent 0 is the reference: its unit order is kept.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as settings_dataclass

from ..errors import InputError, MergeError, nearest
from ..fields import Field, known
from ..knowledge import Knowledge
from ..registry import Registry
from ..symmetry import Params, Symmetry, find_symmetry
from ..typing import PathLike
from .checks import check_knowledge, check_placements, check_symmetry
from .coefficients import Coefficients, read_coefficients
from .parents import Parents, check_alike, width_keys
from .positions import Positions, sample_positions, trust_in
from .records import merged_record

__all__ = [
    "METHODS",
    "SETTINGS",
    "MergeMethod",
    "MergeProblem",
    "MergeResult",
    "combine_params",
    "merge",
    "settings_dataclass",
]

METHODS: Registry[MergeMethod] = Registry("merge method", "memonf.merging")

#: Rules for the settings of all methods: frozen, no unknown names, checked values.
SETTINGS: dict[str, Any] = {"frozen": True, "config": {"extra": "forbid"}}

#: Seeds lie in [-SEEDS, SEEDS), as torch takes them.
SEEDS = 1 << 63

Found = TypeVar("Found")

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
class MergeProblem:
    """Parents to be merged, and what methods look up about them.

    Attributes:
        parents: Two or more fields, never changed.
        coefficients: Weight of each parent, sum 1, overall.
        seed: Seed of every random choice.
        report: Methods note their figures here.
        began: When the merge began, on the clock of `time.perf_counter`.
        on_progress: Methods that take long call it with the share done, in [0, 1].
        layers: Other coefficients by pattern of tensor names, see `Coefficients`; empty for methods
            that are not `MergeMethod.layerwise`.
        memory: What hangs on the parents and not on the coefficients, kept for the next merge of
            the same parents; None to keep nothing, so that two parents at most are in memory.
    """

    parents: Parents
    coefficients: tuple[float, ...]
    seed: int
    report: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    on_progress: Callable[[float], None] = lambda share: None
    layers: tuple[tuple[str, tuple[float, ...]], ...] = ()
    memory: dict[Hashable, Any] | None = None

    def remember(self, what: Hashable, find: Callable[[], Found]) -> Found:
        """What `find` gives, found once for all merges that share a memory."""
        if self.memory is None:
            return find()
        if what not in self.memory:
            self.memory[what] = find()
        return self.memory[what]

    @cached_property
    def layer_coefficients(self) -> Coefficients:
        """Coefficients of each tensor, for `combine_params`."""
        return Coefficients(self.coefficients, self.layers)

    def coefficients_of(self, tensor: str) -> tuple[float, ...]:
        """Weight of each parent in the tensor of this name, sum 1."""
        return self.layer_coefficients.of(tensor)

    @cached_property
    def symmetry(self) -> Symmetry:
        """Symmetry of the first parent's architecture, verified on that parent.

        Raises:
            InputError: The forward pass cannot be read.
            MergeError: What was read is no symmetry.
        """
        return self.remember("symmetry", self.find_symmetry)

    def find_symmetry(self) -> Symmetry:
        """Look for `symmetry`, and verify it."""
        first = self.parents[0]
        found = find_symmetry(first)
        check_symmetry(first, found, self.seed)
        return found

    @cached_property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """What each parent saw."""
        return self.remember("knowledge", lambda: tuple(known(parent) for parent in self.parents))

    def params(self, parent: int) -> Params:
        """State of one parent."""
        return dict(self.parents[parent].state_dict())

    def generator(self, parent: int) -> torch.Generator:
        """Random numbers that a parent draws alike whatever its place is."""
        content = int(self.parents.facts[parent].content[:12], 16)
        return torch.Generator().manual_seed(self.seed ^ content)

    def positions(self, points: int, free_share: float, use_knowledge: bool) -> Positions:
        """Points where the parents have density, and in the box; as many from each parent.

        Args:
            points: Number of points.
            free_share: Share of them drawn anywhere in the box, in [0, 1]. What units do in free
                space decides whether a merge is clear air or fog.
            use_knowledge: Whether matter is taken where a parent saw it, and trust follows what
                each parent saw.
        """
        return self.remember(
            ("positions", points, free_share, use_knowledge),
            lambda: self.find_positions(points, free_share, use_knowledge),
        )

    def find_positions(self, points: int, free_share: float, use_knowledge: bool) -> Positions:
        """Draw `positions`."""
        share = math.ceil(points / len(self.parents))
        placed, directions = [], []
        known_by = self.knowledge if use_knowledge else (None,) * len(self.parents)
        for number, parent in enumerate(self.parents):
            here, towards = sample_positions(
                parent, known_by[number], share, free_share, self.generator(number)
            )
            placed.append(here)
            directions.append(towards)
        joined = torch.cat(placed)
        trust = torch.ones(len(self.parents), len(joined), device=joined.device)
        if use_knowledge:
            trust = torch.stack([trust_in(knowledge, joined) for knowledge in self.knowledge])
        first = self.parents[0]
        inputs = [first.normalise(joined), torch.cat(directions) if first.view_dependent else None]
        return Positions(inputs, trust)

    def field_with(self, params: Params) -> Field:
        """A new field of the first parent's architecture with these params."""
        merged = copy.deepcopy(self.parents[0])
        merged.load_state_dict(params)
        return merged.eval()


class MergeMethod(ABC):
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
    #: Is the merge fitted to what the parents say, rather than combined from their params?
    function_space: ClassVar[bool] = False
    #: Is merge([a, a]) the same function as a, up to float noise?
    idempotent: ClassVar[bool] = True
    #: Does merge([a, b]) compute the same function as merge([b, a])?
    symmetric: ClassVar[bool] = False
    #: Does it heed `MergeProblem.coefficients_of`, other coefficients for chosen tensors?
    layerwise: ClassVar[bool] = False

    @abstractmethod
    def combine(self, problem: MergeProblem) -> Params:
        """Make the merged params; `problem` is read, its report may be written."""

    def merged(self, problem: MergeProblem) -> Field:
        """The merged field; methods that may choose another architecture override this."""
        return problem.field_with(self.combine(problem))

    def settings(self) -> dict[str, Any]:
        """The hyperparameters, as plain values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]


def merge(
    parents: Sequence[Field | PathLike],
    method: str = "distill",
    *,
    coefficients: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    force: bool = False,
    device: torch.device | str = "cpu",
    on_progress: Callable[[float], None] = lambda share: None,
    memory: dict[Hashable, Any] | None = None,
    **settings: Any,
) -> MergeResult:
    """Merge fields of one scene into one field of the size of one, without images.

    Args:
        parents: Two or more fields or field files; the first is the reference whose unit order
            weight-space methods keep. Files are read when they are needed, two at most at once.
        method: Registered name, see ``memonf merge --help``. The default is by far the best in
            quality and takes parents of any kind; the weight-space methods take milliseconds to
            seconds.
        coefficients: Weight of each parent, each in [0, 1], sum 1; None weighs equally. A parent
            with coefficient 1 is given back exactly, one with 0 has no say. Methods that average
            params take other ones for chosen tensors: a mapping from patterns of tensor names to
            such lists, the first that matches wins, ``"default"`` for the rest
            (docs/recipes.md).
        seed: Seed of every random choice.
        force: Merge parents that contradict each other, or know nothing, all the same.
        device: Where field files are read to.
        on_progress: Called with the share done as long work goes on.
        memory: A dictionary in which merges of the same parents keep what does not hang on the
            coefficients, above all the alignment: the next one is then several times as fast and
            the same to the bit. One may serve any parents and methods; all parents stay in memory.
        settings: The method's own hyperparameters.

    Raises:
        MergeError: Parents that do not fit together, or contradict each other.
        InputError: Unknown method or setting, coefficients or seed out of range.
        FieldFileError: A field file cannot be read.
    """
    started = time.perf_counter()
    chosen = build_method(method, settings)
    if not -SEEDS <= seed < SEEDS:
        raise InputError(f"seed: expected a whole number of 64 bits, received {seed}")
    given = Parents(parents, device)
    check_placements([facts.record.placement for facts in given.facts])
    if not chosen.any_architecture:
        check_alike(given.facts, width_keys(given.facts) if chosen.any_width else ())
    shares = read_coefficients(coefficients, len(parents))
    heard = heard_parents(shares, chosen, given)
    heeded, left = given.only(heard), shares.only(heard)
    if memory is not None:
        contents = tuple(facts.content for facts in heeded.facts)
        memory = memory.setdefault((repr(chosen), seed, str(device), contents), {})
    problem = MergeProblem(
        heeded, left.overall, seed, began=started, on_progress=on_progress, layers=left.layers,
        memory=memory,
    )  # fmt: skip
    # Methods that use no knowledge look only at what is recorded; they are to stay fast.
    recorded: Sequence[Knowledge | None] = [facts.record.knowledge for facts in heeded.facts]
    with torch.no_grad():
        if len(heard) == 1:
            merged = copy.deepcopy(heeded[0]).eval()
        else:
            if chosen.needs_knowledge:
                recorded = problem.knowledge
            if not force:
                check_knowledge(recorded)
            merged = chosen.merged(problem)
    for name, tensor in merged.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise MergeError(f"`{method}` made `{name}` NaN or infinite; try another method")
    lineage = {
        "method": method,
        "settings": chosen.settings(),
        "coefficients": list(shares.overall),
        "seed": seed,
        "parents": [facts.content for facts in given.facts],
    }
    if shares.layers:  # a list: the first pattern that matches wins, a file sorts its mappings
        lineage["layers"] = [[pattern, list(own)] for pattern, own in shares.layers]
    merged.record = merged_record(heeded.facts, recorded, lineage, merged.aabb)
    report = {**lineage, **problem.report, "seconds": time.perf_counter() - started}
    return MergeResult(merged, report)


def heard_parents(shares: Coefficients, method: MergeMethod, parents: Parents) -> list[int]:
    """Numbers of the parents that have a say; refuse layer coefficients that cannot be heeded."""
    if not shares.layers:
        return shares.heard([])
    if not method.layerwise:
        takers = ", ".join(name for name in METHODS if METHODS[name].layerwise)
        raise InputError(
            f"`{method.name}` takes one coefficient a parent, the same for all layers; these "
            f"methods take coefficients by layer: {takers}"
        )
    tensors = [
        name
        for name, tensor in parents[0].state_dict().items()
        if tensor.is_floating_point() and name != BOX
    ]
    shares.check_patterns(tensors)
    return shares.heard(tensors)


def build_method(name: str, settings: dict[str, Any]) -> MergeMethod:
    """Look the method up and check its settings; unknown names are refused with the nearest."""
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


def combine_params(
    params: Iterable[Params], coefficients: Sequence[float] | Coefficients
) -> Params:
    """Σ c_i params_i, in float64 then rounded once; counters are taken from the first.

    The parents' params are taken one after the other: only one needs to be in memory.

    Args:
        params: Params of each parent.
        coefficients: Weight of each parent, for all tensors or for each its own.
    """
    if not isinstance(coefficients, Coefficients):
        coefficients = Coefficients(tuple(coefficients))
    first: Params = {}
    totals: Params = {}
    for number, state in zip(range(len(coefficients.overall)), params, strict=True):
        if not first:
            first = {name: tensor.clone() for name, tensor in state.items()}
            totals = {
                name: torch.zeros_like(tensor, dtype=torch.float64)
                for name, tensor in state.items()
                if tensor.is_floating_point()
            }
        for name, total in totals.items():
            total += coefficients.of(name)[number] * state[name].double()
    return first | {name: total.to(first[name].dtype) for name, total in totals.items()}
