"""Boxes that follow what was seen, and data sets whose coordinates are not what they should be.

A capture's first box holds all its cameras, or is what the file says: an object in it may take a
fiftieth of its side. Where the alpha channels outline the object (`memonf.data.hull`) the box
becomes one around the object. Blender's layouts have no box: they are for objects within ±1.5 and
cameras about 4 away. Where cameras and outlines say otherwise, such a scene is placed as a
capture is.

What was asked for, and what a data set says of its own layout, is kept as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..cameras.cameras import Cameras
from ..cameras.frames import Placement, looked_at
from ..errors import DataError
from ..typing import Float, Tensor
from .base import Scene, Views
from .blender import FAR, NEAR
from .boxes import box_notes
from .capture import HALF_SCENE, NEAR_SHARE, Place
from .hull import Seen
from .poses import precision_notes

__all__ = ["half_in_view", "narrowed", "rounded_up", "settled"]

#: A box is narrowed if the object's is smaller than this share of it.
WORTH = 0.9
#: Half sides that a scene in coordinates of its own may have, scene units: densities and encodings
#: are made for `HALF_SCENE`.
LEAST_HALF, MOST_HALF = 0.25, 6.0
#: How much larger than the object the box around its hull may be.
HULL_SLACK = 1.1
#: Distances of cameras from the middle for which Blender's near and far are right.
NEAREST_CAMERA, FARTHEST_CAMERA = 3.4, 4.6
#: Distance of the middle of what cameras look at from the origin that is taken for none.
OFF_CENTRE = 0.75
#: Half sides that cameras may have in view all round an object within ±1.5, and the share of it
#: that an object's box takes.
LEAST_VIEW, MOST_VIEW, VIEW_MARGIN = 0.4, 2.6, 1.04


@dataclass(frozen=True)
class Cube:
    """A box with equal sides.

    Attributes:
        centre: (3,), scene units.
        half_side: Half a side, scene units.
    """

    centre: Float[Tensor, " 3"]
    half_side: float

    @classmethod
    def around(cls, seen: Seen, unit: float = 1.0) -> Cube:
        """A cube around an object, in round numbers of a unit: the same on every machine."""
        half_side = unit * rounded_up(seen.half_side / unit)
        step = half_side / 100
        return cls((seen.centre.double() / step).round() * step, half_side)

    @property
    def aabb(self) -> Float[Tensor, "2 3"]:
        """Its corners."""
        centre = self.centre.float()
        return torch.stack([centre - self.half_side, centre + self.half_side])


#: The box of a placed scene.
CUBE = Cube(torch.zeros(3), HALF_SCENE)


def rounded_up(value: float) -> float:
    """At least a value above zero, to three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.3g}")


def narrowed(scene: Scene) -> Scene:
    """A capture whose box is that of the object that its alpha channels outline, if they do.

    Args:
        scene: As its reader placed it, by its cameras alone.
    """
    if scene.box_given or "train" not in scene.loaders:
        return scene
    seen = scene.seen()
    before = 0.5 * float((scene.aabb[1] - scene.aabb[0]).max())
    if seen is None or seen.half_side >= WORTH * before:
        return with_notes(scene, doubts(seen))
    unit = 1.0 if scene.placement is None else scene.placement.scale
    cube = Cube.around(seen, unit)
    note = (
        f"box narrowed to what the alpha channels outline: half a side is "
        f"{cube.half_side / unit:.4g}, {cube.half_side / before:.2g} of the {before / unit:.4g} "
        f"that it was; `--half-side {before / unit:.4g}` takes the whole"
    )
    notes = [note, *doubts(seen)]
    shift = float((cube.centre - scene.aabb.double().mean(0)).norm())
    farthest = scene.far - float((scene.aabb[1] - scene.aabb[0]).norm()) + shift
    factor = HALF_SCENE / cube.half_side
    if scene.placement is None:
        far = farthest + float((cube.aabb[1] - cube.aabb[0]).norm())
        return with_notes(replace(scene, aabb=cube.aabb, far=far), notes)
    move = Placement(torch.eye(3, dtype=torch.float64), -cube.centre, factor)
    far = factor * farthest + 2 * HALF_SCENE * math.sqrt(3)
    return with_notes(moved(scene, move, near=factor * scene.near, far=far), notes)


