"""Quality of a half of lego after 45 and after 180 seconds of training."""

from __future__ import annotations

from typing import Any

from harness.case import CASES, Case, Options, Side
from harness.figures import Claim, Figure, Measured
from harness.processes import Run, since_launch
from harness.scenes import open_scene

import memonf

#: Seconds of training, and the dB that they are to reach on all held-out views of the half.
GOALS = {45: 28.0, 180: 30.0}
GROUP = "front"


def train_half(data: str, side: int | None, seconds: float, seed: int) -> dict[str, float]:
    """Job: train the front half, score it on all of its held-out views."""
    scene = open_scene(data, side)
    settings = memonf.TrainSettings(seconds=seconds, seed=seed)
    field = memonf.train(scene, group=GROUP, settings=settings)
    whole = since_launch()
    scores = memonf.evaluate(field, scene, group=GROUP)
    return {"psnr": scores.psnr, "ssim": scores.ssim, "whole": whole,
            "steps": field.record.training["steps_done"]}  # fmt: skip


@CASES.register("half")
class Half(Case):
    """Only ours: what a parent is after so long."""

    title = "Quality of a half: lego, front"
    needs_data = True

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        return {
            "data": str(options.data),
            "seed": options.seed,
            "side": 20 if options.quick else None,
            "shortened": 45 if options.quick else 1,
        }

    def sides(self, settings: dict[str, Any]) -> dict[str, Side]:
        """See `Case.sides`."""

        def side_of(seconds: int) -> Side:
            def side(run: Run) -> Measured:
                found = run(
                    train_half, data=settings["data"], side=settings["side"],
                    seconds=seconds / settings["shortened"], seed=settings["seed"],
                )  # fmt: skip
                return Measured({
                    "PSNR": Figure(found["psnr"], "dB"),
                    "SSIM": Figure(found["ssim"], "of 1"),
                    "whole process": Figure(found["whole"]),
                    "steps": Figure(found["steps"], "steps"),
                })  # fmt: skip

            return side

        return {f"{seconds} s": side_of(seconds) for seconds in GOALS}

    def claims(self) -> list[Claim]:
        """See `Case.claims`."""
        return [
            Claim("PSNR", f"{seconds} s", by="value", goal=goal) for seconds, goal in GOALS.items()
        ]
