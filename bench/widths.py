"""How merges depend on the width of the parents: a table of weight-space methods.

python bench/widths.py --data DIR --out DIR [--widths 64 128 256] [--steps 600]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from memonf.experiment import CompareSettings, compare
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.report import summary_rows
from memonf.training import TrainSettings
from memonf.utils.workers import default_workers

METHODS = (
    "average", "average_repair", "weight_matching", "weight_matching_repair",
    "activation_matching", "activation_matching_repair",
)  # fmt: skip


def main() -> None:
    """Parse the command line, run, print Markdown."""
    parser = argparse.ArgumentParser(description="merges against width")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--initialization", default="shared", choices=["shared", "independent"])
    parser.add_argument("--most-views", type=int, default=20)
    options = parser.parse_args()
    print("| width | " + " | ".join(["front parent", "rear parent", *METHODS]) + " |")
    print("|---:|" + "---:|" * (len(METHODS) + 2))
    for width in options.widths:
        settings = CompareSettings(
            data=options.data,
            config=TinyNerfConfig(width=width),
            train=TrainSettings(steps=options.steps, initialization=options.initialization),
            methods=METHODS,
            batch_norm=False,
            joint=False,
            most_views=options.most_views,
            frames=0,
            curve_points=0,
            workers=default_workers("cpu"),
        )
        outcome = compare(settings, options.out / f"width{width}")
        rows = {row.contender.key: row.overall for row in summary_rows(outcome)}
        values = [rows[name] for name in ("front", "rear", *METHODS)]
        print(f"| {width} | " + " | ".join(f"{value:.1f}" for value in values) + " |", flush=True)


if __name__ == "__main__":
    main()