def settled(scene: Scene, place: Place, half_side: float | None) -> Scene:
    """A scene of a layout that says no box, placed if its coordinates are not what they should be.

    Args:
        scene: As its reader made it, in its own coordinates.
        place: What was asked for: ``keep`` moves the box alone.
        half_side: Half a side of the box that was asked for, around what the cameras look at.

    Raises:
        DataError: A box was asked for, and the data set has one.
    """
    if half_side is not None and scene.box_given:
        raise DataError(
            f"{scene.name}: its coordinates and box are given; only captures are placed"
        )
    if "train" not in scene.loaders:
        return scene
    cameras = scene.split("train").cameras
    scene = with_notes(scene, rounding_notes(scene, cameras))
    if isinstance(place, Placement):
        scene = moved(scene, place, *reach_of(place.cameras_to_scene(cameras), CUBE))
    else:
        scene = fitted(scene, cameras, place == "keep", half_side)
    remedy = "scale the poses, or set --half-side"
    cameras = scene.split("train").cameras
    return with_notes(scene, box_notes(cameras, scene.aabb, scene.near, scene.far, remedy))


def rounding_notes(scene: Scene, cameras: Cameras) -> list[str]:
    """A note where single precision rounds positions, or a refusal; layouts with a box are so."""
    middle = looked_at(cameras.camera_to_world.double())
    reach = float((cameras.positions.double() - middle).norm(dim=-1).max())
    half = max(reach, 0.5 * float((scene.aabb[1] - scene.aabb[0]).max()))
    return precision_notes(
        scene.name, cameras.positions, Cube(middle, half).aabb,
        "subtract the middle of the scene from its poses (and from the box that an archive says), "
        "or write it as a capture: transforms.json with `fl_x`",
    )  # fmt: skip


def fitted(scene: Scene, cameras: Cameras, keep: bool, half_side: float | None) -> Scene:
    """A scene with the box that suits its object and cameras, and placed by that unless kept."""
    seen = None if scene.box_given or half_side is not None else scene.seen()
    cube, why = wanted_cube(scene, cameras, seen, half_side)
    if cube is None:
        return with_notes(with_range(scene, cameras), doubts(seen))
    notes = [why if keep else f"{why}: {placed_like(cube)}", *doubts(seen)]
    if keep:
        aabb = scene.aabb if scene.box_given else cube.aabb
        near, far = reach_of(cameras, cube)
        return with_notes(replace(scene, aabb=aabb, near=near, far=far), notes)
    factor = HALF_SCENE / cube.half_side
    move = Placement(torch.eye(3, dtype=torch.float64), -cube.centre.double(), factor)
    near, far = reach_of(move.cameras_to_scene(cameras), CUBE)
    if said_range(scene):
        near, far = factor * scene.near, factor * scene.far
    placed = moved(scene, move, near, far)
    if scene.box_given:
        placed = replace(placed, aabb=move.to_scene(scene.aabb))
    return with_notes(placed, notes)


def wanted_cube(
    scene: Scene, cameras: Cameras, seen: Seen | None, half_side: float | None
) -> tuple[Cube | None, str]:
    """The box that a scene in Blender's coordinates should have, and why; None if its own fits."""
    middle = looked_at(cameras.camera_to_world.double())
    if half_side is not None:
        return Cube(middle, half_side), f"box of half a side {half_side:.4g}, as asked for"
    half = 0.5 * float((scene.aabb[1] - scene.aabb[0]).max())
    if scene.box_given:
        if LEAST_HALF <= half <= MOST_HALF:
            return None, ""
        cube = Cube(scene.aabb.double().mean(0), half)
        return cube, f"the box that the file says has half a side of {half:.4g}"
    if seen is not None:
        fits = bool((seen.aabb.abs() <= HULL_SLACK * scene.aabb.abs()).all())
        if fits and seen.half_side >= LEAST_HALF:
            return None, ""
        cube = Cube.around(seen)
        size = f"the object has half a side of {cube.half_side:.4g} around {in_words(cube.centre)}"
        return cube, f"{size}, not of about 1 around the origin"
    in_view = half_in_view(cameras, middle)
    distance = float((cameras.positions.double() - middle).norm(dim=-1).max())
    if in_view is None:
        inside = bool((cameras.positions.abs() < half).all(1).any())
        if not inside and distance <= 2 * FARTHEST_CAMERA:
            return None, ""
        cube = Cube(middle, rounded_up(max(1.25 * distance, 1e-6)))
        return cube, f"cameras stand within {cube.half_side:.4g} of the middle"
    if LEAST_VIEW <= in_view <= MOST_VIEW and float(middle.norm()) < OFF_CENTRE:
        return None, ""
    cube = Cube(middle, rounded_up(VIEW_MARGIN * in_view))
    size = f"cameras have half a side of {cube.half_side:.4g} around {in_words(middle)} in view"
    return cube, f"{size}, not of about 1.5 around the origin"


