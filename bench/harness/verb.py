"""The options of ``memonf bench``, and the run from the first case to the tables."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field as Limits

from memonf.cli.options import ResultsFolder, Switch, parse, shown_command
from memonf.errors import InputError
from memonf.typing import Seed
from memonf.utils.files import check_writable, write_json, write_text

from .case import CASES, Case, Options
from .machine import BENCH, describe_machine, versions
from .measuring import identity, measure
from .pictures import draw_curves
from .processes import FreshProcesses
from .summary import case_summary, case_table, claim_text, document_table, reached_text

__all__ = ["Bench", "run"]

EXAMPLES = """\
  memonf bench --quick                                  # a smoke run of all cases
  memonf bench --data lego_100                          # all of it, to be run on a quiet machine
  memonf bench --cases time_to_quality_robot --repeats 3
  memonf bench --data lego_100 --docs                   # what is measured already goes to the docs\
"""

PAGE = Path("docs/research/speed.md")
PICTURE = Path("docs/images/speed.png")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure the project beside what people use instead, side by side in one run.

    The sides of a case take turns, each run in a fresh process. Writes speed.json, speed.md,
    speed.png and one JSON file a case. Called again, it keeps the runs that were made with the same
    settings, code, versions and machine.

    Attributes:
        cases: Cases to run; all but the long end-to-end ones if left out.
        out: Folder for the results.
        data: Folder of NeRF-synthetic lego at 100x100; its cases are left out where it is not.
            $MEMONF_DATA/lego_100 if left out.
        repeats: Rounds: how often each side takes its turn.
        threads: Threads of each side; all cores if left out.
        seed: Seed of every random choice.
        views: Held-out views to score time to quality on, evenly spread.
        ladder: Lengths of our trainings, seconds, ascending.
        reference_seconds: Longest training of the usual script.
        reference_steps: Steps of Tiny NeRF's own curve; its time is extrapolated if left out.
        quick: A smoke run: tiny pictures, a few seconds a job, one round; its figures mean nothing.
        fresh: Measure again what is measured already.
        docs: Write tables and picture into the docs too.
        quiet: Print only the tables.
        json: Print the result as JSON.
    """

    cases: tuple[str, ...] = ()
    out: ResultsFolder = Path("out/bench")
    data: Path | None = None
    repeats: Annotated[int, Limits(ge=1, le=1000)] = 2
    threads: Annotated[int, Limits(ge=1, le=1024)] | None = None
    seed: Seed = 0
    views: Annotated[int, Limits(ge=1, le=100_000)] = Options.views
    ladder: tuple[Annotated[float, Limits(gt=0, le=1e6)], ...] = Options.ladder
    reference_seconds: Annotated[float, Limits(gt=0, le=1e6)] = Options.reference_seconds
    reference_steps: Annotated[int, Limits(ge=0, le=10_000_000)] = Options.reference_steps
    quick: Switch = False
    fresh: Switch = False
    docs: Switch = False
    quiet: Switch = False
    json: Switch = False

    @property
    def scene(self) -> Path:
        """Where lego is, or would be."""
        return self.data or Path(os.environ.get("MEMONF_DATA", ".")) / "lego_100"


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Bench, "bench", args, EXAMPLES)
    check(options)
    # A smoke run never mixes with measurements.
    out = options.out / "quick" if options.quick else options.out
    check_writable(out / "speed.json")
    threads = options.threads or describe_machine()["cores"]
    chosen = Options(
        data=options.scene.resolve(),
        quick=options.quick,
        seed=options.seed,
        views=options.views,
        ladder=tuple(sorted(options.ladder)),
        reference_seconds=options.reference_seconds,
        reference_steps=options.reference_steps,
    )
    runner = FreshProcesses(out / "fields", threads)
    runner.folder.mkdir(parents=True, exist_ok=True)

    def tell(line: str) -> None:
        if not options.quiet:
            print(line, file=sys.stderr, flush=True)

    summaries: list[dict[str, Any]] = []
    for case in picked_cases(options, tell):
        settings = case.settings(chosen)
        turns = measure(
            case, settings, runner, out / f"{case.name}.json", threads=threads,
            repeats=1 if options.quick else options.repeats, fresh=options.fresh, tell=tell,
        )  # fmt: skip
        summaries.append(case_summary(case, identity(case, settings, threads), turns))
        tell(case_table(summaries[-1]))
    document = {
        "command": shown_command("bench", args),
        "machine": describe_machine(),
        "versions": versions(),
        "cases": summaries,
    }
    write_results(document, out)
    if options.docs:
        update_docs(document)
    print(json.dumps(document) if options.json else verdict(document, out))


def check(options: Bench) -> None:
    """Refuse what cannot be run."""
    if not options.ladder:
        raise InputError("--ladder: expected lengths of trainings in seconds, received none")
    if options.docs and options.quick:
        raise InputError("--docs: the figures of a --quick run mean nothing; leave one of them out")
    if options.data is not None and not options.data.exists():
        raise InputError(f"--data {options.data}: there is no such folder")


def picked_cases(options: Bench, tell: Any) -> list[Case]:
    """The cases to run; those whose data is not at hand are told and left out."""
    names = options.cases or tuple(name for name in CASES if not CASES[name].optional)
    picked = []
    for name in names:
        case = CASES[name]()
        if case.needs_data and not options.scene.exists():
            tell(f"{name}: left out, {options.scene} is not there; name the folder with --data")
            continue
        picked.append(case)
    if not picked:
        raise InputError("no case is left to run")
    return picked


def write_results(document: dict[str, Any], out: Path) -> None:
    """JSON, tables and picture."""
    write_json(out / "speed.json", document)
    write_text(out / "speed.md", document_table(document) + "\n")
    draw_curves(document["cases"], out / "speed.png")


def update_docs(document: dict[str, Any]) -> None:
    """Fill the part `speed` of the page, and put the curves beside the other pictures."""
    root = BENCH.parent
    sys.path.insert(0, str(root / "scripts"))
    replaced = importlib.import_module("update_tables").replaced
    page = root / PAGE
    write_text(page, replaced(page.read_text("utf-8"), "speed", document_table(document)))
    draw_curves(document["cases"], root / PICTURE)
    curves = {summary["case"]: summary["curves"] for summary in document["cases"]}
    write_json((root / PICTURE).with_suffix(".json"), {k: v for k, v in curves.items() if v})


def verdict(document: dict[str, Any], out: Path) -> str:
    """What was claimed and what came out, a line a claim, and where the rest is."""
    words = {True: "met", False: "NOT met", None: "not decided"}
    lines = [
        f"{words[claim['met']]:<11}  {summary['case']}: {claim_text(claim)}: "
        f"{reached_text(claim)}, goal {claim['goal']:g}"
        for summary in document["cases"]
        for claim in summary["claims"]
        if claim["goal"] is not None
    ]
    return "\n".join([*lines, f"Tables: {out / 'speed.md'}"])
