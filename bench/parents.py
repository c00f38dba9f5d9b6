"""Merges of many parents: quality, time and memory against their number, and against overlap.

python bench/parents.py --data DIR --out DIR [--counts 2 4 8] [--overlaps 0 20 40 60] [--steps 600]

Each merge runs in a process of its own, so that its peak memory is its own. Parents of N sectors
are trained with as many steps each; the incremental row merges all but the last, then that merge
with the last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import torch

from memonf.data import Scene, load_scene
from memonf.evaluation.evaluate import evaluate
from memonf.experiment import CompareSettings, TrainJob
from memonf.fields import Field
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import content_hash, load
from memonf.training import TrainSettings

MERGE = """
import json, resource, sys, torch
torch.set_num_threads(1)
from memonf.io.checkpoint import save
from memonf.merging import merge
out, *parents = sys.argv[1:]
result = merge(parents, "distill")
save(result.field, out)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": result.report["seconds"], "megabytes": peak}))
"""


def merged(out: Path, parents: list[Path]) -> tuple[Field, float, float]:
    """Merge in a fresh process: (field, seconds, peak megabytes)."""
    done = subprocess.run(
        [sys.executable, "-c", MERGE, str(out), *map(str, parents)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    figures = json.loads(done.stdout.splitlines()[-1])
    return load(out), figures["seconds"], figures["megabytes"]


def oracle(scene: Scene, groups: list[str], parents: list[Path], most: int) -> float:
    """Mean PSNR of the scored test views, each by the parent of its group."""
    scores = []
    for group, path in zip(groups, parents, strict=True):
        own = set(scene.views("test", group).names)
        views = evaluate(load(path), scene, most_views=most).views
        scores += [view.psnr for view in views if view.name in own]
    return fmean(scores)


def main() -> None:
    """Parse the command line, run, print Markdown."""
    parser = argparse.ArgumentParser(description="merges of many parents")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="*", default=[2, 4, 8])
    parser.add_argument("--overlaps", type=float, nargs="*", default=[0, 20, 40, 60])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--most-views", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    scene = load_scene(options.data)

    def trained(group: str, name: str, seed: int, overlap: float = 0.0) -> Path:
        settings = CompareSettings(options.data, overlap=overlap)
        train = TrainSettings(steps=options.steps, seed=seed)
        out = options.out / f"{name}.safetensors"
        return TrainJob(settings, name, group, train, TinyNerfConfig(), out).run()

    def score(field: Field) -> float:
        return evaluate(field, scene, most_views=options.most_views).psnr

    print("| parents | overlap | oracle | distill | reversed order | seconds | peak MB |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for count in options.counts:
        groups = [f"sector {k}/{count}" for k in range(1, count + 1)]
        parents = [trained(g, f"sector{k}of{count}", k) for k, g in enumerate(groups, 1)]
        field, seconds, peak = merged(options.out / f"merged{count}.safetensors", parents)
        turned, *_ = merged(options.out / "turned.safetensors", parents[::-1])
        same = content_hash(turned) == content_hash(field)
        best = oracle(scene, groups, parents, options.most_views)
        other = "the same bytes" if same else f"{score(turned):.2f}"
        print(
            f"| {count} sectors | 0° | {best:.2f} | {score(field):.2f} | {other} | "
            f"{seconds:.1f} | {peak:.0f} |",
            flush=True,
        )
        if count > 2:
            first = options.out / f"first{count - 1}of{count}.safetensors"
            _, early, _ = merged(first, parents[:-1])
            step, late, peak = merged(options.out / "added.safetensors", [first, parents[-1]])
            print(
                f"| {count - 1} of them, then the last | 0° | {best:.2f} | {score(step):.2f} | | "
                f"{early:.1f} + {late:.1f} | {peak:.0f} |",
                flush=True,
            )
    for overlap in options.overlaps:
        parents = [
            trained(group, f"{group}{overlap:g}", seed, overlap)
            for seed, group in enumerate(("front", "rear"))
        ]
        field, seconds, peak = merged(options.out / f"overlap{overlap:g}.safetensors", parents)
        best = oracle(scene, ["front", "rear"], parents, options.most_views)
        print(
            f"| front and rear | {overlap:g}° | {best:.2f} | {score(field):.2f} | | "
            f"{seconds:.1f} | {peak:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
