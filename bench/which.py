r"""Which method when: every method on several scenes, widths and kinds of initial params.

    python bench/which.py --out FOLDER --data lego=DIR chair=DIR robot=embedded:robot

For each scene, width and kind of initial params, front and rear parents are trained (or found) and
merged by every method; the rows go to FOLDER/which.jsonl, and what stands there is not made again.
``scripts/make_which_table.py FOLDER`` makes the tables.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from memonf.experiment import CompareSettings, Scored, compare
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.training import TrainSettings


def row(labels: dict[str, Any], scored: Scored) -> dict[str, Any]:
    """One field as plain values."""
    return {
        **labels, "name": scored.contender.key, "pair": scored.seed, "seconds": scored.seconds,
        **{group: scored.psnr[group] for group in ("front", "rear", "all")},
    }  # fmt: skip


def main() -> None:
    """Parse the command line and run what is missing."""
    parser = argparse.ArgumentParser(description="every method on scenes, widths, initial params")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DATA")
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 64, 256])
    parser.add_argument("--initialization", nargs="+", default=["shared", "independent"])
    parser.add_argument("--steps", type=int, default=600, help="of training, each parent")
    parser.add_argument("--distill-steps", type=int, default=350)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--views", type=int, default=10, help="test views scored")
    parser.add_argument("--methods", nargs="*", default=[], help="all if left out")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "which.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(r["scene"], r["width"], r["initialization"], r["name"]) for r in rows}
    for width in options.widths:
        for initialization in options.initialization:
            for name, data in (entry.split("=", 1) for entry in options.data):
                labels = {"scene": name, "width": width, "initialization": initialization}
                key = (name, width, initialization)
                settings = CompareSettings(
                    data=data,
                    config=TinyNerfConfig(width=width),
                    train=TrainSettings(steps=options.steps, initialization=initialization),
                    seeds=options.pairs,
                    methods=tuple(options.methods) or ("all",),
                    batch_norm=False,
                    joint=False,
                    yardsticks=False,
                    distill_steps=options.distill_steps,
                    most_views=options.views,
                    frames=0,
                    curve_points=0,
                    workers=options.workers,
                )
                missing = tuple(m for m in settings.method_names() if (*key, m) not in done)
                if not missing:
                    continue
                settings = CompareSettings(**{**vars(settings), "methods": missing})
                outcome = compare(settings, options.out / f"{name}_{width}_{initialization}")
                with log.open("a") as file:
                    for scored in outcome.fields:
                        if (*key, scored.contender.key) not in done:
                            file.write(json.dumps(row(labels, scored)) + "\n")
                print(*key, len(missing), "methods", f"{outcome.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
