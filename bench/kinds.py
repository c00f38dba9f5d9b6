"""Parents of different kinds into one student: a table.

python bench/kinds.py --data DIR --out DIR [--steps 600]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from memonf.data import load_scene
from memonf.evaluation.evaluate import evaluate
from memonf.experiment import CompareSettings, TrainJob
from memonf.fields import FieldConfig
from memonf.fields.nerf import NerfConfig
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import load, save
from memonf.merging import merge
from memonf.training import TrainSettings

NERF = NerfConfig(width=128, depth=4, frequencies=6, skips=(), view_width=64)
#: Name, front parent, rear parent, student's architecture and configuration.
CASES: list[tuple[str, FieldConfig, FieldConfig, str, dict[str, int | bool]]] = [
    ("both 4×128", TinyNerfConfig(), TinyNerfConfig(), "", {}),
    ("4×128 and 4×192", TinyNerfConfig(), TinyNerfConfig(width=192), "tiny_nerf", {"width": 128}),
    ("4×128 and 3×128", TinyNerfConfig(), TinyNerfConfig(depth=3), "", {}),
    ("6 and 5 octaves", TinyNerfConfig(), TinyNerfConfig(frequencies=5), "", {}),
    ("plain and batch norm", TinyNerfConfig(), TinyNerfConfig(batch_norm=True), "tiny_nerf",
     {"batch_norm": False}),
    ("tiny_nerf and nerf", TinyNerfConfig(), NERF, "tiny_nerf", {"width": 128}),
    ("both nerf", NERF, NERF, "", {}),
    ("both 4×128 into 4×64", TinyNerfConfig(), TinyNerfConfig(), "tiny_nerf", {"width": 64}),
    ("both 4×128 into nerf", TinyNerfConfig(), TinyNerfConfig(), "nerf",
     {"width": 128, "depth": 4, "frequencies": 6}),
]  # fmt: skip


def main() -> None:
    """Parse the command line, run, print Markdown."""
    parser = argparse.ArgumentParser(description="parents of different kinds")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--most-views", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    scene = load_scene(options.data)
    print(
        "| parents | student | front parent | rear parent | merged front | rear | start | seconds |"
    )
    print("|---|---|---:|---:|---:|---:|---|---:|")
    for name, front, rear, student, config in CASES:
        if options.only and name not in options.only:
            continue
        paths = []
        for seed, (group, kind) in enumerate((("front", front), ("rear", rear))):
            field = "nerf" if isinstance(kind, NerfConfig) else "tiny_nerf"
            label = "_".join(str(v) for v in kind.as_dict().values()).replace(" ", "")
            out = options.out / f"{field}_{label}_{group}.safetensors"
            settings = CompareSettings(options.data, field=field)
            train = TrainSettings(steps=options.steps, seed=seed)
            paths.append(TrainJob(settings, name, group, train, kind, out).run())
        result = merge(paths, "distill", student=student, student_config=config)
        save(result.field, options.out / f"{name.replace(' ', '_')}.safetensors")
        views = {"most_views": options.most_views}
        figures = [
            evaluate(load(path), scene, group=group, **views).psnr
            for path, group in zip(paths, ("front", "rear"), strict=True)
        ] + [evaluate(result.field, scene, group=g, **views).psnr for g in ("front", "rear")]
        shape = {key: getattr(result.field.config, key) for key in config} or "as the larger"
        print(
            f"| {name} | {result.field.name} {shape} | "
            + " | ".join(f"{value:.2f}" for value in figures)
            + f" | {result.report['distill']['start']} | {result.report['seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
