"""Base of all neural fields: positions (and directions) in, density and colour out.

A field architecture is one file in this package: a frozen `FieldConfig` whose values rebuild the
network, and a `Field` subclass with the network's layers and `raw`, its forward pass. Everything
else (file format, symmetry, matching, merging, rendering) is derived from these two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import nn
from torch.nn import functional as F

from ..cameras.cameras import Cameras
from ..cameras.frames import Placement
from ..errors import InputError, nearest
from ..rendering.knowledge import SOLID_RESOLUTION, Knowledge, assumed_cameras, observe
from ..rendering.occupancy_grid import OccupancyGrid
from ..typing import Float, Tensor
from ..utils.devices import check_memory
from ..utils.registry import Registry

__all__ = [
    "ACTIVATIONS",
    "CONFIG_RULES",
    "FIELDS",
    "Field",
    "FieldConfig",
    "FieldOutput",
    "Record",
    "build_field",
    "hidden_layers",
    "known",
    "outline",
    "run_hidden_layers",
    "shifted_softplus",
]

FIELDS: Registry[Field] = Registry("field", package="memonf.fields", group="memonf.architectures")

CONFIG_RULES = ConfigDict(extra="forbid", allow_inf_nan=False)

#: Bytes that each param of a fresh field takes.
PARAM_BYTES = 4
#: Hidden activations an architecture may offer by name.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "tanh": nn.Tanh,
}


class FieldOutput(NamedTuple):
    """Density and colour of a field at points in space.

    Example:
        >>> output = build_field("tiny_nerf", None, box)(torch.zeros(5, 3))
        >>> output.density.shape, output.rgb.shape
        (torch.Size([5]), torch.Size([5, 3]))

    Attributes:
        density: (...), >= 0, per scene unit.
        rgb: (..., 3), in [0, 1].
    """

    density: Tensor
    rgb: Tensor


@dataclass(frozen=True)
class FieldConfig:
    """Base of the configurations; subclasses are frozen pydantic dataclasses."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a field file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> FieldConfig:
        """Rebuild a configuration; unknown keys and wrong types are refused by name."""
        known = list(cls.__dataclass_fields__)
        for key in values:
            if key not in known:
                raise InputError(f"{where}: unknown config key `{key}`; {nearest(key, known)}")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "config"
            raise InputError(
                f"{where}: config `{key}`: {first['msg']}, received {first['input']!r}"
            ) from None


@dataclass(frozen=True)
class Record:
    """Origin of a field, its knowledge, and how it is rendered; saved in the field file.

    Attributes:
        near: Nearest distance from a camera at which anything is rendered, scene units.
        far: Farthest distance at which anything is rendered, scene units.
        background: Colour behind the box, rgb in [0, 1].
        cameras: Cameras of the training views; None if unknown.
        placement: Transform from the capture's coordinates to the field's; None if they are equal.
        knowledge: What these cameras saw; None if it was not recorded, see `known`.
        group: View group the field was trained on (``front``, ``rear``, ``all``, ``sector 2/4``).
        scene: Name of the data set.
        training: Settings and outcome of training (optimiser, seed, steps, seconds, ...).
        lineage: For a merged field: method, settings, coefficients and content hashes of the
            parents, in the order given.
    """

    near: float = 0.0
    far: float = 1e6
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    cameras: Cameras | None = None
    placement: Placement | None = None
    knowledge: Knowledge | None = None
    group: str = "all"
    scene: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)


