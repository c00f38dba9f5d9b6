"""Seconds of merges, and what they give beside training on all images for as long as `distill`."""

from __future__ import annotations

import copy
import time
from collections import deque
from typing import Any

from harness.case import CASES, Case, Options, Side
from harness.fields import trained
from harness.figures import Claim, Figure, Measured
from harness.processes import Run, since_launch
from harness.scenes import open_scene

import memonf
from memonf.training import Progress

#: As many as `memonf merge` takes by itself.
DISTILL_STEPS = 700
METHODS = ("weight_matching", "least_squares", "gauss_newton", "distill")
JOINT = "joint, from images, as long as distill"


def merge_and_score(
    method: str,
    parents: list[str],
    data: str,
    side: int | None,
    views: int,
    seed: int,
    own: dict[str, Any],
) -> dict[str, float]:
    """Job: merge two field files with the method's `own` settings, then score the merge."""
    started = time.perf_counter()
    merged = memonf.merge(parents, method, seed=seed, **own).field
    seconds = time.perf_counter() - started
    whole = since_launch()
    psnr = memonf.evaluate(merged, open_scene(data, side), most_views=views).psnr
    return {"seconds": seconds, "whole": whole, "psnr": psnr}


def train_and_score(
    data: str, side: int | None, views: int, seed: int, seconds: float
) -> dict[str, float]:
    """Job: train on all images for as long as a merge took, then score."""
    scene = open_scene(data, side)
    settings = memonf.TrainSettings(seconds=seconds, seed=seed)
    last: deque[Progress] = deque(maxlen=1)
    field = memonf.train(scene, settings=settings, on_step=last.append)
    whole = since_launch()
    psnr = memonf.evaluate(field, scene, most_views=views).psnr
    return {"seconds": last[0].seconds, "whole": whole, "psnr": psnr}


def match_planted(kind: str, width: int, noise: float, seed: int) -> dict[str, float]:
    """Job: `weight_matching` of a network and its twin under a planted permutation and noise."""
    from planted import Instance, recovered

    instance = Instance(kind, width, noise, seed, gauges=False)
    fields = []
    for params in (instance.a, instance.b):
        field = copy.deepcopy(instance.field)
        field.load_state_dict(params)
        fields.append(field.eval())
    seconds = memonf.merge(fields, "weight_matching", seed=seed).report["seconds"]
    found = instance.match().perms
    return {"seconds": seconds, "recovered": recovered(instance.symmetry, instance.element, found)}


@CASES.register("merging")
class Merging(Case):
    """Two halves of the embedded robot, 4×128."""

    title = "Merges of two halves of robot, 4×128"

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        return {
            "data": "embedded:robot",
            "side": 20 if options.quick else None,
            "steps": 40 if options.quick else 600,
            "views": 2 if options.quick else options.views,
            "seed": options.seed,
            "distill_steps": 20 if options.quick else DISTILL_STEPS,
        }

    def sides(self, settings: dict[str, Any]) -> dict[str, Side]:
        """See `Case.sides`."""
        shared = {key: settings[key] for key in ("data", "side", "views", "seed")}
        last_distill: list[float] = []

        def side_of(method: str) -> Side:
            def side(run: Run) -> Measured:
                parents = [
                    trained(
                        run, settings["data"], settings["side"], group, settings["steps"],
                        settings["seed"] + number,
                    )
                    for number, group in enumerate(("front", "rear"), 1)
                ]  # fmt: skip
                own = {"steps": settings["distill_steps"]} if method == "distill" else {}
                found = run(merge_and_score, method=method, parents=parents, own=own, **shared)
                if method == "distill":
                    last_distill.append(found["seconds"])
                return measured(found)

            return side

        def joint(run: Run) -> Measured:
            if not last_distill:  # it was measured in an earlier run that was broken off
                side_of("distill")(run)
            return measured(run(train_and_score, seconds=last_distill[-1], **shared))

        return {**{method: side_of(method) for method in METHODS}, JOINT: joint}

    def claims(self) -> list[Claim]:
        """See `Case.claims`."""
        return [Claim("PSNR", "distill", JOINT, by="difference")]


def measured(found: dict[str, float]) -> Measured:
    """The figures of a merge, or of the training beside it."""
    return Measured({
        "merge or training": Figure(found["seconds"]),
        "whole process": Figure(found["whole"]),
        "PSNR": Figure(found["psnr"], "dB"),
    })  # fmt: skip


@CASES.register("planted")
class Planted(Case):
    """Matching alone, where the answer is known: a permutation and noise."""

    title = "`weight_matching` of planted twins"

    #: Side -> architecture and width.
    NETWORKS = {"tiny_nerf 4×128": ("tiny_nerf", 128), "nerf 8×256": ("nerf", 256)}  # noqa: RUF012

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        return {"noise": 0.3, "seed": options.seed}

    def sides(self, settings: dict[str, Any]) -> dict[str, Side]:
        """See `Case.sides`."""

        def side_of(kind: str, width: int) -> Side:
            def side(run: Run) -> Measured:
                found = run(match_planted, kind=kind, width=width, **settings)
                return Measured({
                    "merge": Figure(found["seconds"]),
                    "units recovered": Figure(100 * found["recovered"], "%"),
                })  # fmt: skip

            return side

        return {name: side_of(*network) for name, network in self.NETWORKS.items()}
