"""Pictures of pointwise fields: the picture itself; of a shape, three slices with its surface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..fields.pointwise import PointField
from ..rendering.occupancy_grid import in_chunks
from ..utils.files import replacing
from ..visualization.images import drawn_text, write_png
from ..visualization.video import to_bytes
from .truths import ImageTruth, Truth

__all__ = ["draw"]

#: Points along each side of a slice.
SIDE = 200
NAMES = "xyz"
INK, TRUTH = "#181c24", "#d1495b"


@torch.no_grad()
def draw(field: PointField, truth: Truth, path: Path) -> None:
    """Draw a field (PNG); of shapes the true surface is drawn over it, in red.

    Args:
        field: The field.
        truth: What it was to learn.
        path: File to write.
    """
    if isinstance(truth, ImageTruth):
        values = in_chunks(field.values, truth.at_pixels().to(field.aabb.device))
        write_png(to_bytes(values.view(truth.pixels.shape)), path)
        return
    from matplotlib.figure import Figure  # no global state, no window

    figure = Figure(figsize=(12, 4.2), dpi=100, layout="constrained")
    for axes, axis in zip(figure.subplots(1, 3), range(3), strict=True):
        draw_slice(axes, field, truth, axis)
    group = drawn_text(field.record.group)
    figure.suptitle(f"{drawn_text(truth.name)}, {field.name} of `{group}`: blue is inside, black "
                    "the field's surface, red the true one", fontsize=11, color=INK)  # fmt: skip
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def draw_slice(axes: Any, field: PointField, truth: Truth, axis: int) -> None:
    """The plane through the middle of the box across one axis."""
    across, up = (other for other in range(3) if other != axis)
    lower, upper = truth.aabb
    line = torch.linspace(0, 1, SIDE)
    plane = torch.full((SIDE, SIDE, 3), float(truth.aabb.mean(0)[axis]))
    plane[..., up] = (lower[up] + line * (upper - lower)[up])[:, None]
    plane[..., across] = lower[across] + line * (upper - lower)[across]
    flat = plane.view(-1, 3)
    level = 0.5 if field.name == "occupancy" else 0.0
    sign = -1.0 if field.name == "occupancy" else 1.0  # blue inside, whatever is asked
    said = in_chunks(field.values, flat.to(field.aabb.device)).cpu()[:, 0].view(SIDE, SIDE) - level
    true = truth.values(flat)[:, 0].view(SIDE, SIDE) - level
    extent = (float(lower[across]), float(upper[across]), float(lower[up]), float(upper[up]))
    reach = max(0.5, float(said.abs().max()))
    axes.imshow((sign * said).numpy(), origin="lower", extent=extent, cmap="RdBu_r",
                vmin=-reach, vmax=reach)  # fmt: skip
    for values, colour in ((said, INK), (true, TRUTH)):
        axes.contour(values.numpy(), levels=[0.0], colors=[colour], linewidths=1.0, extent=extent)
    axes.set_xlabel(NAMES[across])
    axes.set_ylabel(NAMES[up])
