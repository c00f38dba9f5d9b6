"""How a field is looked at: in its colours, by depth, opacity, knowledge or disagreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import torch

from ..fields import Field, known
from ..rendering.baking import BakedField
from ..rendering.volume_rendering import PICTURES, RadianceField, Renderer, Rendering
from ..typing import Float, Tensor
from ..visualization.disagreement import DisagreementColours
from ..visualization.knowledge import KnowledgeColours, view_colours
from ..visualization.video import to_bytes

__all__ = ["MODES", "Crop", "Kind", "Look", "Mode", "to_picture"]

Mode: TypeAlias = Literal["rgb", "depth", "opacity", "knowledge", "disagreement"]
MODES: tuple[Mode, ...] = ("rgb", "depth", "opacity", "knowledge", "disagreement")
#: Lower and upper corner of what is shown, as shares of the box, each (x, y, z) in [0, 1].
Crop: TypeAlias = tuple[tuple[float, float, float], tuple[float, float, float]]
WHOLE: Crop = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
#: How a look can be made ready: a rough baked field and a close one for pictures in motion, and
#: the network itself for those that stay. On one core they take 0.3, 1.5 and 1 s for the robot.
Kind: TypeAlias = Literal["rough", "close", "still"]
#: Points along a side of a baked grid, and how many times coarser the first look is.
BAKED: dict[Kind, tuple[int, int]] = {"rough": (64, 2), "close": (128, 4)}


def radiance_of(shown: Field, mode: Mode, parents: Sequence[Field]) -> RadianceField:
    """The field in the colours of a mode; depth and opacity need no colours of their own."""
    if mode == "knowledge":
        knowledge = known(shown)
        colours = view_colours(int(knowledge.views.max())).to(shown.aabb.device)
        return KnowledgeColours(shown, knowledge, colours)
    if mode == "disagreement":
        return DisagreementColours(shown, parents)
    return shown


def cropped(renderer: Renderer, crop: Crop) -> Renderer:
    """The same renderer, blind outside a part of the box."""
    if crop == WHOLE:
        return renderer
    return replace(renderer, grid=renderer.grid.within(*crop))


@dataclass
class Look:
    """A field in one mode, made ready for pictures as they are needed.

    Attributes:
        shown: The field.
        mode: How it is looked at.
        parents: For disagreement.
    """

    shown: Field
    mode: Mode
    parents: Sequence[Field]
    _ready: dict[Kind, Renderer] = field(default_factory=dict)

    def in_motion(self, *, crop: Crop = WHOLE) -> Renderer:
        """For pictures in motion: the baked field, the close one if it is ready."""
        return cropped(self.prepare("close" if "close" in self._ready else "rough"), crop)

    def still(self, *, crop: Crop = WHOLE) -> Renderer:
        """For pictures that stay: the network itself, as it is scored."""
        return cropped(self.prepare("still"), crop)

    def is_ready(self, kind: Kind) -> bool:
        """Whether `prepare` has nothing to do."""
        return kind in self._ready

    def prepare(self, kind: Kind) -> Renderer:
        """Make the look ready, unless it is; of two threads that do, either's serves."""
        if kind not in self._ready:
            radiance = radiance_of(self.shown, self.mode, self.parents)
            self._ready[kind] = (
                BakedField.of(radiance, *BAKED[kind]).renderer()
                if kind in BAKED
                else Renderer.of(radiance, PICTURES)
            )
        return self._ready[kind]


def to_picture(seen: Rendering, mode: Mode, span: tuple[float, float]) -> np.ndarray:
    """uint8 (height, width, 3) of what a mode shows.

    Args:
        seen: (height, width, ...).
        mode: How it is looked at.
        span: Nearest and farthest depth on the colour scale, scene units.
    """
    if mode == "opacity":
        return to_bytes(seen.opacity[..., None].expand(*seen.opacity.shape, 3))
    if mode == "depth":
        return to_bytes(depth_colours(seen.depth, seen.opacity, span))
    return to_bytes(seen.rgb)


def depth_colours(
    depth: Float[Tensor, "*pixels"], opacity: Float[Tensor, "*pixels"], span: tuple[float, float]
) -> Float[Tensor, "*pixels 3"]:
    """Near is bright, far is dark, nothing is white."""
    from matplotlib import colormaps  # heavy: only when drawn

    steps = np.linspace(0, 1, 256)
    scale = torch.tensor(colormaps["viridis"](steps)[:, :3], dtype=torch.float32)
    near, far = span
    share = 1 - (depth.cpu() - near) / max(far - near, 1e-9)
    colour = scale[(share.clamp(0, 1) * (len(scale) - 1)).round().long()]
    cover = opacity.cpu()[..., None]
    return colour * cover + (1 - cover)
