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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as settings_dataclass

from ..cameras import Cameras
from ..checkpoint import content_hash
from ..errors import InputError, MergeError, nearest
from ..fields import Field
from ..registry import Registry
from ..sampling import OccupancyGrid
from ..symmetry import Params, Symmetry, find_symmetry
from ..typing import Float, Tensor

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
    """Parents that can be merged, and what methods look up about them.

    Attributes:
        parents: Two or more fields of one architecture, never changed.
        coefficients: Weight of each parent, sum 1.
        seed: Seed of every random choice.
        report: Methods note their figures here.
        on_progress: Methods that take long call it with the share done, in [0, 1].
    """

    parents: tuple[Field, ...]
    coefficients: tuple[float, ...]
    seed: int
    report: dict[str, Any] = field(default_factory=dict)
    on_progress: Callable[[float], None] = lambda share: None

    @cached_property
    def symmetry(self) -> Symmetry:
        """Symmetry of the parents' architecture."""
        return find_symmetry(self.parents[0])

    @cached_property
    def params(self) -> tuple[Params, ...]:
        """State of each parent."""
        return tuple(dict(parent.state_dict()) for parent in self.parents)

    @cached_property
    def content(self) -> tuple[str, ...]:
        """Content hash of each parent."""
        return tuple(content_hash(parent) for parent in self.parents)

    def network_inputs(self, points: int, free_share: float) -> list[Tensor | None]:
        """Arguments of the networks at points where the parents have density, and in the box.

        Each parent contributes equally, and draws the same points whatever its place is.

        Args:
            points: Number of points.
            free_share: Share of them drawn anywhere in the box, in [0, 1]. What units do in free
                space decides whether a merge is clear air or fog.

        Returns:
            Normalised positions (points, 3), and directions (points, 3) or None.
        """
        share = math.ceil(points / len(self.parents))
        positions, directions = [], []
        for parent, content in zip(self.parents, self.content, strict=True):
            generator = torch.Generator().manual_seed(self.seed ^ int(content[:12], 16))
            free = round(free_share * share)
            placed = torch.cat(
                [
                    occupied_positions(parent, share - free, generator),
                    box_positions(parent, free, generator),
                ]
            )
            positions.append(parent.normalise(placed))
            directions.append(viewing_directions(parent.record.cameras, placed, generator))
        joined = torch.cat(directions) if self.parents[0].view_dependent else None
        return [torch.cat(positions), joined]

    def field_with(self, params: Params) -> Field:
        """A new field of the parents' architecture with these params."""
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
    #: Does it render at the parents' training cameras?
    needs_cameras: ClassVar[bool] = False
    #: Is merge([a, a]) the same function as a, up to float noise?
    idempotent: ClassVar[bool] = True
    #: Does merge([a, b]) compute the same function as merge([b, a])?
    symmetric: ClassVar[bool] = False

    @abstractmethod
    def combine(self, problem: MergeProblem) -> Params:
        """Make the merged params; `problem` is read, its report may be written."""

    def settings(self) -> dict[str, Any]:
        """The hyperparameters, as plain values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]


def merge(
    parents: Sequence[Field],
    method: str = "distill",
    *,
    coefficients: Sequence[float] | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda share: None,
    **settings: Any,
) -> MergeResult:
    """Merge fields of one architecture into one field of the same size, without images.

    Args:
        parents: Two or more fields; the first is the reference whose unit order is kept.
        method: Registered name, see ``memonf merge --help``. The default is by far the best in
            quality; the weight-space methods take milliseconds to a second.
        coefficients: Weight of each parent, each in [0, 1], sum 1; None weighs equally. A parent
            with coefficient 1 is given back exactly.
        seed: Seed of every random choice.
        on_progress: Called with the share done as long work goes on.
        settings: The method's own hyperparameters.

    Raises:
        MergeError: Parents that do not fit together.
        InputError: Unknown method or setting, coefficients out of range.
    """
    started = time.perf_counter()
    chosen = build_method(method, settings)
    check_parents(parents)
    shares = check_coefficients(coefficients, len(parents))
    problem = MergeProblem(tuple(parents), shares, seed, on_progress=on_progress)
    with torch.no_grad():
        if 1.0 in shares:
            merged = copy.deepcopy(parents[shares.index(1.0)]).eval()
        else:
            merged = problem.field_with(chosen.combine(problem))
    for name, tensor in merged.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise MergeError(f"`{method}` made `{name}` NaN or infinite; try another method")
    lineage = {
        "method": method,
        "settings": chosen.settings(),
        "coefficients": list(shares),
        "seed": seed,
        "parents": list(problem.content),
    }
    merged.record = merged_record(parents, lineage)
    report = {**lineage, **problem.report, "seconds": time.perf_counter() - started}
    return MergeResult(merged, report)


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


def check_coefficients(coefficients: Sequence[float] | None, parents: int) -> tuple[float, ...]:
    """Equal coefficients by default; refuse what is not a weighting of the parents."""
    if coefficients is None:
        return (1.0 / parents,) * parents
    shares = tuple(float(value) for value in coefficients)
    if len(shares) != parents:
        raise InputError(f"coefficients: expected {parents}, one a parent, received {len(shares)}")
    if not all(math.isfinite(share) and 0 <= share <= 1 for share in shares):
        raise InputError(f"coefficients: expected numbers in [0, 1], received {list(shares)}")
    if abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"coefficients: expected a sum of 1, received {sum(shares):g}")
    return shares


def check_parents(parents: Sequence[Field]) -> None:
    """Refuse, by name, parents whose params cannot be laid side by side."""
    if len(parents) < 2:
        raise MergeError(f"a merge needs two or more parents, received {len(parents)}")
    first = parents[0]
    for number, parent in enumerate(parents[1:], 2):
        where = f"parent {number}"
        if parent.name != first.name:
            raise MergeError(
                f"{where}: architecture `{parent.name}`, parent 1 is `{first.name}`; weight-space "
                "merging needs one architecture, train both alike"
            )
        ours, theirs = first.config.as_dict(), parent.config.as_dict()
        for key, value in ours.items():
            if theirs[key] != value:
                raise MergeError(
                    f"{where}: `{key}` is {theirs[key]!r}, parent 1 has {value!r}; weight-space "
                    "merging needs equal configurations, train both alike"
                )
        if not torch.allclose(parent.aabb, first.aabb.to(parent.aabb), rtol=0, atol=1e-6):
            raise MergeError(
                f"{where}: box {parent.aabb.tolist()}, parent 1 has {first.aabb.tolist()}; the "
                "encodings differ with the box, train both in one box"
            )
        if parent.aabb.device != first.aabb.device:
            raise MergeError(
                f"{where}: on {parent.aabb.device}, parent 1 is on {first.aabb.device}; "
                "move both to one device"
            )
        if parent.record.background != first.record.background:
            raise MergeError(
                f"{where}: background {parent.record.background}, parent 1 has "
                f"{first.record.background}; train both on one background"
            )
    for number, parent in enumerate(parents, 1):
        for name, tensor in parent.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise MergeError(f"parent {number}: `{name}` holds NaN or infinity; train it again")


def combine_params(params: Sequence[Params], coefficients: Sequence[float]) -> Params:
    """Σ c_i params_i, in float64 then rounded once; counters are taken from the first."""
    merged: Params = {}
    for name, first in params[0].items():
        if not first.is_floating_point():
            merged[name] = first.clone()
            continue
        total = torch.zeros_like(first, dtype=torch.float64)
        for share, state in zip(coefficients, params, strict=True):
            total += share * state[name].double()
        merged[name] = total.to(first.dtype)
    return merged


def merged_record(parents: Sequence[Field], lineage: dict[str, Any]) -> Any:
    """Record of a merged field: the cameras of all parents, the widest range."""
    records = [parent.record for parent in parents]
    groups = list(dict.fromkeys(record.group for record in records))
    scenes = list(dict.fromkeys(record.scene for record in records if record.scene))
    return dataclasses.replace(
        records[0],
        near=min(record.near for record in records),
        far=max(record.far for record in records),
        cameras=joined_cameras([record.cameras for record in records]),
        group=" + ".join(groups),
        scene=" + ".join(scenes),
        training={},
        lineage=lineage,
    )


def joined_cameras(parts: Sequence[Cameras | None]) -> Cameras | None:
    """All cameras together at the first one's image size; None if a parent's are unknown."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    width, height = known[0].width, known[0].height
    known = [part.resized(width, height) for part in known]
    return Cameras(
        torch.cat([part.camera_to_world for part in known]),
        torch.cat([part.intrinsics for part in known]),
        width,
        height,
    )


