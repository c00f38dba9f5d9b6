"""A small, deterministic ray tracer for the embedded scenes.

A scene is a list of parts. Each part is a signed distance function in its own frame, boxed by
its half extents, and painted by a function of the local position. Rays are sphere-traced part by
part inside the parts' boxes, which is far cheaper in numpy than marching through the whole scene.

Points and directions are arrays of shape ``(3, N)``, so that ``x, y, z = points`` unpacks rows
which are contiguous. Colours are linear RGB of shape ``(3, N)`` until they are encoded as sRGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]  # float32 throughout; stubs widen what functions return
Mask = NDArray[np.bool_]
Distance = Callable[[Array], Array]
Paint = Callable[[Array], Array]

SURFACE = np.float32(4e-4)  # a ray this close to a surface has hit it: 1/70 of a pixel
MAX_STEPS = 80


# ---------------------------------------------------------------------------- vectors


def vector(*values: float) -> Array:
    """Return a column vector, shape ``(3, 1)``."""
    return np.array(values, np.float32).reshape(-1, 1)


def dot(a: Array, b: Array) -> Array:
    """Return the dot products of columns."""
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def length(a: Array) -> Array:
    """Return the lengths of columns."""
    return np.asarray(np.sqrt(dot(a, a)))


def unit(a: Array) -> Array:
    """Return the columns scaled to unit length."""
    return a / np.maximum(length(a), np.float32(1e-9))


def clamp(a: Array) -> Array:
    """Return the values clipped to [0, 1]."""
    return np.asarray(np.clip(a, np.float32(0.0), np.float32(1.0)))


def turn(axis: str, degrees: float) -> Array:
    """Return the rotation about a coordinate axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3, dtype=np.float32)
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


# ---------------------------------------------------------------------------- shapes


@dataclass(frozen=True)
class Shape:
    """A signed distance function and the half extents of the box that holds its surface."""

    distance: Distance
    extent: tuple[float, float, float]


def ball(radius: float) -> Shape:
    """Return a sphere."""
    return Shape(lambda p: length(p) - np.float32(radius), (radius, radius, radius))


def block(x: float, y: float, z: float, bevel: float = 0.02) -> Shape:
    """Return a box of the given half sizes with rounded edges."""
    core = vector(x - bevel, y - bevel, z - bevel)

    def distance(p: Array) -> Array:
        q = np.abs(p) - core
        outside = length(np.maximum(q, 0))
        return np.asarray(outside + np.minimum(q.max(axis=0), 0) - np.float32(bevel))

    return Shape(distance, (x, y, z))


def drum(radius: float, half: float, bevel: float = 0.02) -> Shape:
    """Return a cylinder about z with rounded rims."""

    def distance(p: Array) -> Array:
        side = np.hypot(p[0], p[1]) - np.float32(radius - bevel)
        top = np.abs(p[2]) - np.float32(half - bevel)
        outside = np.hypot(np.maximum(side, 0), np.maximum(top, 0))
        return np.asarray(outside + np.minimum(np.maximum(side, top), 0) - np.float32(bevel))

    return Shape(distance, (radius, radius, half))


def ring(radius: float, tube: float) -> Shape:
    """Return a torus about z."""

    def distance(p: Array) -> Array:
        aside = np.hypot(p[0], p[1]) - np.float32(radius)
        return np.asarray(np.hypot(aside, p[2]) - np.float32(tube))

    return Shape(distance, (radius + tube, radius + tube, tube))


