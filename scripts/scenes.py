"""The two embedded scenes: a diffuse ``robot`` and a glossy ``still_life``.

Both lie within [-1, 1]^3, face -y and stand along +z. Their patterns are large and crisp: they
must survive pictures of 100 pixels, and a small network must be able to learn them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from raytracer import (
    Array,
    Light,
    Mask,
    Paint,
    Part,
    Scene,
    ball,
    block,
    carve,
    clamp,
    drum,
    lathe,
    ring,
    rod,
    turn,
    unit,
    vector,
)

Stencil = Callable[[Array, Array, Array], Mask]

INK, CREAM, SUN, CORAL, RED = "#1b2440", "#f3dca6", "#ffc233", "#ef6a4a", "#d8344f"
TEAL, PLUM, GREEN, BLUE, STEEL = "#1f9aa0", "#6b2f7d", "#2f9e57", "#3b62c4", "#5a6b8c"
GOLD, WOOD, ORANGE, JADE = "#c98b2b", "#5f4426", "#f08a24", "#2c9a6a"

# ---------------------------------------------------------------------------- patterns


def rgb(code: str) -> Array:
    """Return the linear colour of an sRGB hex code such as ``#ff8800``."""
    srgb = np.array([int(code[i : i + 2], 16) / 255.0 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32).reshape(3, 1)


def paint(base: str, *layers: tuple[Stencil, str]) -> Paint:
    """Return a paint: a base colour, and stencils of x, y, z coloured over it in order."""
    ground, coats = rgb(base), [(stencil, rgb(code)) for stencil, code in layers]

    def colour(p: Array) -> Array:
        result = np.repeat(ground, p.shape[1], axis=1)
        for stencil, ink in coats:
            result = np.where(stencil(p[0], p[1], p[2]), ink, result)
        return result

    return colour


def checks(a: Array, b: Array, cell: float) -> Mask:
    """Return a checkerboard whose corners fall on the axes."""
    return np.asarray((np.floor(a / cell) + np.floor(b / cell)) % 2 == 0)


def stripes(a: Array, period: float) -> Mask:
    """Return stripes of half a period each, one of them about the origin."""
    return (a / period + 0.25) % 1.0 < 0.5


def inside(a: Array, b: Array, half_a: float, half_b: float) -> Mask:
    """Return a rectangle about the origin."""
    return (np.abs(a) < half_a) & (np.abs(b) < half_b)


def disc(a: Array, b: Array, radius: float) -> Mask:
    """Return a disc about the origin."""
    return a * a + b * b < radius * radius


def dots(a: Array, b: Array, pitch: float, radius: float) -> Mask:
    """Return a square grid of dots, one of them at the origin."""
    return disc((a / pitch + 0.5) % 1 - 0.5, (b / pitch + 0.5) % 1 - 0.5, radius / pitch)


def strokes(a: Array, b: Array, width: float, *knots: tuple[float, float]) -> Mask:
    """Return a polyline drawn with a round pen."""
    drawn = np.zeros(a.shape, bool)
    for (a0, b0), (a1, b1) in itertools.pairwise(knots):
        da, db = a1 - a0, b1 - b0
        along = clamp(((a - a0) * da + (b - b0) * db) / (da * da + db * db))
        drawn |= disc(a - a0 - along * da, b - b0 - along * db, width / 2)
    return drawn


def letter_r(a: Array, b: Array) -> Mask:
    """Return the letter R, 0.24 high; unlike M or A, it shows a mirrored picture at once."""
    bowl = ((-0.07, -0.12), (-0.07, 0.12), (0.03, 0.12), (0.08, 0.065), (0.03, 0.0), (-0.07, 0.0))
    return strokes(a, b, 0.055, *bowl) | strokes(a, b, 0.055, (0.0, 0.0), (0.08, -0.12))


def front(mask: Stencil, before: float = 0.0) -> Stencil:
    """Return a stencil limited to where the local y is less than ``before``."""
    return lambda x, y, z: (y < before) & mask(x, y, z)


def rear(mask: Stencil, behind: float = 0.0) -> Stencil:
    """Return a stencil limited to where the local y is at least ``behind``."""
    return lambda x, y, z: (y >= behind) & mask(x, y, z)


def half(front_colour: str, rear_colour: str) -> tuple[str, tuple[Stencil, str]]:
    """Return the first layers of a paint of two colours, front and rear."""
    return front_colour, (lambda x, y, z: y >= 0, rear_colour)


# ---------------------------------------------------------------------------- robot


def robot_base() -> list[Part]:
    """Return the disc that the robot stands on: checks in front, rings at the rear."""
    top = 0.03
    colours = paint(
        *half(TEAL, PLUM),
        (front(lambda x, y, z: (z > top) & checks(x, y, 0.24)), "#a8dcc0"),
        (rear(lambda x, y, z: (z > top) & stripes(np.hypot(x, y) - 0.12, 0.32)), "#f49a6c"),
        (rear(lambda x, y, z: (z <= top) & stripes(np.arctan2(y, x), np.pi / 8)), SUN),
    )
    return [Part(drum(0.9, 0.05), colours, (0, 0, -0.9))]


def robot_legs() -> list[Part]:
    """Return feet with toe caps and heels, and banded legs."""
    foot = paint(
        INK,
        (lambda x, y, z: y < -0.08, SUN),
        (lambda x, y, z: y > 0.09, RED),
    )
    leg = paint(STEEL, (lambda x, y, z: stripes(z, 0.11), INK))
    parts = []
    for x in (-0.2, 0.2):
        parts.append(Part(block(0.145, 0.21, 0.075, 0.05), foot, (x, -0.05, -0.775)))
        parts.append(Part(drum(0.075, 0.14), leg, (x, 0, -0.58)))
    return parts


def robot_body() -> list[Part]:
    """Return the torso with its chest panel, and the backpack with stripes and a letter."""
    chest = paint(
        TEAL,
        (lambda x, y, z: z < -0.2, "#14727f"),
        (front(lambda x, y, z: inside(x, z, 0.27, 0.215), -0.2), INK),
        (front(lambda x, y, z: inside(x, z, 0.24, 0.185), -0.2), SUN),
        (front(lambda x, y, z: disc(x, z - 0.045, 0.115), -0.2), CREAM),
        (front(lambda x, y, z: strokes(x, z, 0.04, (0, 0.03), (0.055, 0.115)), -0.2), RED),
        (front(lambda x, y, z: disc(x + 0.15, z + 0.12, 0.045), -0.2), RED),
        (front(lambda x, y, z: disc(x, z + 0.12, 0.045), -0.2), GREEN),
        (front(lambda x, y, z: disc(x - 0.15, z + 0.12, 0.045), -0.2), BLUE),
    )
    pack = paint(
        RED,
        (lambda x, y, z: stripes(x + z, 0.24), CREAM),
        (rear(lambda x, y, z: disc(x, z, 0.2), 0.1), INK),
        (rear(lambda x, y, z: letter_r(-x, z), 0.1), SUN),
    )
    jet = paint(STEEL, (lambda x, y, z: z < -0.03, CORAL))
    return [
        Part(block(0.36, 0.25, 0.3, 0.08), chest, (0, 0, -0.18)),
        Part(block(0.3, 0.13, 0.28, 0.06), pack, (0, 0.36, -0.14)),
        Part(drum(0.075, 0.08), jet, (-0.16, 0.36, -0.47)),
        Part(drum(0.075, 0.08), jet, (0.16, 0.36, -0.47)),
        Part(drum(0.11, 0.06), paint(INK), (0, 0, 0.15)),
    ]


def robot_head() -> list[Part]:
    """Return the head: a face in front, a dotted hatch at the rear, ears and two antennas."""

    def holes(x: Array, y: Array, z: Array) -> Mask:
        return inside(x, z, 0.22, 0.14) & dots(x, z + 0.07, 0.14, 0.045)

    def smile(x: Array, y: Array, z: Array) -> Mask:
        return strokes(x, z, 0.05, (-0.13, -0.08), (-0.06, -0.125), (0.06, -0.125), (0.13, -0.08))

    skull = paint(
        CORAL,
        (lambda x, y, z: np.abs(z - 0.185) < 0.025, SUN),
        (front(lambda x, y, z: inside(x, z, 0.29, 0.16), -0.22), INK),
        (front(smile, -0.22), "#ff9db0"),
        (rear(lambda x, y, z: inside(x, z, 0.27, 0.15), 0.22), GREEN),
        (rear(holes, 0.22), CREAM),
    )
    eye = paint(CREAM, (lambda x, y, z: (y < 0) & disc(x, z, 0.052), "#2746a8"))
    ear = paint(PLUM, (lambda x, y, z: disc(x, y, 0.055), SUN))
    return [
        Part(block(0.37, 0.28, 0.24, 0.09), skull, (0, 0, 0.41)),
        Part(ball(0.095), eye, (-0.14, -0.255, 0.45)),
        Part(ball(0.095), eye, (0.14, -0.255, 0.45)),
        Part(drum(0.115, 0.05), ear, (-0.4, 0, 0.42), turn("y", 90)),
        Part(drum(0.115, 0.05), ear, (0.4, 0, 0.42), turn("y", 90)),
        rod((0.12, 0, 0.63), (0.19, 0, 0.86), 0.017, paint(INK)),
        Part(ball(0.06), paint(*half(RED, BLUE)), (0.19, 0, 0.875)),
        rod((-0.16, 0, 0.63), (-0.22, 0, 0.78), 0.017, paint(INK)),
        Part(ring(0.06, 0.018), paint("#e0902a"), (-0.24, 0, 0.85), turn("x", 90)),
    ]


def robot_arms() -> list[Part]:
    """Return thin arms: one carries a flag with two faces, the other a hoop."""
    steel, glove = paint(STEEL), paint(*half(SUN, CORAL))
    flag = paint(
        SUN,
        (front(lambda x, y, z: checks(x, z, 0.1)), RED),
        (lambda x, y, z: y >= 0, BLUE),
        (rear(lambda x, y, z: disc(x, z, 0.07)), CREAM),
    )
    parts = [
        rod((0.4, 0, 0), (0.63, -0.02, -0.2), 0.034, steel),
        rod((0.63, -0.02, -0.2), (0.78, -0.14, 0.06), 0.034, steel),
        rod((-0.4, 0, 0), (-0.62, 0, -0.2), 0.034, steel),
        rod((-0.62, 0, -0.2), (-0.68, -0.16, -0.42), 0.034, steel),
        Part(ball(0.075), glove, (0.78, -0.14, 0.06)),
        Part(ball(0.075), glove, (-0.68, -0.16, -0.42)),
        Part(ring(0.1, 0.02), paint(PLUM), (-0.69, -0.18, -0.58), turn("x", 80)),
        rod((0.78, -0.14, -0.14), (0.78, -0.14, 0.88), 0.018, paint("#8a4b2a")),
        Part(block(0.15, 0.018, 0.15, 0.01), flag, (0.63, -0.14, 0.72)),
    ]
    for x in (-0.4, 0.4):
        parts.append(Part(ball(0.09), paint(INK), (x, 0, 0)))
    return parts


def daylight(direction: Array) -> Array:
    """Return soft ambient light: cool from above, warm from below."""
    height = 0.5 + 0.5 * direction[2]
    return np.asarray(vector(0.38, 0.33, 0.30) * (1 - height) + vector(0.57, 0.61, 0.67) * height)


def robot() -> Scene:
    """Return the diffuse scene."""
    parts = robot_base() + robot_legs() + robot_body() + robot_head() + robot_arms()
    return Scene(parts, LAMPS, daylight, daylight)


# ---------------------------------------------------------------------------- still life


def table() -> list[Part]:
    """Return a round checked table on four thin legs with a hoop between them."""
    top = 0.02
    board = paint(
        *half("#8a4b2a", "#7a2f3c"),
        (front(lambda x, y, z: z > top), "#f0c878"),
        (front(lambda x, y, z: (z > top) & checks(x, y, 0.225)), "#1c7c86"),
        (rear(lambda x, y, z: z > top), "#d98a8f"),
        (rear(lambda x, y, z: (z > top) & checks(x, y, 0.225)), "#572a5e"),
        (lambda x, y, z: (z > top) & (np.hypot(x, y) > 0.83), "#a8642c"),
    )
    parts = [Part(drum(0.9, 0.04), board, (0, 0, -0.3), gloss=0.05)]
    for x in (-1, 1):
        for y in (-1, 1):
            leg = paint("#2d6f52" if y < 0 else "#8f2f45")
            parts.append(rod((0.5 * x, 0.5 * y, -0.33), (0.6 * x, 0.6 * y, -0.915), 0.03, leg))
    parts.append(Part(ring(0.785, 0.018), paint(GOLD), (0, 0, -0.65)))
    return parts


def vase() -> list[Part]:
    """Return the vase in the middle, a sun in front and bands at the rear, with four twigs."""
    body = lathe((-0.28, -0.24, -0.04, 0.12, 0.22, 0.28), (0.11, 0.14, 0.225, 0.15, 0.085, 0.12))
    glaze = paint(
        "#2346a0",
        (front(lambda x, y, z: disc(x, z + 0.05, 0.15)), SUN),
        (front(lambda x, y, z: disc(x, z + 0.05, 0.085)), "#e2553a"),
        (rear(lambda x, y, z: stripes(z, 0.13)), "#f3a6b4"),
        (lambda x, y, z: z > 0.22, GOLD),
    )
    bark = paint(WOOD)
    tips = (
        ((-0.3, -0.14, 0.76), (-0.12, -0.06, 0.5), 0.085, "#e23b4e"),
        ((0.06, -0.22, 0.86), (0.02, -0.08, 0.55), 0.075, ORANGE),
        ((0.26, 0.24, 0.72), (0.12, 0.1, 0.5), 0.085, "#8b45b5"),
        ((-0.12, 0.28, 0.85), (-0.06, 0.1, 0.55), 0.075, "#3f9d4f"),
    )
    parts = [Part(body, glaze, (0, 0, 0.02), gloss=0.12)]
    for tip, bend, size, colour in tips:
        parts.append(rod((bend[0] / 4, bend[1] / 4, 0.25), bend, 0.017, bark))
        parts.append(rod(bend, tip, 0.017, bark))
        parts.append(Part(ball(size), paint(colour), tip, gloss=0.12))
    return parts


def front_things() -> list[Part]:
    """Return a mirror-like ball, a golden ring around a small ball, and a lacquered cube."""
    lacquer = paint(
        "#16313c",
        (lambda x, y, z: np.abs(z) < 0.035, ORANGE),
        (lambda x, y, z: (z > 0.1) & disc(x, y, 0.065), ORANGE),
    )
    return [
        Part(ball(0.22), paint("#e0243c"), (-0.46, -0.36, -0.04), gloss=0.28, metal=0.55),
        Part(ring(0.17, 0.06), paint("#ffcb45"), (0.46, -0.36, -0.2), gloss=0.55, metal=0.5),
        Part(ball(0.1), paint(GREEN), (0.46, -0.36, -0.16), gloss=0.15),
        Part(block(0.125, 0.125, 0.125, 0.03), lacquer, (-0.02, -0.6, -0.135), turn("z", 28),
             gloss=0.15),
    ]  # fmt: skip


def rear_things() -> list[Part]:
    """Return a mug with a thin handle, a pear, and a cone with rings."""
    mug = carve(drum(0.16, 0.17, 0.02), drum(0.13, 0.17, 0.02), (0, 0, 0.04))
    green = paint(JADE, (lambda x, y, z: np.abs(z - 0.02) < 0.05, CREAM))
    pear = lathe((-0.17, -0.15, -0.06, 0.08, 0.18, 0.22), (0.05, 0.11, 0.155, 0.09, 0.065, 0.01))
    skin = paint("#b9c23a", (lambda x, y, z: x + 0.5 * z > 0.05, "#dc8a3c"))
    cone = lathe((-0.22, -0.18, 0.22), (0.18, 0.17, 0.015))
    rings = paint("#e0552f", (lambda x, y, z: stripes(z, 0.15), "#f5cf5d"))
    return [
        Part(mug, green, (0.38, 0.36, -0.09), gloss=0.12),
        Part(ring(0.1, 0.022), paint(JADE), (0.597, 0.485, -0.09),
             turn("z", 30) @ turn("x", 90), gloss=0.12),
        Part(pear, skin, (0.0, 0.6, -0.09), gloss=0.06),
        rod((0, 0.6, 0.1), (0.03, 0.6, 0.22), 0.016, paint(WOOD)),
        Part(cone, rings, (-0.46, 0.36, -0.04), gloss=0.15),
    ]  # fmt: skip


def studio(direction: Array) -> Array:
    """Return a smooth sky: a dark floor, a warm horizon, a blue zenith and two bright windows."""
    x, y, z = direction
    up, down = clamp(z), clamp(-z)
    sky = vector(0.40, 0.34, 0.32) * (1 - up) + vector(0.12, 0.30, 0.72) * up
    sky = sky * (1 - down) + vector(0.10, 0.06, 0.05) * down
    cool = np.exp(-9 * ((x + 0.75) ** 2 + (y + 0.4) ** 2 + (z - 0.5) ** 2))
    warm = np.exp(-7 * ((x - 0.55) ** 2 + (y - 0.6) ** 2 + (z - 0.55) ** 2))
    return np.asarray(sky + vector(2.4, 2.6, 2.8) * cool + vector(2.9, 2.1, 1.3) * warm)


def still_life() -> Scene:
    """Return the glossy scene."""
    parts = table() + vase() + front_things() + rear_things()
    return Scene(parts, LAMPS, daylight, studio)


# One lamp for each side, so that the rear is not in the dark.
LAMPS = (
    Light(unit(vector(0.5, -0.75, 1.1)), vector(0.62, 0.58, 0.52)),
    Light(unit(vector(-0.6, 0.8, 0.9)), vector(0.50, 0.50, 0.52)),
)
SCENES: dict[str, tuple[Callable[[], Scene], str, str]] = {
    "robot": (
        robot,
        "Toy robot",
        "A diffuse toy robot: face, chest panel and flag in front; striped backpack at the rear.",
    ),
    "still_life": (
        still_life,
        "Glossy still life",
        "Shiny things on a round table: ball, ring, cube in front; mug, pear, cone at the rear.",
    ),
}
