"""Seconds to a quality on held-out views of the whole scene, beside the scripts that people use.

Ours follows a schedule that ends with its time, so each point of its curve is a training of its
own; the scripts have one curve each, scored on the way with their clock stopped. One training step
of Tiny NeRF takes many seconds: its step is timed, and its steps to a quality are the published
ones unless it is asked to run its own curve.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any, ClassVar

from harness.case import CASES, Case, Options, Side
from harness.figures import Claim, Figure, Measured, reaching
from harness.processes import Run, since_launch
from harness.scenes import open_scene

import memonf
from memonf.data import Scene
from memonf.evaluation.evaluate import spread
from memonf.evaluation.metrics import psnr
from memonf.training import Progress

#: dB on held-out views of the whole scene.
TARGETS = (22.7, 25.0)
#: What Tiny NeRF's notebook reaches, and in how many steps.
PUBLISHED = (22.7, 1000)
#: Steps of a script that are not counted in the length of a step, and how many are at least.
WARM_UP, TIMED_STEPS = 1, 3
#: Shares of a script's training after which it is scored.
SCORED_AT = (0.125, 0.25, 0.5, 1.0)
OURS, TINY, USUAL = "memonf", "Tiny NeRF", "usual script"


def train(data: str, side: int | None, seconds: float, seed: int, views: int) -> dict[str, float]:
    """Job: our training of some seconds, scored."""
    scene = open_scene(data, side)
    settings = memonf.TrainSettings(seconds=seconds, seed=seed)
    last: deque[Progress] = deque(maxlen=1)
    field = memonf.train(scene, group="all", settings=settings, on_step=last.append)
    whole = since_launch()
    return {
        "seconds": last[0].seconds,
        "whole": whole,
        "steps": field.record.training["steps_done"],
        "psnr": memonf.evaluate(field, scene, most_views=views).psnr,
    }


def learn(
    script: str,
    data: str,
    side: int | None,
    seed: int,
    views: int,
    seconds: float | None,
    steps: int | None,
    scored: bool,
) -> dict[str, Any]:
    """Job: a script's training until its seconds or steps are over, or the last target is reached.

    Args:
        script: Module in ``reference``.
        data: Scene.
        side: Of the pictures in pixels, None as they are.
        seed: Seed.
        views: Views to score on.
        seconds: Length; None if given by steps.
        steps: Length; None if given by seconds.
        scored: Whether it is scored on the way.

    Returns:
        ``curve``, and ``step``, the median seconds of a step after the warm-up.
    """
    scene = open_scene(data, side)
    reference = importlib.import_module(f"reference.{script}").build(scene, seed)
    prepared = since_launch()
    curve: list[dict[str, float]] = []
    marks = list(SCORED_AT if scored else ())
    durations: list[float] = []
    trained, done = 0.0, 0.0
    while done < 1:
        started = time.perf_counter()
        reference.step()
        durations.append(time.perf_counter() - started)
        trained += durations[-1]
        done = trained / seconds if seconds is not None else len(durations) / (steps or 1)
        if marks and done >= marks[0]:
            marks = [mark for mark in marks if mark > done]
            reached = score(reference, scene, views)
            point = {"seconds": trained, "whole": prepared + trained, "psnr": reached}
            curve.append({**point, "steps": len(durations)})
            if reached >= max(TARGETS):
                break
    return {"curve": curve, "step": median(durations[WARM_UP:] or durations)}


def score(reference: Any, scene: Scene, views: int) -> float:
    """Mean PSNR of a script on evenly spread held-out views."""
    held_out = spread(scene.split("test"), views)
    return fmean(
        psnr(reference.render(held_out.cameras, view),
             held_out.picture(view, scene.background_rgb))
        for view in range(len(held_out))
    )  # fmt: skip


def times(curve: Sequence[dict[str, float]]) -> dict[str, Figure]:
    """Seconds of training and of the whole process to each target."""
    return {
        named(target, clock): reaching([(point[clock], point["psnr"]) for point in curve], target)
        for target in TARGETS
        for clock in ("seconds", "whole")
    }


def named(target: float, clock: str = "seconds") -> str:
    """Name of a figure."""
    return f"to {target:g} dB" if clock == "seconds" else f"to {target:g} dB, whole process"


class TimeToQuality(Case):
    """Ours, Tiny NeRF and the usual script on one scene."""

    data: ClassVar[str | None] = None

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        own = {
            "data": self.data or str(options.data),
            "seed": options.seed,
            "views": options.views,
            "side": None,
            "ladder": list(options.ladder),
            "reference_seconds": options.reference_seconds,
            "reference_steps": options.reference_steps,
        }
        quick = {"views": 2, "side": 20, "ladder": [1.0, 2.0], "reference_seconds": 2.0}
        return own | quick if options.quick else own

    def sides(self, settings: dict[str, Any]) -> dict[str, Side]:
        """See `Case.sides`."""
        shared = {key: settings[key] for key in ("data", "side", "seed", "views")}

        def ours(run: Run) -> Measured:
            curve = []
            for seconds in settings["ladder"]:
                curve.append(run(train, seconds=seconds, **shared))
                if curve[-1]["psnr"] >= max(TARGETS):
                    break
            return Measured(times(curve), curve)

        def tiny_nerf(run: Run) -> Measured:
            steps = settings["reference_steps"]
            found = run(
                learn, script="tiny_nerf", seconds=None, steps=steps or WARM_UP + TIMED_STEPS,
                scored=steps > 0, **shared,
            )  # fmt: skip
            return tiny_nerf_times(found["step"], found["curve"])

        def usual_script(run: Run) -> Measured:
            seconds = settings["reference_seconds"]
            found = run(
                learn, script="usual_script", seconds=seconds, steps=None, scored=True, **shared
            )
            return Measured({**times(found["curve"]), "a step": Figure(found["step"])},
                            found["curve"])  # fmt: skip

        return {OURS: ours, TINY: tiny_nerf, USUAL: usual_script}

    def claims(self) -> list[Claim]:
        """See `Case.claims`."""
        return [
            Claim(named(target, clock), OURS, theirs, goal=goal if clock == "seconds" else None)
            for theirs, goal in ((TINY, 300.0), (USUAL, 8.0))
            for target in TARGETS
            for clock in ("seconds", "whole")
        ]


def tiny_nerf_times(step: float, curve: Sequence[dict[str, float]]) -> Measured:
    """Seconds to each target: off its own curve, or by the published steps."""
    target, steps = PUBLISHED
    published = steps * step
    figures = {
        named(other): Figure(published, kind="extrapolated" if other == target else "at least")
        for other in TARGETS
    }
    source = f"{TINY}: {steps} published steps to {target:g} dB × the median step measured here; "
    note = source + "25 dB takes at least as long."
    if curve:
        own = times(curve)
        if any(own[name].kind != "at least" or own[name].value > published for name in figures):
            figures = own
            note = f"{TINY}: its own curve of {curve[-1]['steps']:.0f} steps."
    return Measured({**figures, "a step": Figure(step)}, list(curve), [note])


@CASES.register("time_to_quality_lego")
class Lego(TimeToQuality):
    """NeRF-synthetic lego at 100×100."""

    title = "Time to quality: lego"
    needs_data = True


@CASES.register("time_to_quality_robot")
class Robot(TimeToQuality):
    """The embedded robot."""

    title = "Time to quality: robot"
    data = "embedded:robot"
