"""Does the evidence order merges as the images do? Rank correlation over many merges of one pair.

python bench/evidence.py --data DIR --front FIELD --rear FIELD
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import torch
from scipy.stats import spearmanr

from memonf.data import load_scene
from memonf.evaluation.evaluate import evaluate
from memonf.evaluation.image_free import predict
from memonf.io.checkpoint import load
from memonf.merging import METHODS, merge


def main() -> None:
    """Parse the command line, run, print Markdown and the correlation."""
    parser = argparse.ArgumentParser(description="predicted against true PSNR")
    parser.add_argument("--data", required=True)
    parser.add_argument("--front", type=Path, required=True)
    parser.add_argument("--rear", type=Path, required=True)
    parser.add_argument("--most-views", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    scene = load_scene(options.data)
    parents = [load(options.front), load(options.rear)]
    merges = [
        (f"{name} {share}", merge(parents, name, coefficients=[share, 1 - share]).field)
        for name in METHODS
        if not METHODS[name].function_space
        for share in (0.5, 0.2, 0.8)
    ]
    merges.append(("gauss_newton", merge(parents, "gauss_newton").field))
    for steps in (5, 20, 60, 200, 700):
        for start in ("best", "parent", "scratch"):
            field = merge(parents, "distill", steps=steps, start=start).field
            merges.append((f"distill {steps} {start}", field))
    predicted, true = [], []
    print("| merge | predicted | true |\n|---|---:|---:|")
    for name, field in merges:
        predicted.append(fmean(each.predicted_psnr for each in predict(field, parents)))
        true.append(evaluate(field, scene, most_views=options.most_views).psnr)
        print(f"| {name} | {predicted[-1]:.2f} | {true[-1]:.2f} |", flush=True)
    print(f"\nSpearman {spearmanr(predicted, true).statistic:.3f} over {len(merges)} merges")


if __name__ == "__main__":
    main()
