"""What a data set holds, in numbers and drawn: cameras, box, and from which sides it was seen."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cameras.cameras import Cameras
from ..cameras.frames import looked_at
from ..data import Scene, Views, in_group
from ..data.hull import MOST_BORDER, find_object, outline
from ..data.narrowing import half_in_view, rounded_up
from ..utils.files import replacing
from .images import drawn_text

__all__ = ["draw_survey", "survey"]

PINHOLE = "pinhole"
#: What lenses that bend something are called, by projection.
LENSES = {
    "perspective": "distorted (OpenCV)", "fisheye": "fisheye", "fov": "FOV",
    "equirectangular": "panorama (equirectangular)",
}  # fmt: skip
GROUPS = ("front", "rear", "left", "right")
#: Of each split.
COLOURS = {"train": "#2f6fb3", "val": "#7a9a3a", "test": "#d1495b"}
INK, MUTED = "#181c24", "#6e7480"
#: Width of a bar of the histogram, degrees.
BAR = 15
#: Where an object may be if nothing outlines one.
IN_VIEW = "what the cameras have in view all round"
#: Shares of the box's side below which an object, or what is in view all round, is small in it.
SMALL = (0.5, 0.2)
#: Differences of 8 bit colour within which a border is of one colour.
PLAIN = 10
Axes = Any  # matplotlib's, which is imported only when something is drawn


def survey(scene: Scene) -> dict[str, Any]:
    """What was found, as plain values.

    Returns:
        ``splits`` (views, how many of each view group, picture sizes, channels and
        the share of the pixels that count), ``lens``,
        ``focal`` (least and most, pixels), ``masks``, ``aabb``, ``near``, ``far``, ``background``,
        ``front``, ``placement``, ``object`` (see `object_in`) and ``notes``.
    """
    splits: dict[str, Any] = {}
    focal: list[float] = []
    lens = set()
    masked = 0
    for name in scene.loaders:
        views = scene.split(name)
        cameras = views.cameras
        splits[name] = {
            "views": len(views),
            "sizes": [list(size) for size in cameras.distinct_sizes],
            "channels": views.stored.channels,
            "counted": round(views.counted_share(), 6),
            **{group: int(members(scene, cameras, group).sum()) for group in GROUPS},
        }
        focal += cameras.intrinsics[:, :2].flatten().tolist()
        masked += len(views) if views.masks is not None else 0
        lens.update(lens_of(cameras).split(" and "))
    placement = scene.placement
    return {
        "name": scene.name,
        "splits": splits,
        "lens": " and ".join(sorted(lens)),
        "focal": [round(min(focal), 2), round(max(focal), 2)],
        "masks": masked,
        "aabb": scene.aabb.tolist(),
        "near": scene.near,
        "far": scene.far,
        "background": list(scene.background),
        "front": list(scene.front),
        "placement": None if placement is None else placement.as_dict(),
        "object": object_in(scene),
        "notes": list(scene.notes),
    }


def object_in(scene: Scene) -> dict[str, Any] | None:
    """How large what is seen is in the box, and what to type if it is small.

    Returns:
        ``from`` (how it was found), ``half_side`` (of a box around it, the data set's units),
        ``share`` (of the box's side) and ``hint``; None if nothing is known.
    """
    if "train" not in scene.loaders:
        return None
    found = outlined_object(scene)
    if found is None:
        return None
    source, aabb = found
    unit = 1.0 if scene.placement is None else scene.placement.scale
    share = float((aabb[1] - aabb[0]).max() / (scene.aabb[1] - scene.aabb[0]).max())
    half_side = 0.5 * float((aabb[1] - aabb[0]).max()) / unit
    hint = ""
    if (
        share < SMALL[source == IN_VIEW]
    ):  # a box that is asked for is one around what the cameras look at
        poses = scene.split("train").cameras.camera_to_world.double()
        reach = float((aabb.double() - looked_at(poses)).abs().max()) / unit
        hint = f"small in the box: if nothing else counts, `--half-side {rounded_up(reach):.3g}`"
    return {"from": source, "half_side": half_side, "share": share, "hint": hint}


def outlined_object(scene: Scene) -> tuple[str, torch.Tensor] | None:
    """How an object was found, and the box around it, scene units."""
    seen = scene.seen()
    if seen is not None:
        return "alpha channels", seen.aabb
    views = scene.split("train")
    for source, solid_in in (("masks", views.mask), ("plain borders", partial(unlike, views))):
        outlines = [
            outline(name, views.cameras[[view]], solid)
            for view, name in enumerate(views.names)
            if (solid := solid_in(view)) is not None
        ]
        if 2 * len(outlines) >= len(views):
            seen = find_object(outlines, scene.aabb)
            if seen is not None:
                return source, seen.aabb
    middle = looked_at(views.cameras.camera_to_world.double())
    half = half_in_view(views.cameras, middle)
    if half is None:
        return None
    return IN_VIEW, torch.stack([middle - half, middle + half]).float()


def unlike(views: Views, view: int) -> torch.Tensor | None:
    """Where a picture is unlike its border; None where that is not of one colour."""
    image = views.image(view)[..., :3].int()
    border = torch.cat([image[0], image[-1], image[:, 0], image[:, -1]])
    colour = border.median(0).values
    plain = (border - colour).abs().amax(-1) <= PLAIN
    if float(plain.float().mean()) < 1 - MOST_BORDER:
        return None
    return (image - colour).abs().amax(-1) > 2 * PLAIN


def lens_of(cameras: Cameras) -> str:
    """The kinds of lenses in words."""
    if cameras.lenses is None:
        return PINHOLE
    lenses = [cameras.lenses.lens(view) for view in range(len(cameras))]
    return " and ".join(
        sorted({PINHOLE if lens.pinhole else LENSES[lens.projection] for lens in lenses})
    )


def members(scene: Scene, cameras: Cameras, group: str) -> torch.Tensor:
    """Which cameras are in a view group."""
    return in_group(cameras, group, scene.aabb.mean(0), scene.front)


def draw_survey(scene: Scene, path: Path) -> None:
    """Draw cameras and box from above and from the front, and the histogram of azimuths (PNG)."""
    from matplotlib.figure import Figure  # no global state, no window

    figure = Figure(figsize=(13, 4.6), dpi=100, layout="constrained")
    above, front, sides = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
    draw_cameras(above, scene, (0, 1), "from above")
    draw_cameras(front, scene, (0, 2), "from -y, along y")
    draw_histogram(sides, scene)
    figure.suptitle(f"{drawn_text(scene.name)}: " + ", ".join(
        f"{len(scene.split(name))} {drawn_text(name)}" for name in scene.loaders) + " views",
        color=INK, fontsize=12)  # fmt: skip
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def draw_cameras(axes: Axes, scene: Scene, plane: tuple[int, int], title: str) -> None:
    """Cameras as dots with a line where they look, and the box."""
    across, up = plane
    aabb = scene.aabb.numpy()
    corners = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    axes.plot([aabb[i, across] for i, _ in corners], [aabb[j, up] for _, j in corners],
              color=INK, linewidth=1, label="box")  # fmt: skip
    length = 0.12 * float(np.linalg.norm(aabb[1] - aabb[0]))
    for name in scene.loaders:
        cameras = scene.split(name).cameras
        places = cameras.positions.numpy()
        ends = places - length * cameras.camera_to_world[:, :, 2].numpy()
        colour = COLOURS.get(name, MUTED)
        axes.plot(
            np.stack([places[:, across], ends[:, across]]),
            np.stack([places[:, up], ends[:, up]]),
            color=colour,
            linewidth=0.6,
            alpha=0.6,
        )
        axes.scatter(places[:, across], places[:, up], s=12, color=colour, label=drawn_text(name),
                     zorder=3)  # fmt: skip
    if plane == (0, 1):
        centre, reach = aabb.mean(0), 0.35 * float((aabb[1] - aabb[0])[:2].max())
        toward = np.array(scene.front) / math.hypot(*scene.front) * reach
        axes.annotate(
            "front",
            xytext=centre[:2],
            xy=centre[:2] + toward,
            color=INK,
            arrowprops={"arrowstyle": "->", "color": INK},
            ha="center",
            va="center",
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(title, fontsize=10, color=MUTED)
    axes.set_xlabel("xyz"[across])
    axes.set_ylabel("xyz"[up])
    axes.grid(linewidth=0.3)
    axes.legend(fontsize=8, loc="upper right")


def draw_histogram(axes: Axes, scene: Scene) -> None:
    """How many cameras stand at which azimuth, the front in the middle."""
    from_front = [azimuths(scene, scene.split(name).cameras).numpy() for name in scene.loaders]
    axes.hist(from_front, bins=np.arange(-180, 181, BAR), stacked=True,
              color=[COLOURS.get(name, MUTED) for name in scene.loaders],
              label=[drawn_text(name) for name in scene.loaders])  # fmt: skip
    axes.axvspan(-90, 90, color=MUTED, alpha=0.08, linewidth=0)
    axes.set_xticks(range(-180, 181, 60))
    axes.set_xlabel("degrees from the front, left negative\n(shaded: the group `front`)")
    axes.set_ylabel("cameras")
    axes.set_title("azimuths", fontsize=10, color=MUTED)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)


def azimuths(scene: Scene, cameras: Cameras) -> torch.Tensor:
    """Degrees from the front, positive to the right: (views,)."""
    offset = (cameras.positions - scene.aabb.mean(0))[:, :2].double()
    x, y = scene.front
    ahead, aside = offset[:, 0] * x + offset[:, 1] * y, offset[:, 1] * x - offset[:, 0] * y
    return torch.rad2deg(torch.atan2(aside, ahead))