class Field(nn.Module, ABC):
    """A radiance field inside an axis-aligned box; outside it the density is zero.

    Example:
        >>> field = build_field("tiny_nerf", None, box)
        >>> field.density(torch.tensor([2.0, 0.0, 0.0])).item()  # outside the box
        0.0

    Args:
        config: The architecture's configuration.
        aabb: (2, 3), lower and upper corner of the box, scene units.
    """

    name: ClassVar[str]
    Config: ClassVar[type[FieldConfig]]
    #: Whether the colour depends on the viewing direction.
    view_dependent: bool = False
    #: Where merges sample the field as a teacher: along ``rays`` of cameras, or at ``points``.
    asked_along: ClassVar[str] = "rays"
    #: Whether its density is exactly 0 right beside matter; such fields are sampled more densely.
    sharp: ClassVar[bool] = False
    #: Factor of learning rates: architectures with small params need small steps.
    rate_scale: float = 1.0

    aabb: Tensor

    def __init__(self, config: FieldConfig, aabb: Float[Tensor, "2 3"]) -> None:
        super().__init__()
        self.config = config
        self.record = Record()
        self.register_buffer("aabb", torch.as_tensor(aabb, dtype=torch.float32).clone())

    @abstractmethod
    def raw(self, positions: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """The network itself: every layer whose params a merge has to align.

        Args:
            positions: (points, 3), the box mapped into [-1, 1].
            directions: (points, 3), unit length; None if only the density is needed.

        Returns:
            Density before its activation (points,) and colour before its sigmoid (points, 3).
        """

    def raw_density(self, positions: Tensor) -> Tensor:
        """`raw` without the colour; architectures with a separate colour branch skip it here."""
        return self.raw(positions, None)[0]

    def activate_density(self, raw: Tensor) -> Tensor:
        """Density per scene unit, >= 0, from the network's output of any shape."""
        return shifted_softplus(raw)

    def normalise(self, positions: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """Map the box into [-1, 1] by one scale for all axes, so that the longest side fills it."""
        centre = self.aabb.mean(0)
        return (positions - centre) / (0.5 * (self.aabb[1] - self.aabb[0]).max())

    def inside(self, positions: Float[Tensor, "*points 3"]) -> Tensor:
        """Whether each point lies in the box (border included)."""
        return ((positions >= self.aabb[0]) & (positions <= self.aabb[1])).all(-1)

    def forward(self, positions: Tensor, directions: Tensor | None = None) -> FieldOutput:
        """Density and colour at points in space.

        Args:
            positions: (..., 3), scene units.
            directions: (..., 3), unit viewing directions; only view-dependent fields need them.

        Raises:
            InputError: Directions are missing, or shapes do not fit.
        """
        if positions.shape[-1:] != (3,):
            raise InputError(f"positions: expected (..., 3), received {tuple(positions.shape)}")
        if self.view_dependent and directions is None:
            raise InputError(
                f"field `{self.name}` depends on the viewing direction: pass directions (..., 3)"
            )
        shape = positions.shape[:-1]
        flat = positions.reshape(-1, 3)
        if directions is not None:
            directions = directions.expand_as(positions).reshape(-1, 3)
        raw_density, raw_rgb = self.raw(self.normalise(flat), directions)
        density = self.activate_density(raw_density) * self.inside(flat)
        return FieldOutput(density.reshape(shape), raw_rgb.sigmoid().reshape(*shape, 3))

    def density(self, positions: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points"]:
        """Density alone, per scene unit; cheaper than `forward` for view-dependent fields."""
        flat = positions.reshape(-1, 3)
        raw = self.raw_density(self.normalise(flat))
        density = self.activate_density(raw) * self.inside(flat)
        return density.reshape(positions.shape[:-1])

    def parameter_count(self) -> int:
        """Number of trainable params."""
        return sum(param.numel() for param in self.parameters())


def known(field: Field, grid: OccupancyGrid | None = None) -> Knowledge:
    """Knowledge of a field: as recorded, or computed from its cameras and its density.

    A field without known cameras is treated as seen from all around its box.

    Args:
        field: The field.
        grid: Its density with `SOLID_RESOLUTION`, if the caller has it; the recorded knowledge is
            then ignored.
    """
    if grid is None:
        if field.record.knowledge is not None:
            return field.record.knowledge.to(field.aabb.device)
        looks = 2 if field.sharp else 1
        grid = OccupancyGrid.highest(field.density, field.aabb, SOLID_RESOLUTION, looks)
    cameras = field.record.cameras
    if cameras is None:
        return observe(grid, assumed_cameras(field.aabb))
    return observe(grid, cameras, near=field.record.near, far=field.record.far)


#: With these constants a fresh network is nearly transparent (a density of about 0.07 per scene
#: unit), and a solid surface (a density of about 50) has a raw value of about 10.
DENSITY_SCALE = 10.0
DENSITY_SHIFT = 5.0


def shifted_softplus(raw: Tensor) -> Tensor:
    """Softplus of the shifted network output: low at first, gradient never 0, linear growth."""
    return DENSITY_SCALE * F.softplus(raw - DENSITY_SHIFT)


def hidden_layers(
    inputs: int, width: int, depth: int, skips: tuple[int, ...], batch_norm: bool
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Dense layers and the norm that follows each (identity without batch norm).

    He initialisation, zero biases. A layer named in `skips` reads the inputs once more, ahead of
    the hidden units: its columns are (inputs, hidden).
    """
    layers, norms = nn.ModuleList(), nn.ModuleList()
    for index in range(depth):
        columns = inputs if index == 0 else width + inputs * (index in skips)
        layer = nn.Linear(columns, width)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layers.append(layer)
        norms.append(nn.BatchNorm1d(width) if batch_norm else nn.Identity())
    return layers, norms


def run_hidden_layers(
    inputs: Tensor,
    layers: nn.ModuleList,
    norms: nn.ModuleList,
    activation: nn.Module,
    skips: tuple[int, ...],
) -> Tensor:
    """Apply the layers of `hidden_layers`: linear, norm, activation, with the skips."""
    hidden = inputs
    for index, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
        if index > 0 and index in skips:
            hidden = torch.cat([inputs, hidden], -1)
        hidden = activation(norm(layer(hidden)))
    return hidden


def outline(name: str, config: FieldConfig | None, aabb: Tensor) -> Field:
    """A field without numbers, on the device ``meta``: its shapes, without their memory."""
    cls = FIELDS[name]
    with torch.device("meta"):
        return cls(config if config is not None else cls.Config(), aabb)


def build_field(name: str, config: FieldConfig | None, aabb: Tensor, *, seed: int = 0) -> Field:
    """Build a field with random initial params.

    Example:
        >>> box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
        >>> build_field("tiny_nerf", None, box, seed=1).name
        'tiny_nerf'

    Args:
        name: Registered architecture.
        config: Its configuration; None for the defaults.
        aabb: (2, 3) box, scene units.
        seed: Seed of the params. The global random state is not changed.

    Raises:
        InputError: It does not fit into memory.
    """
    cls = FIELDS[name]
    params = outline(name, config, aabb).parameter_count()
    check_memory(
        PARAM_BYTES * params, f"a `{name}` of {params:,} params", "ask for a smaller width or depth"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(config if config is not None else cls.Config(), aabb)
