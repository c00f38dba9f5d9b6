"""The box of the object that a data set shows, from its outlines in all training views.

Alpha channels say where a picture is empty. A cell of space through which a view sees the
background is empty too; what is left, the visual hull, is looked for coarse to fine, since the
object may take a fiftieth of the first box. It counts only if

* most views outline it: it lies within their pictures, and is not all of them;
* its projection covers what is opaque in almost all of them: alpha channels and poses that do not
  belong together leave opaque pixels with nothing behind.

A view that contradicts the others (transparent throughout, or with the pose of another picture)
is found by that, named, and left out.

Symbols: V views, C cells, n views that have a cell in the picture, a of them that see through it.

Reference:
    Laurentini 1994, The visual hull concept for silhouette-based image understanding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..cameras.cameras import Cameras
from ..rendering.occupancy_grid import OccupancyGrid, pixel_reach, seen_through
from ..typing import Bool, Float, Int, Tensor

__all__ = ["MOST_BORDER", "Outline", "Seen", "find_object", "outline"]

#: Views that the hull is made of, evenly chosen where there are more; the others are compared.
MOST_VIEWS = 40
#: Pixels along the longer side of an outline.
SIDE = 200
#: Cells along each side of a look, and of the last one.
LOOK, LAST_LOOK = 20, 32
#: Most looks, and the factor in size by which each has to leave a smaller box, or it is the last.
LOOKS, SMALLER = 12, 0.85
#: An outline with more of its picture or of its border opaque than this does not outline anything.
MOST_SOLID, MOST_BORDER = 0.99, 0.25
#: Fewest views that outline an object from all sides.
FEWEST = 3
#: A cell belongs to the object if it is in the pictures of this share of as many views as any
#: cell; the second is for captures that cut the object off, and for cells that are large beside
#: what a camera has in its picture.
IN_VIEW = (0.9, 0.5)
#: Shares of the views of a cell that may see through it; the last one in all looks but the last.
TOLERANCES = (0.0, 0.05, 0.1, 0.2, 0.3)
#: Opaque pixels of a view that the hull has to cover, and the share of the views in which it has to
#: where all are right, and where some may be wrong.
COVERED, ALMOST_ALL, MOST = 0.98, 0.95, 0.8
#: A view may contradict the others if it sees through this share of what they agree on; it does if
#: they are not explained without that share, or if less than this of what it shows is.
MAY_CONTRADICT, SHOWN = 0.1, 0.9
#: Largest share of the views that are left out because they contradict the others.
MOST_DOUBTED = 0.34
#: What is added around the hull, in shares of its side.
MARGIN = 0.04


@dataclass(frozen=True)
class Outline:
    """What is opaque in one picture, at a low resolution.

    Attributes:
        name: Of the view.
        camera: One camera, at the size of `solid`.
        solid: Where any pixel of the picture is opaque.
    """

    name: str
    camera: Cameras
    solid: Bool[Tensor, "height width"]

    @property
    def blank(self) -> bool:
        """Whether nothing is opaque."""
        return not bool(self.solid.any())

    @property
    def full(self) -> bool:
        """Whether all but nothing is opaque."""
        return float(self.solid.float().mean()) > MOST_SOLID

    @property
    def whole(self) -> bool:
        """Whether an object lies within the picture, not cut off by its border."""
        solid = self.solid
        border = torch.cat([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
        return not (self.blank or self.full or float(border.float().mean()) > MOST_BORDER)


@dataclass(frozen=True)
class Seen:
    """An object that the views outline.

    Attributes:
        aabb: (2, 3), around it, with a margin.
        doubted: Names of views whose outlines contradict those of the others.
        tolerance: Share of the views of a cell that may see through it and be wrong.
        full: Names of views that are opaque throughout, while most are not.
    """

    aabb: Float[Tensor, "2 3"]
    doubted: tuple[str, ...] = ()
    tolerance: float = 0.0
    full: tuple[str, ...] = ()

    @property
    def centre(self) -> Float[Tensor, " 3"]:
        """Of the box."""
        return self.aabb.mean(0)

    @property
    def half_side(self) -> float:
        """Half the longest side of the box."""
        return 0.5 * float((self.aabb[1] - self.aabb[0]).max())


def outline(name: str, camera: Cameras, solid: Bool[Tensor, "height width"]) -> Outline:
    """The outline of a picture, reduced so that nothing opaque is lost.

    Args:
        name: Of the view.
        camera: One camera, at the size of the picture.
        solid: Which pixels are opaque.
    """
    height, width = solid.shape
    shrink = max(1.0, max(height, width) / SIDE)
    size = max(1, round(height / shrink)), max(1, round(width / shrink))
    if size != (height, width):
        solid = F.adaptive_max_pool2d(solid[None, None].float(), size)[0, 0] > 0
    return Outline(name, camera.to("cpu").resized(size[1], size[0]), solid.cpu())


@torch.no_grad()
def find_object(outlines: Sequence[Outline], box: Float[Tensor, "2 3"]) -> Seen | None:
    """The object that most views outline, if there is one.

    Args:
        outlines: Of all training views of a data set.
        box: (2, 3), where it is looked for, scene units.

    Returns:
        None if too few views outline anything, or nothing explains what most of them show.
    """
    shown = [view for view in outlines if not view.blank]
    telling = [view for view in shown if not view.full]
    if sum(view.whole for view in telling) < max(FEWEST, 0.5 * len(shown)):
        return None
    step = -(-len(telling) // MOST_VIEWS)
    looked = telling[::step]
    for in_view in IN_VIEW:
        near_object = narrowed_box(looked, box, IN_VIEW[1])
        near_object = narrowed_box(looked, near_object, in_view)
        look = Look.of(looked, near_object, LAST_LOOK)
        for tolerance in TOLERANCES:
            hull = look.hull(in_view, tolerance)
            enough = MOST if tolerance > 0 else ALMOST_ALL
            if look.explained(hull, enough) and inside(look.bounds(hull), box):
                return agreed(look, hull, tolerance, in_view, outlines)
    return None


def inside(bounds: Float[Tensor, "2 3"], box: Float[Tensor, "2 3"]) -> bool:
    """Whether a hull ends within the box that was searched: bounded by what is seen."""
    slack = 1e-3 * (box[1] - box[0])
    return bool(((bounds[0] > box[0] + slack) & (bounds[1] < box[1] - slack)).all())


def agreed(
    look: Look,
    hull: Bool[Tensor, " cells"],
    tolerance: float,
    in_view: float,
    outlines: Sequence[Outline],
) -> Seen:
    """The object, the views that contradict it, and how much of that has to be put up with."""
    wrong: list[str] = []
    if tolerance > 0:
        wrong = look.culprits(hull, in_view)
        if wrong:  # the others agree on a tighter one
            look, tolerance = look.without(wrong), 0.0
            hull = look.hull(in_view, tolerance)
    elsewhere = [view.name for view in look.outlines if look.covered_in(view, hull) < SHOWN]
    if elsewhere:
        wrong, look = [*wrong, *elsewhere], look.without(elsewhere)
        hull = look.hull(in_view, tolerance)
    used = {view.name for view in look.outlines}
    others = [view for view in outlines if not (view.full or view.name in {*used, *wrong})]
    wrong += [view.name for view in others if look.contradicted_by(view, hull)]
    full = tuple(view.name for view in outlines if view.full)
    order = {view.name: place for place, view in enumerate(outlines)}
    return Seen(look.box_of(hull), tuple(sorted(wrong, key=order.__getitem__)), tolerance, full)


def narrowed_box(
    outlines: Sequence[Outline], box: Float[Tensor, "2 3"], in_view: float
) -> Float[Tensor, "2 3"]:
    """A box around the object, look by look; what some views see through may still be in it."""
    box = box.cpu()
    for _ in range(LOOKS):
        look = Look.of(outlines, box, LOOK).doubtful_near_cameras()
        hull = look.hull(in_view, TOLERANCES[-1])
        if not hull.any():
            return box
        cells = look.grid.cell
        inner = look.bounds(hull) + torch.stack([-cells, cells])
        inner = torch.stack([torch.maximum(inner[0], box[0]), torch.minimum(inner[1], box[1])])
        shrunk = float(((inner[1] - inner[0]) / (box[1] - box[0])).prod()) ** (1 / 3)
        box = inner
        if shrunk > SMALLER:
            break
    return box


@dataclass(frozen=True)
class Look:
    """What all views say of the cells of a box.

    Attributes:
        outlines: Of the V views.
        grid: The cells.
        seen: Of each view, which cells (C,) it has in its picture.
        clear: Of each view, which of these it sees the background through.
    """

    outlines: Sequence[Outline]
    grid: OccupancyGrid
    seen: Sequence[Bool[Tensor, " cells"]]
    clear: Sequence[Bool[Tensor, " cells"]]

    @property
    def radius(self) -> float:
        """Half a cell's diagonal, scene units."""
        return 0.5 * float(self.grid.cell.norm())

    @classmethod
    def of(cls, outlines: Sequence[Outline], box: Float[Tensor, "2 3"], resolution: int) -> Look:
        """Ask all views about all cells."""
        grid = OccupancyGrid(box, resolution)
        centres, radius = grid.centres(), 0.5 * float(grid.cell.norm())
        said = [seen_through(view.solid, view.camera, 0, centres, radius) for view in outlines]
        return cls(outlines, grid, [seen for seen, _ in said], [clear for _, clear in said])

    def without(self, names: Sequence[str]) -> Look:
        """The same cells, but not the views of these names."""
        kept = [index for index, view in enumerate(self.outlines) if view.name not in names]
        return Look(
            [self.outlines[index] for index in kept], self.grid,
            [self.seen[index] for index in kept], [self.clear[index] for index in kept],
        )  # fmt: skip

    def doubtful_near_cameras(self) -> Look:
        """The same, but a view has seen, and not seen through, any cell that its camera stands in.

        Cells larger than a camera's distance may hold the object before it: they are kept.
        """
        centres = self.grid.centres()
        around = [
            (centres - view.camera.positions[0]).norm(dim=-1) <= self.radius
            for view in self.outlines
        ]
        return Look(
            self.outlines, self.grid,
            [seen | near for seen, near in zip(self.seen, around, strict=True)],
            [clear & ~near for clear, near in zip(self.clear, around, strict=True)],
        )  # fmt: skip

    def hull(self, in_view: float, tolerance: float) -> Bool[Tensor, " cells"]:
        """Cells that enough views have in the picture, and all but a share of them see opaque."""
        count, through = counts(self.seen), counts(self.clear)
        enough = count >= max(1.0, in_view * float(count.max()))
        return enough & (through <= tolerance * count)

    def bounds(self, hull: Bool[Tensor, " cells"]) -> Float[Tensor, "2 3"]:
        """Box around some cells."""
        centres = self.grid.centres()[hull]
        half = 0.5 * self.grid.cell
        return torch.stack([centres.amin(0) - half, centres.amax(0) + half])

    def box_of(self, hull: Bool[Tensor, " cells"]) -> Float[Tensor, "2 3"]:
        """Box around a hull, with a margin."""
        lower, upper = self.bounds(hull)
        margin = MARGIN * (upper - lower)
        return torch.stack([lower - margin, upper + margin])

    def explained(self, hull: Bool[Tensor, " cells"], share: float = ALMOST_ALL) -> bool:
        """Whether a hull covers what is opaque in a share of the views."""
        covered = [self.covered_in(view, hull) >= COVERED for view in self.outlines]
        return sum(covered) >= share * len(covered)

    def covered_in(self, view: Outline, hull: Bool[Tensor, " cells"]) -> float:
        """Share of what is opaque in one view that lies on the projection of a hull."""
        painted = projection(view, self.grid.centres()[hull], self.radius)
        return float((painted & view.solid).sum()) / max(float(view.solid.sum()), 1.0)

    def culprits(self, hull: Bool[Tensor, " cells"], in_view: float) -> list[str]:
        """Fewest views without which the others agree; none if many would have to go.

        Args:
            hull: What all but a share of the views of a cell agree on.
            in_view: See `IN_VIEW`.
        """
        through = [float(clear[hull].float().mean()) for clear in self.clear]
        ranked = sorted(range(len(through)), key=lambda view: -through[view])
        names = [self.outlines[view].name for view in ranked]
        most = int(MOST_DOUBTED * len(names))

        def agree(wrong: list[str]) -> bool:
            rest = self.without(wrong)
            return rest.explained(rest.hull(in_view, 0.0))

        for count in range(1, most + 1):
            if agree(names[:count]):
                wrong = names[:count]
                for name in names[: count - 1]:  # a wrong one may see through less than a right one
                    fewer = [other for other in wrong if other != name]
                    wrong = fewer if agree(fewer) else wrong
                return wrong
        return []

    def contradicted_by(self, view: Outline, hull: Bool[Tensor, " cells"]) -> bool:
        """Whether another view empties what these need, or shows what the hull does not explain."""
        centres = self.grid.centres()[hull]
        _, clear = seen_through(view.solid, view.camera, 0, centres, self.radius)
        if float(clear.float().mean()) > MAY_CONTRADICT:
            left = hull.clone()
            left[hull.nonzero()[clear, 0]] = False
            if not self.explained(left):
                return True
        # What shows something else beside the object is no outline of it; what is blank may be.
        return not view.blank and self.covered_in(view, hull) < SHOWN


