"""PSNR against seconds: distillation from every start, and training on all images from scratch.

python bench/budgets.py --data DIR --front FIELD --rear FIELD [--budgets 3 6 12 24] [--picture PNG]

One thread, one run at a time; every point is a run of its own with that budget, for both learn on a
schedule that ends when the time does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

import torch

from memonf.data import load_scene
from memonf.evaluation.evaluate import evaluate
from memonf.io.checkpoint import load
from memonf.merging import merge
from memonf.training import TrainSettings, train
from memonf.utils.files import replacing

STARTS = ("best", "merge", "parent", "scratch")


def main() -> None:
    """Parse the command line, run, print Markdown and draw."""
    parser = argparse.ArgumentParser(description="quality against seconds")
    parser.add_argument("--data", required=True)
    parser.add_argument("--front", type=Path, required=True)
    parser.add_argument("--rear", type=Path, required=True)
    parser.add_argument("--budgets", type=float, nargs="+", default=[3, 6, 12, 24])
    parser.add_argument("--joint", type=float, nargs="*", default=[6, 12, 24, 48, 96, 152])
    parser.add_argument("--most-views", type=int, default=40)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    scene = load_scene(options.data)
    parents = [load(options.front), load(options.rear)]
    merge(parents, "distill", steps=1)  # what is imported once is not part of the first budget
    curves: dict[str, dict[float, float]] = {}
    print("| start | seconds | dB |\n|---|---:|---:|")

    def note(name: str, seconds: float, psnr: float) -> None:
        curves.setdefault(name, {})[seconds] = psnr
        print(f"| {name} | {seconds:.1f} | {psnr:.2f} |", flush=True)

    for start in STARTS:
        for budget in options.budgets:
            result = merge(parents, "distill", start=start, budget=budget)
            score = evaluate(result.field, scene, most_views=options.most_views).psnr
            note(f"distill, {start}", result.report["seconds"], score)
    solved = merge(parents, "gauss_newton")
    score = evaluate(solved.field, scene, most_views=options.most_views).psnr
    note("gauss_newton", solved.report["seconds"], score)
    for seconds in options.joint:
        field = train(scene, settings=TrainSettings(seconds=seconds))
        note("joint, images", seconds, evaluate(field, scene, most_views=options.most_views).psnr)
    own = []
    for parent, group in zip(parents, ("front", "rear"), strict=True):
        names = set(scene.views("test", group).names)
        views = evaluate(parent, scene, most_views=options.most_views).views
        own += [view.psnr for view in views if view.name in names]
    oracle = fmean(own)
    print(f"| oracle | | {oracle:.2f} |")
    if options.picture:
        draw(curves, oracle, options.picture)
        with replacing(options.picture.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps({"curves": curves, "oracle": oracle}))


def draw(curves: dict[str, dict[float, float]], oracle: float, path: Path) -> None:
    """One line a start, seconds on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, points in curves.items():
        style = "k--" if name.startswith("joint") else "o" if len(points) == 1 else "-"
        axes.plot(list(points), list(points.values()), style, marker="o", markersize=4, label=name)
    axes.axhline(oracle, color="0.5", linewidth=1)
    axes.text(axes.get_xlim()[1], oracle, "oracle ", ha="right", va="bottom", color="0.4")
    axes.set(xscale="log", xlabel="seconds, one core", ylabel="PSNR on all test views, dB")
    ticks = [3, 6, 12, 24, 48, 96]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    main()
