"""What a field knows, drawn: where its cameras looked, what they found empty, what they never saw.

One colour scale for all of it: the number of views that saw a cell, from few (blue) to many
(yellow), and a colour of its own for what no camera saw. Solid matter has the full colour and an
outline, empty space the same colour, paler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from ..cameras.cameras import Cameras
from ..errors import InputError
from ..fields import Record
from ..rendering.knowledge import Knowledge, assumed_cameras
from ..rendering.volume_rendering import RadianceField, Renderer
from ..typing import Float, PathLike, Tensor
from ..utils.files import replacing
from .images import drawn_text
from .turntables import field_turntable
from .video import to_bytes

__all__ = ["KnowledgeColours", "draw_knowledge", "knowledge_summary", "summary_in_words",
           "view_colours"]  # fmt: skip

#: Of what no camera saw; nothing on the colour scale is near it.
UNSEEN = (0.902, 0.0, 0.494)
#: The dark end of viridis is purple, too near to the colour of the unseen when it is pale.
COLOUR_MAP, DARKEST = "viridis", 0.25
#: Share of its colour that empty space keeps; the rest is white.
PALE = 0.38
INK, MUTED, FAINT = "#181c24", "#6e7480", "#c9cdd6"
CUT = {"color": INK, "linewidth": 0.6, "linestyle": (0, (2, 4))}
#: Width of the key, in widths of a slice.
KEY_WIDTH = 0.31
NOTE = (
    "Slices through the middle of the matter; dashed: where the other two cut. "
    "Outlined cells are solid. Dots are cameras, arrows point where they look."
)

AXIS_NAMES = "xyz"
#: Of each slice: axis cut, axis to the right, axis upwards; and where the viewer stands.
PLANES = ((2, 0, 1), (1, 0, 2), (0, 1, 2))
SIDES = ("from above", "from the front", "from the side")

#: matplotlib's, which is imported only when something is drawn.
Axes: TypeAlias = Any


def knowledge_summary(record: Record, knowledge: Knowledge) -> dict[str, Any]:
    """What a field knows in a few numbers.

    Returns:
        ``source`` (``recorded`` in the file; ``recomputed`` from the cameras; ``assumed`` if they
        are unknown), ``seen_share``, ``seen_empty_share`` and ``solid_share`` of the box in
        [0, 1], and ``most_views``, the largest number of cameras that saw one cell.
    """
    source = "assumed" if record.cameras is None else "recomputed"
    return {
        "source": source if record.knowledge is None else "recorded",
        "seen_share": knowledge.seen_share,
        "seen_empty_share": knowledge.seen_empty_share,
        "solid_share": float(knowledge.solid.float().mean()),
        "most_views": int(knowledge.views.max()),
    }


def summary_in_words(said: dict[str, Any]) -> list[str]:
    """The shares of a `knowledge_summary`, a phrase each."""
    return [
        f"{said['seen_share']:.1%} of the box seen",
        f"{said['seen_empty_share']:.1%} seen empty",
        f"{said['solid_share']:.1%} solid",
    ]


def view_colours(most: int) -> Float[Tensor, "256 3"]:
    """Colour of each number of views: row 0 is the unseen, from 1 to `most` the colour map."""
    from matplotlib import colormaps  # heavy: only when drawn

    share = np.clip((np.arange(256) - 1) / max(1, most - 1), 0, 1)
    colours = colormaps[COLOUR_MAP](DARKEST + (1 - DARKEST) * share)[:, :3]
    colours[0] = UNSEEN
    return torch.from_numpy(colours).float()


@dataclass(eq=False)
class KnowledgeColours:
    """A field with its colour replaced by the number of views that saw the place.

    Attributes:
        field: Its density is taken.
        knowledge: What it saw, on the field's device.
        colours: (256, 3), rgb of each number of views, on the field's device.
    """

    field: RadianceField
    knowledge: Knowledge
    colours: Tensor

    def __post_init__(self) -> None:
        self.aabb = self.field.aabb
        self.record = self.field.record

    def density(self, positions: Tensor) -> Tensor:
        """Density alone."""
        return self.field.density(positions)

    def __call__(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Density (points,) and rgb (points, 3)."""
        views = self.knowledge.views_at(positions).long()
        return self.field.density(positions), self.colours[views]