def placed_like(cube: Cube) -> str:
    """What is done about it."""
    return f"that is scaled by {HALF_SCENE / cube.half_side:.4g} to ±{HALF_SCENE}, as captures are"


def in_words(place: Tensor) -> str:
    """A place in a sentence."""
    return f"({', '.join(f'{value:.3g}' for value in place.tolist())})"


def half_in_view(cameras: Cameras, middle: Float[Tensor, " 3"]) -> float | None:
    """Half the side that most cameras have in view where they all look; None if they do not."""
    offset = middle - cameras.positions.double()
    distance = offset.norm(dim=-1)
    ahead = -cameras.camera_to_world[:, :, 2].double()
    towards = (ahead * offset).sum(-1) / distance.clamp_min(1e-12)
    slope = (cameras.angles.amin(1) / 2).tan()
    looking = towards > (1 + slope.square()).rsqrt()
    if float(looking.double().mean()) < 0.8 or float(distance.median()) <= 0:
        return None
    return float((distance * slope)[looking].median())


def with_range(scene: Scene, cameras: Cameras) -> Scene:
    """The scene, with near and far of its cameras where Blender's are not right."""
    distance = (cameras.positions - scene.aabb.mean(0)).norm(dim=-1)
    nearest, farthest = float(distance.min()), float(distance.max())
    usual = nearest >= NEAREST_CAMERA and farthest <= FARTHEST_CAMERA
    if usual or said_range(scene):
        return scene
    half = 0.5 * float((scene.aabb[1] - scene.aabb[0]).max())
    near, far = reach_of(cameras, Cube(scene.aabb.mean(0), half))
    note = (
        f"cameras stand {nearest:.4g} to {farthest:.4g} from the middle, not about 4: near is "
        f"{near:.3g} and far {far:.3g}"
    )
    return with_notes(replace(scene, near=near, far=far), [note])


def reach_of(cameras: Cameras, cube: Cube) -> tuple[float, float]:
    """Near and far for a box; half as far again for the cameras of other splits."""
    distance = (cameras.positions - cube.centre.to(cameras.positions)).norm(dim=-1)
    near = max(NEAR_SHARE * float(distance.median()), 1e-6 * cube.half_side)
    return near, 1.5 * float(distance.max()) + 2 * math.sqrt(3) * cube.half_side


def said_range(scene: Scene) -> bool:
    """Whether the data set says near and far itself."""
    return (scene.near, scene.far) != (NEAR, FAR)


def doubts(seen: Seen | None) -> list[str]:
    """Notes on views whose alpha channels do not fit those of the others."""
    if seen is None:
        return []
    notes = []
    if seen.doubted:
        notes.append(
            f"alpha channel or pose of {named(seen.doubted)} contradicts the other views: not used "
            "to find what is empty; correct it, or leave the picture out"
        )
    if seen.full:
        notes.append(f"{named(seen.full)}: opaque throughout, the other views outline an object")
    if seen.tolerance > 0:
        notes.append(
            f"the alpha channels contradict each other: up to {seen.tolerance:.0%} of the views of "
            "a place may see through it; are poses and pictures of one take?"
        )
    return notes


def named(names: tuple[str, ...]) -> str:
    """Views by name, the first few of many."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ("view " if len(names) == 1 else "views ") + ", ".join(names[:5]) + more


def with_notes(scene: Scene, notes: list[str]) -> Scene:
    """The scene, and what there is to say of it."""
    return replace(scene, notes=(*scene.notes, *notes)) if notes else scene


def moved(scene: Scene, move: Placement, near: float, far: float) -> Scene:
    """The scene in other coordinates, its box ±1.5; pictures that were read are kept."""

    def views_of(load: Callable[[], Views]) -> Views:
        views = load()
        return replace(views, cameras=move.cameras_to_scene(views.cameras))

    seen = scene._seen[0] if scene._seen else None
    if seen is not None:
        seen = replace(seen, aabb=box_around(move.to_scene(corners(seen.aabb))))
    placement = move if scene.placement is None else scene.placement.then(move)
    return replace(
        scene,
        loaders={name: partial(views_of, partial(scene.split, name)) for name in scene.loaders},
        aabb=CUBE.aabb,
        near=near,
        far=far,
        placement=placement,
        _loaded={},
        _seen=[seen] if scene._seen else [],
    )


def corners(aabb: Float[Tensor, "2 3"]) -> Float[Tensor, "8 3"]:
    """All corners of a box."""
    return torch.cartesian_prod(*aabb.T)


def box_around(points: Float[Tensor, "points 3"]) -> Float[Tensor, "2 3"]:
    """The box around some points."""
    return torch.stack([points.amin(0), points.amax(0)])
