"""Pictures of a trained field: `Renderer` beside evenly spread samples, and a turntable of 60."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeAlias

import torch
from harness.case import CASES, Case, Options, Side
from harness.fields import trained
from harness.figures import Claim, Figure, Measured
from harness.processes import Run
from harness.scenes import open_scene
from reference import dense
from safetensors.torch import load_file, save_file

import memonf
from memonf.cameras.cameras import Cameras, turntable
from memonf.data import Views
from memonf.evaluation.evaluate import spread
from memonf.evaluation.metrics import psnr
from memonf.fields import Field
from memonf.rendering import volume_rendering as rendering
from memonf.rendering.baking import preview
from memonf.typing import Tensor

#: A camera and one of its views -> rgb (height, width, 3).
Picture: TypeAlias = Callable[[Cameras, int], Tensor]

OURS, PLAIN = "pictures to score", "64 even samples"
FILM, BAKED = "frames of films", "baked preview"
#: Samples a ray of the converged pictures, and pixels of the turntable's sides.
CONVERGED, SIZE, FRAMES = 512, 100, 60
#: Frames of the turntable that the plain way renders; the others take as long.
PLAIN_FRAMES = 6


def ours(field: Field) -> Picture:
    """`Renderer` as `memonf render` and `memonf eval` use it."""
    renderer = memonf.Renderer.of(field)
    return lambda cameras, view: renderer.view(cameras, view).rgb


def film(field: Field) -> Picture:
    """`Renderer` as turntables use it."""
    renderer = memonf.Renderer.of(field, rendering.FRAMES)
    return lambda cameras, view: renderer.view(cameras, view).rgb


def baked(field: Field) -> Picture:
    """A field written out on a grid, as `memonf render --preview` uses it."""
    renderer = preview(field)
    return lambda cameras, view: renderer.view(cameras, view).rgb


def plain(field: Field) -> Picture:
    """All samples of all rays."""
    return lambda cameras, view: dense.render(field, cameras, view)


#: Side -> a function that makes a field ready for pictures; another way to render joins by a line.
WAYS: dict[str, Callable[[Field], Picture]] = {
    OURS: ours, FILM: film, BAKED: baked, PLAIN: plain
}  # fmt: skip


def held_out(data: str, side: int | None, views: int) -> tuple[Views, Tensor]:
    """Evenly spread held-out views and the scene's background."""
    scene = open_scene(data, side)
    return spread(scene.split("test"), views), scene.background_rgb


def converge(field: str, data: str, side: int | None, views: int, out: str) -> None:
    """Job: pictures of the held-out views with so many samples that more change nothing."""
    pictures, _ = held_out(data, side, views)
    loaded = memonf.load(field)
    save_file(
        {
            str(view): dense.render(loaded, pictures.cameras, view, CONVERGED).contiguous()
            for view in range(len(pictures))
        },
        out,
    )


def render(
    way: str, field: str, converged: str, data: str, side: int | None, views: int
) -> dict[str, float]:
    """Job: the held-out views by one way, after one view that is not counted."""
    pictures, background = held_out(data, side, views)
    best = load_file(converged)
    loaded = memonf.load(field)
    started = time.perf_counter()
    picture = WAYS[way](loaded)
    ready = time.perf_counter() - started
    picture(pictures.cameras, 0)
    seconds, against_truth, against_best = [], [], []
    for view in range(len(pictures)):
        started = time.perf_counter()
        rgb = picture(pictures.cameras, view)
        seconds.append(time.perf_counter() - started)
        against_truth.append(psnr(rgb, pictures.picture(view, background)))
        against_best.append(psnr(rgb, best[str(view)]))
    return {
        "ready": ready,
        "view": median(seconds),
        "truth": fmean(against_truth),
        "converged": fmean(against_best),
    }


def turn(way: str, field: str, frames: int, rendered: int) -> dict[str, float]:
    """Job: the first `rendered` frames of a turntable, with all that comes before the first."""
    loaded = memonf.load(field)
    cameras = loaded.record.cameras
    centre = loaded.aabb.mean(0)
    assert cameras is not None
    radius = float((cameras.positions - centre).norm(dim=-1).mean())
    around = turntable(frames, SIZE, radius, centre)
    with torch.no_grad():
        started = time.perf_counter()
        picture = WAYS[way](loaded)
        ready = time.perf_counter() - started
        for frame in range(rendered):
            picture(around, frame)
    return {"ready": ready, "seconds": time.perf_counter() - started}


class OfField(Case):
    """What both cases share: the field, trained on all views of the embedded robot."""

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        return {
            "data": "embedded:robot",
            "side": 20 if options.quick else None,
            "steps": 30 if options.quick else 600,
            "seed": options.seed,
        }

    def field(self, run: Run, settings: dict[str, Any]) -> str:
        """Path of the field."""
        keys = ("data", "side", "steps", "seed")
        return trained(run, group="all", **{key: settings[key] for key in keys})


@CASES.register("rendering")
class Rendering(OfField):
    """Seconds a view, and what it costs in quality."""

    title = "A held-out view of a trained field"

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        return super().settings(options) | {"views": 2 if options.quick else 5}

    def sides(self, settings: dict[str, Any]) -> dict[str, Side]:
        """See `Case.sides`."""
        views = {key: settings[key] for key in ("data", "side", "views")}

        def side_of(way: str) -> Side:
            def side(run: Run) -> Measured:
                field = self.field(run, settings)
                converged = Path(field).with_suffix(f".{settings['views']}.converged")
                if not converged.exists():
                    run(converge, field=field, out=str(converged), **views)
                found = run(render, way=way, field=field, converged=str(converged), **views)
                return Measured({
                    "a view": Figure(found["view"]),
                    "made ready": Figure(found["ready"]),
                    "PSNR": Figure(found["truth"], "dB"),
                    f"PSNR against {CONVERGED} samples": Figure(found["converged"], "dB"),
                })  # fmt: skip

            return side

        return {way: side_of(way) for way in WAYS}

    def claims(self) -> list[Claim]:
        """See `Case.claims`."""
        return [
            Claim("a view", OURS, PLAIN),
            Claim("PSNR", OURS, PLAIN, by="difference", goal=-0.05),
            Claim("a view", FILM, PLAIN, goal=20),
            Claim("PSNR", FILM, PLAIN, by="difference", goal=-0.05),
            Claim("a view", BAKED, PLAIN),
        ]


@CASES.register("turntable")
class Turntable(OfField):
    """A film of 60 frames, with what is looked up before the first."""

    title = "A turntable of 60 frames, 100×100"

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        return super().settings(options) | {"frames": 2 if options.quick else FRAMES}

    def sides(self, settings: dict[str, Any]) -> dict[str, Side]:
        """See `Case.sides`."""

        def side_of(way: str) -> Side:
            frames = settings["frames"]
            rendered = min(frames, PLAIN_FRAMES) if way == PLAIN else frames

            def side(run: Run) -> Measured:
                found = run(
                    turn, way=way, field=self.field(run, settings), frames=frames, rendered=rendered
                )
                each = (found["seconds"] - found["ready"]) / rendered
                whole = Figure(
                    found["ready"] + frames * each,
                    kind="measured" if rendered == frames else "extrapolated",
                )
                return Measured({"turntable": whole, "a frame": Figure(each)})

            return side

        return {way: side_of(way) for way in WAYS}

    def claims(self) -> list[Claim]:
        """See `Case.claims`."""
        return [Claim("turntable", FILM, by="value"), Claim("turntable", FILM, PLAIN)]
