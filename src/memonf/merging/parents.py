"""The parents of a merge: held in memory, or read from their files only while they are needed."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, overload

import torch

from ..errors import MergeError
from ..fields import Field, FieldConfig, Record, build_field
from ..io.checkpoint import content_hash, load
from ..symmetry import find_symmetry
from ..typing import Float, PathLike, Tensor
from .unit_maps import cut_axis

__all__ = ["ParentFacts", "Parents", "check_alike", "union_box", "width_keys"]

#: Field files whose networks are in memory at once: the reference and the one at work.
RESIDENT = 2


@dataclass(frozen=True)
class ParentFacts:
    """What a merge keeps of a parent while its network is not in memory.

    Attributes:
        name: Architecture.
        config: Its configuration.
        aabb: (2, 3), its box, scene units.
        record: Its cameras, knowledge, background, …
        content: Content hash.
    """

    name: str
    config: FieldConfig
    aabb: Float[Tensor, "2 3"]
    record: Record
    content: str


class Parents(Sequence[Field]):
    """Two or more finite fields on one device, in the order given.

    Args:
        sources: Fields, or field files; of the files at most two networks are in memory at once.
        device: Where files are read to.

    Raises:
        MergeError: Fewer than two, NaN params, or different devices.
        FieldFileError: A file cannot be read.
    """

    def __init__(
        self, sources: Sequence[Field | PathLike], device: torch.device | str = "cpu"
    ) -> None:
        if len(sources) < 2:
            raise MergeError(
                f"a merge needs two or more parents, received {len(sources)}; name another, or "
                "make it with `memonf train --data embedded:robot --group rear "
                "--out rear.safetensors`"
            )
        self.sources = tuple(untouchable(source) for source in sources)
        self.device = device
        self._resident: OrderedDict[int, Field] = OrderedDict()
        self.facts = tuple(facts_of(parent, number) for number, parent in enumerate(self, 1))
        for number, facts in enumerate(self.facts[1:], 2):
            if facts.aabb.device != self.facts[0].aabb.device:
                raise MergeError(
                    f"parent {number}: on {facts.aabb.device}, parent 1 is on "
                    f"{self.facts[0].aabb.device}; move both to one device"
                )

    def only(self, numbers: Sequence[int]) -> Parents:
        """Some of the parents, which were checked already."""
        if list(numbers) == list(range(len(self))):
            return self
        chosen = copy.copy(self)
        chosen.sources = tuple(self.sources[number] for number in numbers)
        chosen.facts = tuple(self.facts[number] for number in numbers)
        self._resident.clear()
        chosen._resident = OrderedDict()
        return chosen

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> Field: ...
    @overload
    def __getitem__(self, index: slice) -> list[Field]: ...
    def __getitem__(self, index: int | slice) -> Field | list[Field]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        source = self.sources[index]
        if isinstance(source, Field):
            return source
        place = range(len(self))[index]
        if place not in self._resident:
            while len(self._resident) >= RESIDENT:
                self._resident.popitem(last=False)
            self._resident[place] = load(Path(source), self.device)
        self._resident.move_to_end(place)
        return self._resident[place]


def untouchable(source: Field | PathLike) -> Field | PathLike:
    """A parent that evaluation does not change: in training mode batch norm updates statistics."""
    if isinstance(source, Field) and source.training:
        return copy.deepcopy(source).eval()
    return source


def facts_of(parent: Field, number: int) -> ParentFacts:
    """Read the facts off a parent; refuse params that are not finite."""
    for name, tensor in parent.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise MergeError(f"parent {number}: `{name}` holds NaN or infinity; train it again")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise MergeError(
                f"parent {number}: `{name}` is {tensor.dtype}, fields are float32; convert it with "
                "`field.float()`"
            )
    record = parent.record
    if record.knowledge is not None:  # moving a field to a device does not move its record
        record = replace(record, knowledge=record.knowledge.to(parent.aabb.device))
    return ParentFacts(parent.name, parent.config, parent.aabb, record, content_hash(parent))


def check_alike(parents: Sequence[ParentFacts], free: Collection[str] = ()) -> None:
    """Refuse parents whose params cannot be combined, and name the first difference.

    Args:
        parents: What is known of them.
        free: Keys of their configurations that may differ.
    """
    first = parents[0]
    instead = "merge them with `distill`, which takes parents of any kind"
    for number, parent in enumerate(parents[1:], 2):
        where = f"parent {number}"
        if parent.name != first.name:
            raise MergeError(
                f"{where}: architecture `{parent.name}`, parent 1 is `{first.name}`; weight-space "
                f"merging needs one architecture: {instead}"
            )
        first_config, config = first.config.as_dict(), parent.config.as_dict()
        for key, value in first_config.items():
            if config[key] != value and key not in free:
                raise MergeError(
                    f"{where}: `{key}` is {config[key]!r}, parent 1 has {value!r}; weight-space "
                    f"merging needs equal configurations: {instead}"
                )
        if not torch.allclose(parent.aabb, first.aabb, rtol=0, atol=1e-6):
            raise MergeError(
                f"{where}: box {parent.aabb.tolist()}, parent 1 has {first.aabb.tolist()}; the "
                f"encodings differ with the box: {instead}"
            )
        if parent.record.background != first.record.background:
            raise MergeError(
                f"{where}: background {parent.record.background}, parent 1 has "
                f"{first.record.background}; what the params learnt differs with it: {instead}"
            )


def width_keys(parents: Sequence[ParentFacts]) -> set[str]:
    """Keys of the configuration that differ among parents and change only the sizes of groups.

    Changing such a key alone changes the shapes of tensors only along axes of hidden units.
    """
    first = parents[0]
    shapes, axes = layout_of(first, first.config)
    only_widths: dict[str, bool] = {}
    for parent in parents[1:]:
        if parent.name != first.name:
            continue
        first_config, other_config = first.config.as_dict(), parent.config.as_dict()
        for key in (key for key, value in first_config.items() if other_config[key] != value):
            config = type(first.config).from_dict({**first_config, key: other_config[key]}, "width")
            other_shapes, other_axes = layout_of(first, config)
            resized = axes == other_axes and shapes != other_shapes
            only_widths[key] = only_widths.get(key, True) and resized
    return {key for key, resized in only_widths.items() if resized}


#: Tensor -> its shape, and tensor -> axes -> what lies along them: names of groups, or lengths.
TensorLayout: TypeAlias = "tuple[dict[str, tuple[int, ...]], dict[str, list[list[str | int]]]]"


def layout_of(parent: ParentFacts, config: FieldConfig) -> TensorLayout:
    """Shapes of a field of this configuration, and what its tensors carry."""
    field = build_field(parent.name, config, parent.aabb.cpu())
    symmetry = find_symmetry(field)
    state = field.state_dict()
    axes = {
        name: [
            [group or part.shape[axis] for group, part in cut_axis(symmetry, name, axis, tensor)]
            for axis in range(tensor.ndim)
        ]
        for name, tensor in state.items()
    }
    return {name: tuple(tensor.shape) for name, tensor in state.items()}, axes


def union_box(parents: Sequence[ParentFacts]) -> Float[Tensor, "2 3"]:
    """The smallest box that holds the boxes of all parents."""
    lower = torch.stack([parent.aabb[0] for parent in parents]).amin(0)
    return torch.stack([lower, torch.stack([parent.aabb[1] for parent in parents]).amax(0)])