def occupied_positions(
    parent: Field, count: int, generator: torch.Generator
) -> Float[Tensor, "points 3"]:
    """Random positions in the cells where a field has density; anywhere if it has none."""
    grid = OccupancyGrid(parent.aabb)
    grid.update(parent.density)
    cells = grid.occupied.nonzero()[:, 0]
    if len(cells) == 0:
        cells = torch.arange(grid.resolution**3, device=parent.aabb.device)
    picked = cells[torch.randint(len(cells), (count,), generator=generator).to(cells.device)]
    jitter = torch.rand(count, 3, generator=generator).to(parent.aabb) - 0.5
    return grid.centres()[picked] + jitter * grid.cell


def box_positions(
    parent: Field, count: int, generator: torch.Generator
) -> Float[Tensor, "points 3"]:
    """Random positions anywhere in a field's box."""
    unit = torch.rand(count, 3, generator=generator).to(parent.aabb)
    return parent.aabb[0] + unit * (parent.aabb[1] - parent.aabb[0])


def viewing_directions(
    cameras: Cameras | None, positions: Tensor, generator: torch.Generator
) -> Float[Tensor, "points 3"]:
    """A direction for each position: from one of the cameras; any direction if none are known."""
    if cameras is None:
        random = torch.randn(positions.shape, generator=generator).to(positions)
        return torch.nn.functional.normalize(random, dim=-1)
    views = torch.randint(len(cameras), (len(positions),), generator=generator)
    centres = cameras.positions[views.to(cameras.positions.device)].to(positions)
    return torch.nn.functional.normalize(positions - centres, dim=-1)
