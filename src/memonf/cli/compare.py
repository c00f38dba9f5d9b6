"""``memonf compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field as Limits
from rich.table import Table

from ..errors import ExperimentError, InputError, shown
from ..experiment import DISTILL_STEPS, HALVES, CompareSettings, Outcome, compare
from ..report import FILES, failure_content, headings, shown_figures, summary_rows, write_report
from ..training import TrainSettings
from ..utils.devices import pick_device
from ..utils.files import check_folder, check_writable
from ..utils.workers import default_workers
from .data_options import FromData, radiance_field
from .options import ResultsFolder, Switch, flag_value, parse, shown_command, with_settings
from .progress import jobs_progress
from .terminal import console, say

__all__ = ["print_outcome", "run", "run_compare"]

EXAMPLES = """\
  memonf compare --data embedded:robot --out robot
  memonf compare --data lego --out lego --seeds 3
  memonf compare --data lego --out lego_adam --optimizer adam --initialization independent
  memonf compare --data capture --groups left right --out capture_merges
  memonf compare --data lego --out quick --quick\
"""

QUICK_STEPS = 300
QUICK_VIEWS = 8


@dataclass(frozen=True, kw_only=True)
class Compare(FromData):
    """Train two parents, each on half of the views, merge them by every method, score and show it.

    Writes scores.json, timings.json, scores.md, curves, reconstructions, turntables, index.html and
    all field files. Called again, it keeps the fields that are already trained.

    Attributes:
        out: Folder for the results.
        groups: Halves of the parents: front rear, or left right.
        seeds: Number of seed pairs.
        quick: A short look: 300 steps, few views, small turntables.
        methods: Merge methods; a choice if left out, `all` for all that suit the parents.
        field: Architecture: tiny_nerf or nerf.
        without_batch_norm: Leave the batch-norm parents out.
        without_joint: Leave the field trained on all images out.
        without_yardsticks: Leave blends and distillation from other starts out.
        distill_steps: Steps of each distillation.
        overlap: Degrees of azimuth that the halves share in training.
        most_views: Score at most this many test views, evenly spread; 0 for all.
        frames: Frames of each turntable; 0 for none.
        size: Side of the turntable's frames, pixels.
        curve_points: Coefficients on each interpolation curve, ends included; 0 for no curves.
        workers: Processes at work at once; one a core if left out.
    """

    out: ResultsFolder
    groups: tuple[str, str] = HALVES[0]
    seeds: Annotated[int, Limits(ge=1, le=1000)] = CompareSettings.seeds
    quick: Switch = False
    methods: tuple[str, ...] = ()
    field: str = CompareSettings.field
    without_batch_norm: Switch = False
    without_joint: Switch = False
    without_yardsticks: Switch = False
    distill_steps: Annotated[int, Limits(ge=1, le=10_000_000)] = DISTILL_STEPS
    overlap: Annotated[float, Limits(ge=0, le=180)] = CompareSettings.overlap
    most_views: Annotated[int, Limits(ge=0)] = CompareSettings.most_views or 0
    frames: Annotated[int, Limits(ge=0, le=1000)] = CompareSettings.frames
    size: Annotated[int, Limits(ge=8, le=1024)] = CompareSettings.size
    curve_points: Annotated[int, Limits(ge=0, le=1001)] = CompareSettings.curve_points
    workers: Annotated[int, Limits(ge=1, le=256)] | None = None


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    config = radiance_field(flag_value(args, "--field", "tiny_nerf")).Config
    options = parse(
        with_settings(Compare, train=TrainSettings, config=config), "compare", args, EXAMPLES
    )
    if options.place not in ("auto", "keep"):
        raise InputError(f"--place: expected auto or keep, received `{options.place}`")
    device = str(pick_device(options.device))
    settings = CompareSettings(
        data=options.data,
        groups=options.groups,
        field=options.field,
        config=options.config,  # type: ignore[attr-defined]
        train=options.train,  # type: ignore[attr-defined]
        seeds=options.seeds,
        methods=options.methods,
        batch_norm=not options.without_batch_norm,
        joint=not options.without_joint,
        yardsticks=not options.without_yardsticks,
        distill_steps=options.distill_steps,
        front=options.front,
        keep_coordinates=options.place == "keep",
        half_side=options.half_side,
        background=options.background,
        overlap=options.overlap,
        most_views=options.most_views or None,
        frames=options.frames,
        size=options.size,
        curve_points=options.curve_points,
        workers=options.workers or default_workers(device),
        device=device,
        command=shown_command("compare", args),
    )
    if options.quick:
        settings = quickened(settings)
    run_compare(settings, options.out, quiet=options.quiet, as_json=options.json)


def quickened(settings: CompareSettings) -> CompareSettings:
    """The same experiment, short: for a first look and for tests."""
    return replace(
        settings,
        train=replace(settings.train, steps=QUICK_STEPS, seconds=None),
        distill_steps=min(settings.distill_steps, QUICK_STEPS // 2),
        most_views=min(settings.most_views or QUICK_VIEWS, QUICK_VIEWS),
        frames=min(settings.frames, 12),
        size=min(settings.size, 96),
        curve_points=min(settings.curve_points, 5),
        curve_views=4,
    )


def run_compare(settings: CompareSettings, out: Path, *, quiet: bool, as_json: bool) -> Outcome:
    """Run the experiment, write the report, print the outcome."""
    check_folder(out)
    for name in ("fields", "knowledge", "turntables"):
        check_folder(out / name)
    for name in FILES:
        check_writable(out / name)
    with jobs_progress(show=not quiet) as observe:
        outcome = compare(settings, out, observe)
    page = write_report(outcome, out)
    if as_json:
        rows = [row.as_dict() for row in summary_rows(outcome)]
        failed = failure_content(outcome)
        say(json.dumps({"out": str(out), "page": str(page), "rows": rows, "failed": failed}))
    else:
        print_outcome(outcome, page)
    if outcome.failures:
        for failure in outcome.failures:
            say(f"failed: {failure.title}: {failure.reason}", error=True)
        raise ExperimentError(
            f"{len(outcome.failures)} jobs failed, listed above; what is finished is kept, and "
            "the same command does only what is missing"
        )
    return outcome


def print_outcome(outcome: Outcome, page: Path) -> None:
    """The score table, and where to look next."""
    table = Table(title="PSNR in dB on held-out views, median over seed pairs")
    for heading in headings(outcome):
        table.add_column(shown(heading), justify="left" if heading == "field" else "right")
    for row in summary_rows(outcome):
        table.add_row(shown(row.contender.key), *shown_figures(outcome, row))
    console(error=False).print(table)
    say(f"Done in {outcome.seconds:.0f} s. Open {page}")