def lathe(heights: Sequence[float], radii: Sequence[float]) -> Shape:
    """Return the solid of revolution about z whose outline is a cubic spline through the knots."""
    z = np.linspace(heights[0], heights[-1], 257)
    knots, values = np.array(heights), np.array(radii)
    slopes = np.gradient(values, knots)
    i = np.minimum(np.searchsorted(knots, z, side="right") - 1, knots.size - 2)
    span = knots[i + 1] - knots[i]
    s = (z - knots[i]) / span
    blend = s * s * (3 - 2 * s)
    ease = s * (1 - s) * ((1 - s) * slopes[i] - s * slopes[i + 1])
    outline = values[i] * (1 - blend) + values[i + 1] * blend + span * ease
    # The horizontal gap overstates the distance where the outline slopes; this bounds it.
    shrink = np.float32(1.0 / np.hypot(1.0, np.abs(np.gradient(outline, z)).max()))
    middle, half = 0.5 * (z[0] + z[-1]), 0.5 * (z[-1] - z[0])

    def distance(p: Array) -> Array:
        side = np.hypot(p[0], p[1]) - np.interp(p[2], z, outline).astype(np.float32)
        ends = np.abs(p[2] - np.float32(middle)) - np.float32(half)
        return np.asarray(np.maximum(side * shrink, ends))

    widest, reach = float(outline.max()), float(np.abs(z).max())
    return Shape(distance, (widest, widest, reach))


def carve(shape: Shape, tool: Shape, at: tuple[float, float, float]) -> Shape:
    """Return a shape less another one moved to ``at``."""
    centre = vector(*at)
    return Shape(lambda p: np.maximum(shape.distance(p), -tool.distance(p - centre)), shape.extent)


# ---------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Part:
    """A painted shape in the world.

    Attributes:
        shape: The shape in its own frame.
        paint: Linear albedo as a function of the local position.
        at: World position of the local origin.
        rotation: Local-to-world rotation.
        gloss: Reflectance at normal incidence; 0 makes the part purely diffuse.
        metal: Share of the albedo that tints the reflection instead of scattering.
    """

    shape: Shape
    paint: Paint
    at: tuple[float, float, float]
    rotation: Array = field(default_factory=lambda: np.eye(3, dtype=np.float32))
    gloss: float = 0.0
    metal: float = 0.0

    def to_local(self, points: Array) -> Array:
        """Return world points in the local frame."""
        return self.rotation.T @ (points - vector(*self.at))

    def corners(self) -> Array:
        """Return the eight corners of the local box in the world."""
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), np.float32).reshape(3, 8)
        return self.rotation @ (signs * vector(*self.shape.extent)) + vector(*self.at)