def counts(cells: Sequence[Bool[Tensor, " cells"]]) -> Int[Tensor, " cells"]:
    """How many views say yes to each cell, one view after the other: all at once take memory."""
    total = cells[0].to(torch.int32)
    for more in cells[1:]:
        total += more
    return total


def projection(
    view: Outline, centres: Float[Tensor, "balls 3"], radius: float
) -> Bool[Tensor, "height width"]:
    """Pixels that balls reach in the picture of a view; counted in windows by their corners."""
    height, width = view.solid.shape
    rows, columns, depth, seen = view.camera.project(centres, 0)
    before = seen & (depth > radius)
    rows, columns = rows[before], columns[before]
    down, across = pixel_reach(view.camera, 0, centres[before], radius)
    top, bottom = (rows - down).clamp_min(0), (rows + down + 1).clamp_max(height)
    left, right = (columns - across).clamp_min(0), (columns + across + 1).clamp_max(width)
    corners = torch.zeros((height + 1) * (width + 1), dtype=torch.int32)
    one = torch.ones_like(rows, dtype=torch.int32)
    for row, column, sign in ((top, left, 1), (bottom, right, 1), (top, right, -1),
                              (bottom, left, -1)):  # fmt: skip
        corners.index_add_(0, row * (width + 1) + column, sign * one)
    sums = corners.view(height + 1, width + 1).cumsum(0).cumsum(1)
    return sums[:height, :width] > 0