def draw_knowledge(
    field: RadianceField,
    knowledge: Knowledge,
    path: PathLike,
    *,
    name: str = "",
    frames: int = 6,
    size: int = 240,
) -> None:
    """Draw what a field knows as one PNG: slices through its matter, turntable frames below.

    Args:
        field: The field.
        knowledge: What it saw, see `memonf.fields.known`.
        path: Ends in ``.png``.
        name: What the title calls it, for example its file.
        frames: Turntable frames, >= 1, in its own colours and in those of its knowledge.
        size: Side of a frame, pixels.

    Raises:
        InputError: Another ending.
        OutputError: The file cannot be written.
    """
    from matplotlib.figure import Figure  # no global state, no window
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: expected a name that ends in .png")
    colours = view_colours(int(knowledge.views.max()))
    own, coloured = turntable_pair(field, knowledge, colours, frames, size)

    here = knowledge.to("cpu")
    slices = [Slice.of(here, colours, *planes) for planes in PLANES]
    figure = Figure(figsize=(15.0, 9.6), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.07))
    which = [part for part in (name, field.record.scene, field.record.group) if part]
    figure.suptitle(
        "   ·   ".join(map(drawn_text, which)), fontsize=14, fontweight="bold", color=INK
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.16), squeeze=False).flat
    top.suptitle(headline(field.record, here), fontsize=11, color=MUTED)
    top.supxlabel(NOTE, fontsize=9, color=MUTED)
    panels = top.subplots(1, 5, width_ratios=(1, 1, 1, 1, KEY_WIDTH))
    draw_cameras(panels[0], slices[0], here, field.record.cameras)
    for axes, piece, side in zip(panels[1:4], slices, SIDES, strict=True):
        draw_slice(axes, piece, 0.7)
        axes.axvline(piece.middle[piece.right], **CUT)
        axes.axhline(piece.middle[piece.up], **CUT)
        axes.set_title(f"{side}, at {AXIS_NAMES[piece.cut]} = {piece.middle[piece.cut]:.2f}")
    draw_key(panels[4], colours, max(1, int(here.views.max())))
    draw_frames(bottom, own, coloured)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def headline(record: Record, knowledge: Knowledge) -> str:
    """What a field knows in one line."""
    said = knowledge_summary(record, knowledge)
    cameras = "cameras unknown" if record.cameras is None else counted(len(record.cameras))
    if said["source"] == "assumed":
        cameras += ": assumed all round the box"
    return "   ·   ".join([*summary_in_words(said), cameras])


def counted(cameras: int) -> str:
    """Number of cameras in words."""
    return f"{cameras} camera{'' if cameras == 1 else 's'}"