def rod(
    start: Sequence[float], end: Sequence[float], radius: float, colour: Paint, gloss: float = 0.0
) -> Part:
    """Return a thin capsule between two points; its local z runs from start to end."""
    a, b = np.array(start, np.float32), np.array(end, np.float32)
    half = float(np.linalg.norm(b - a)) / 2
    axis = (b - a) / (2 * half)
    side = np.cross(axis, [0.0, 1.0, 0.0] if abs(axis[1]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    rotation = np.stack([side, np.cross(axis, side), axis], axis=1).astype(np.float32)

    def distance(p: Array) -> Array:
        beyond = np.maximum(np.abs(p[2]) - np.float32(half), 0)
        return np.asarray(np.sqrt(p[0] ** 2 + p[1] ** 2 + beyond**2) - np.float32(radius))

    x, y, z = ((a + b) / 2).tolist()
    shape = Shape(distance, (radius, radius, half + radius))
    return Part(shape, colour, (x, y, z), rotation, gloss)


@dataclass(frozen=True)
class Light:
    """A distant light: the direction towards it, and its linear colour."""

    towards: Array
    colour: Array


@dataclass(frozen=True)
class Scene:
    """Parts and their lighting, all of it fixed in the world.

    Attributes:
        parts: What is seen.
        lights: The distant lights, which cast soft shadows and glints.
        ambient: The light that falls on a surface from all around, by its normal.
        sky: What glossy parts mirror, by the direction of the mirrored ray.
    """

    parts: Sequence[Part]
    lights: Sequence[Light]
    ambient: Callable[[Array], Array]
    sky: Callable[[Array], Array]

    def box(self, margin: float = 0.02) -> NDArray[np.float32]:
        """Return the axis-aligned box around all parts, shape ``(2, 3)``."""
        corners = np.concatenate([part.corners() for part in self.parts], axis=1)
        box = [corners.min(axis=1) - margin, corners.max(axis=1) + margin]
        return np.stack(box).astype(np.float32)


# ---------------------------------------------------------------------------- tracing


def enter_box(part: Part, o: Array, d: Array, margin: float = 0.0) -> tuple[Array, Array]:
    """Return where local rays enter and leave a part's box (a miss enters after it leaves)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.float32(1.0) / d
        reach = vector(*part.shape.extent) + np.float32(margin)
        a, b = (-reach - o) * inverse, (reach - o) * inverse
    near = np.fmin(a, b).max(axis=0)
    far = np.fmax(a, b).min(axis=0)
    return np.maximum(near, np.float32(0.0)), far


def columns(o: Array, index: NDArray[np.intp] | Mask) -> Array:
    """Return the selected columns of ray origins, of which all rays may share one."""
    return o if o.shape[1] == 1 else o[:, index]


def trace_part(part: Part, origin: Array, towards: Array, limit: Array) -> Array:
    """Return the distances to a part, or infinity where it is not met before ``limit``."""
    o, d = part.to_local(origin), part.rotation.T @ towards
    near, far = enter_box(part, o, d, margin=float(SURFACE))
    far = np.minimum(far, limit)
    result = np.full(towards.shape[1], np.inf, np.float32)
    active = np.flatnonzero(near < far)
    o, d, t, far = columns(o, active), d[:, active], near[active], far[active]
    for _ in range(MAX_STEPS):
        if not active.size:
            break
        gap = part.shape.distance(o + t * d)
        hit = gap < SURFACE
        result[active[hit]] = t[hit]
        t = t + gap
        going = ~hit & (t < far)
        o, d, t, far = columns(o, going), d[:, going], t[going], far[going]
        active = active[going]
    return result


def trace(scene: Scene, origin: Array, towards: Array) -> tuple[Array, NDArray[np.int16]]:
    """Return the distance to the nearest part of each ray, and its index (-1 for none)."""
    nearest = np.full(towards.shape[1], np.inf, np.float32)
    owner = np.full(towards.shape[1], -1, np.int16)
    order = np.argsort([float(length(origin - vector(*p.at))[0]) for p in scene.parts])
    for index in order:  # from front to back, so that hidden parts are left early
        t = trace_part(scene.parts[index], origin, towards, nearest)
        closer = t < nearest
        nearest[closer], owner[closer] = t[closer], index
    return nearest, owner


def clearance(scene: Scene, origin: Array, towards: Array, sharpness: float = 9.0) -> Array:
    """Return how clear the way is, from 0 (blocked) to 1, with soft penumbrae.

    The smallest ratio of gap to distance along a ray tells how much of a disc-like light is seen.
    """
    start, reach = np.float32(0.02), np.float32(2.4)
    seen = np.ones(origin.shape[1], np.float32)
    for part in scene.parts:
        o, d = part.to_local(origin), part.rotation.T @ towards
        near, far = enter_box(part, o, d, margin=0.12)
        far = np.minimum(far, reach)
        active = np.flatnonzero((near < far) & (seen > 0))
        t = np.maximum(near[active], start)
        for _ in range(32):
            if not active.size:
                break
            gap = part.shape.distance(o[:, active] + t * columns(d, active))
            seen[active] = np.minimum(seen[active], np.float32(sharpness) * gap / t)
            t = t + np.maximum(gap, np.float32(0.012))
            going = (t < far[active]) & (seen[active] > 0)
            active, t = active[going], t[going]
    seen = clamp(seen)
    return seen * seen * (3 - 2 * seen)


def openness(scene: Scene, points: Array, normals: Array) -> Array:
    """Return ambient visibility: how far the nearest parts leave the space above a point free."""
    covered = np.zeros(points.shape[1], np.float32)
    for height, weight in ((0.04, 0.35), (0.10, 0.35), (0.22, 0.45)):
        above = points + np.float32(height) * normals
        gap = np.full(points.shape[1], height, np.float32)
        for part in scene.parts:
            np.minimum(gap, part.shape.distance(part.to_local(above)), out=gap)
        covered += np.float32(weight) * (1 - np.maximum(gap, 0) / np.float32(height))
    return clamp(1 - covered)


# ---------------------------------------------------------------------------- shading


def surface(scene: Scene, points: Array, owner: NDArray[np.int16]) -> tuple[Array, ...]:
    """Return normals, albedo, gloss and metal at surface points."""
    normals, albedo = np.empty_like(points), np.empty_like(points)
    gloss, metal = np.zeros((2, points.shape[1]), np.float32)
    step = np.float32(2e-3)
    probes = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    for index in np.unique(owner):
        part, mine = scene.parts[index], owner == index
        local = part.to_local(points[:, mine])
        # Four probes at the corners of a tetrahedron give the gradient.
        slopes = [k[:, None] * part.shape.distance(local + step * k[:, None]) for k in probes]
        normals[:, mine] = part.rotation @ unit(np.sum(slopes, axis=0))
        albedo[:, mine] = part.paint(local)
        gloss[mine], metal[mine] = part.gloss, part.metal
    return normals, albedo, gloss, metal


def shade(scene: Scene, points: Array, towards: Array, owner: NDArray[np.int16]) -> Array:
    """Return the linear colours seen at surface points along the given directions."""
    normals, albedo, gloss, metal = surface(scene, points, owner)
    facing = clamp(-dot(normals, towards))
    fresnel = gloss + (1 - gloss) * (1 - facing) ** 5 * (gloss > 0)
    tint = 1 + metal * (albedo - 1)
    mirrored = towards + 2 * facing * normals
    origin = points + np.float32(2e-3) * normals

    free = openness(scene, points, normals)
    light = scene.ambient(normals) * free
    sheen = np.zeros_like(points)
    for lamp in scene.lights:
        falling = clamp(dot(normals, lamp.towards))
        lit = np.flatnonzero(falling > 0)
        seen = np.zeros_like(falling)
        seen[lit] = clearance(scene, origin[:, lit], lamp.towards)
        light += lamp.colour * (falling * seen)
        glint = clamp(dot(mirrored, lamp.towards)) ** 60
        sheen += lamp.colour * (glint * seen * 3)
    shiny = np.flatnonzero(gloss > 0)
    if shiny.size:
        way = clearance(scene, origin[:, shiny], mirrored[:, shiny], sharpness=5.0)
        # What blocks a reflection is taken to be as bright as the scene's shade.
        sheen[:, shiny] += scene.sky(mirrored[:, shiny]) * (0.15 + 0.85 * way)
    return np.asarray(albedo * light * (1 - metal) * (1 - fresnel) + fresnel * tint * sheen)


def encode_srgb(linear: Array) -> Array:
    """Return linear colours, clipped to [0, 1], as sRGB values."""
    c = clamp(linear)
    high = np.float32(1.055) * c ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(c <= 0.0031308, np.float32(12.92) * c, high)


def render(
    scene: Scene, pose: NDArray[np.float32], size: int, focal: float, samples: int = 4
) -> NDArray[np.uint8]:
    """Return a straight-alpha sRGB picture, shape ``(size, size, 4)``.

    Colours are averaged as they are displayed (sRGB), weighted by coverage, which is how a
    radiance field that is fitted to such pictures blends them too.
    """
    grid = ((np.arange(size * samples) + 0.5) / samples - size / 2) / focal
    right, down = np.meshgrid(grid, grid)
    rays = np.stack([right, -down, -np.ones_like(right)]).reshape(3, -1).astype(np.float32)
    towards = unit(pose[:3, :3] @ rays)
    origin = pose[:3, 3:4]
    t, owner = trace(scene, origin, towards)
    hit = np.flatnonzero(owner >= 0)
    picture = np.zeros((4, t.size), np.float32)
    along = towards[:, hit]
    picture[:3, hit] = encode_srgb(shade(scene, origin + t[hit] * along, along, owner[hit]))
    picture[3, hit] = 1.0
    mean = picture.reshape(4, size, samples, size, samples).mean(axis=(2, 4))
    mean[:3] /= np.maximum(mean[3], np.float32(1e-6))
    rgba: NDArray[np.uint8] = np.rint(np.moveaxis(mean, 0, -1) * 255).astype(np.uint8)
    rgba[rgba[..., 3] == 0] = 0
    return rgba