def turntable_pair(
    field: RadianceField, knowledge: Knowledge, colours: Tensor, frames: int, size: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames of a field in its own colours and in those of its knowledge, uint8 each."""
    device = field.aabb.device
    cameras = field_turntable(field, frames, size)
    own = Renderer.of(field)
    # Density and background are the same: only the colour is looked up elsewhere.
    coloured = replace(own, field=KnowledgeColours(field, knowledge.to(device), colours.to(device)))
    return (
        [to_bytes(own.view(cameras, index).rgb) for index in range(frames)],
        [to_bytes(coloured.view(cameras, index).rgb) for index in range(frames)],
    )


@dataclass(frozen=True)
class Slice:
    """A plane through the box, a pixel for each solid cell, the lowest row first.

    Attributes:
        rgb: (n, n, 3), in [0, 1].
        solid: (n, n), which pixels are solid.
        extent: Left, right, lower and upper end, scene units.
        cut: Axis that the plane cuts.
        right: Axis to the right.
        up: Axis upwards.
        middle: (3,), where all three planes meet, scene units.
    """

    rgb: np.ndarray
    solid: np.ndarray
    extent: tuple[float, float, float, float]
    cut: int
    right: int
    up: int
    middle: list[float]

    @classmethod
    def of(cls, knowledge: Knowledge, colours: Tensor, cut: int, right: int, up: int) -> Slice:
        """Cut the box through the middle of the matter.

        Args:
            knowledge: On the CPU.
            colours: (256, 3), rgb of each number of views.
            cut: Axis that the plane cuts.
            right: Axis to the right.
            up: Axis upwards.
        """
        count = len(knowledge.solid)
        lower, upper = knowledge.aabb
        middle = middle_of_matter(knowledge)
        axis = (torch.arange(count) + 0.5) / count
        positions = middle.repeat(count, count, 1)
        positions[..., right] = lower[right] + axis * (upper - lower)[right]
        positions[..., up] = (lower[up] + axis * (upper - lower)[up])[:, None]
        flat = positions.view(-1, 3)
        solid = knowledge.solid_at(flat)
        rgb = colours[knowledge.views_at(flat).long()]
        rgb = torch.where(solid[:, None], rgb, paler(rgb))
        (left, bottom), (far, top) = knowledge.aabb[:, [right, up]].tolist()
        return cls(
            rgb.view(count, count, 3).numpy(), solid.view(count, count).numpy(),
            (left, far, bottom, top), cut, right, up, middle.tolist(),
        )  # fmt: skip


def middle_of_matter(knowledge: Knowledge) -> Float[Tensor, " 3"]:
    """Solid cell's centre with as much matter before it as behind it along each axis.

    The middle of the box if there is no matter.
    """
    count = len(knowledge.solid)
    cells = knowledge.solid.nonzero()
    cell = cells.median(0).values if len(cells) else torch.full((3,), count // 2)
    lower, upper = knowledge.aabb
    return lower + (cell + 0.5) / count * (upper - lower)


def paler(rgb: Tensor) -> Tensor:
    """The colours of empty space."""
    return 1 - PALE * (1 - rgb)


def outline(piece: Slice) -> list[list[tuple[float, float]]]:
    """Line segments between solid pixels and others, scene units."""
    height, width = piece.solid.shape
    left, right, bottom, top = piece.extent
    x = np.linspace(left, right, width + 1)
    y = np.linspace(bottom, top, height + 1)
    framed = np.pad(piece.solid, 1)
    beside = np.argwhere(framed[1:-1, 1:] != framed[1:-1, :-1])
    above = np.argwhere(framed[1:, 1:-1] != framed[:-1, 1:-1])
    return [
        *([(x[j], y[i]), (x[j], y[i + 1])] for i, j in beside),
        *([(x[j], y[i]), (x[j + 1], y[i])] for i, j in above),
    ]


def draw_slice(axes: Axes, piece: Slice, line: float) -> None:
    """Draw one slice in scene units, with an outline `line` points wide around matter."""
    from matplotlib.collections import LineCollection

    axes.imshow(piece.rgb, origin="lower", extent=piece.extent, interpolation="nearest")
    axes.add_collection(LineCollection(outline(piece), colors=INK, linewidths=line))
    axes.set_xlabel(f"{AXIS_NAMES[piece.right]}, scene units", color=MUTED)
    axes.set_ylabel(f"{AXIS_NAMES[piece.up]}, scene units", color=MUTED, labelpad=3)
    axes.tick_params(labelsize=8, colors=MUTED)
    axes.locator_params(nbins=6)
    axes.title.set(fontsize=10.5, color=INK)
    axes.spines[:].set_color(FAINT)


def draw_cameras(axes: Axes, piece: Slice, knowledge: Knowledge, cameras: Cameras | None) -> None:
    """Draw the slice seen from above, small, with the cameras around it and where they look."""
    from matplotlib.patches import Rectangle

    assumed = cameras is None
    shown = (assumed_cameras(knowledge.aabb) if cameras is None else cameras).to("cpu")
    plane = [piece.right, piece.up]
    draw_slice(axes, piece, 0.3)
    left, right, bottom, top = piece.extent
    frame = Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=INK)
    axes.add_patch(frame)
    places = shown.positions[:, plane].numpy()
    ahead = -shown.camera_to_world[:, plane, 2].numpy()
    x, y = (left + right) / 2, (bottom + top) / 2
    reach = 1.12 * max(right - x, top - y, float(np.abs(places - (x, y)).max(initial=0.0)))
    axes.quiver(
        *places.T, *ahead.T, angles="xy", scale_units="xy", scale=7 / reach,
        width=0.005, headwidth=3.5, color=MUTED,
    )  # fmt: skip
    inside = "white" if assumed else INK
    axes.scatter(*places.T, s=13, color=inside, edgecolors=INK, linewidths=0.8, zorder=3)
    axes.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach))
    axes.set_title(f"{counted(len(shown))}{', assumed' if assumed else ''}, from above")


def draw_key(axes: Axes, colours: Tensor, most: int) -> None:
    """Draw what the colours mean: a bar for empty space, one for matter, the unseen below."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    blocks = ((0.0, 1.0, colours[1 : most + 1]), (-0.15, -0.06, colours[:1]))
    for bottom, top, rgb in blocks:
        bar = torch.stack([paler(rgb), rgb], 1).numpy()
        axes.imshow(bar, origin="lower", extent=(0, 2, bottom, top), aspect="auto")
        axes.add_patch(Rectangle((1, bottom), 1, top - bottom, fill=False, edgecolor=INK))
    counts = [
        int(n) for n in MaxNLocator(8, integer=True).tick_values(1, most) if 1 <= n < 0.95 * most
    ]
    counts = sorted({1, *counts, most})
    places = [(count - 0.5) / most for count in counts]
    axes.set_yticks([-0.105, *places], ["unseen", *map(str, counts)], fontsize=9)
    axes.set_xticks([0.5, 1.5], ["empty", "solid"], fontsize=7.5)
    axes.set(xlim=(0, 2), ylim=(-0.15, 1), box_aspect=1 / KEY_WIDTH)
    axes.tick_params(labeltop=True, labelbottom=False, labelright=True, labelleft=False, length=0)
    axes.yaxis.set_label_position("right")
    axes.set_ylabel("views that saw the cell", color=INK)
    axes.spines[:].set_visible(False)


def draw_frames(figure: Any, own: Sequence[np.ndarray], coloured: Sequence[np.ndarray]) -> None:
    """Draw turntable frames in two rows, their azimuths above."""
    panels = figure.subplots(2, len(own), squeeze=False)
    for column, pictures in enumerate(zip(own, coloured, strict=True)):
        for axes, picture in zip(panels[:, column], pictures, strict=True):
            axes.imshow(picture)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color(FAINT)
        front = " (front)" if column == 0 else ""
        panels[0, column].set_title(
            f"{360 * column / len(own):.0f}°{front}", fontsize=10, color=INK
        )
    panels[0, 0].set_ylabel("in its own colours", fontsize=10.5, color=INK)
    panels[1, 0].set_ylabel("by the views that saw it", fontsize=10.5, color=INK)
