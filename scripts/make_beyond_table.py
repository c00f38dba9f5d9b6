"""Measure merges of pointwise fields and write the tables of docs/research/beyond.md.

Fields that are in the folder already are kept, so that a run can be continued.

Usage: python scripts/make_beyond_table.py SPOT.obj COFFEE.png FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import memonf
from memonf.fields.pointwise import PointConfig
from memonf.implicit import FitSettings, Truth, fit, open_truth, score

PAGE = Path(__file__).parents[1] / "docs" / "research" / "beyond.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
#: Kind, network and steps of each table.
TABLES = (
    ("image", "relu", 500), ("image", "siren", 500),
    ("sdf", "relu", 300), ("sdf", "siren", 300), ("occupancy", "relu", 300),
)  # fmt: skip
METHODS = ("average", "activation_matching_repair", "least_squares", "distill")
PARTS = ("left", "right", "all")


def config_of(kind: str, network: str) -> PointConfig:
    """Pictures need finer encodings than shapes."""
    picture = kind == "image"
    return PointConfig(
        network=network,  # type: ignore[arg-type]
        frequencies=8 if picture else 6,
        first_omega=30.0 if picture else 20.0,
    )


def row(name: str, field: memonf.Field, truth: Truth) -> str:
    """One line of a table."""
    of = {part: score(field, truth, part) for part in PARTS}
    if truth.field == "image":
        return f"| {name} | " + " | ".join(f"{of[part]['psnr']:.2f}" for part in PARTS) + " |"
    cells = [f"{of[part]['iou']:.3f}" for part in PARTS]
    cells += [f"{of['all'][key]:.4f}" for key in ("chamfer", "error", "error_near")
              if key in of["all"]]  # fmt: skip
    return f"| {name} | " + " | ".join(cells) + " |"


def heading(truth: Truth, config: PointConfig) -> list[str]:
    """Title and head of a table."""
    network = (
        f"SIREN, first ω {config.first_omega:g}" if config.network == "siren"
        else f"encoded ReLU network, {config.frequencies} octaves"
    )  # fmt: skip
    if truth.field == "image":
        columns = ["left half", "right half", "all"]
        said = "PSNR in dB of held-out pixels"
    else:
        columns = ["IoU left", "IoU right", "IoU", "Chamfer"]
        columns += ["error", "near the surface"] if truth.field == "sdf" else []
        said = "IoU of each half and of all; the rest of all"
    return [
        "", f"**`{truth.field}`, {network}**: {said}.", "",
        "| field | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns),
    ]  # fmt: skip


def main() -> None:
    """Measure, and write the page."""
    mesh, picture, folder = (Path(name) for name in sys.argv[1:4])
    torch.set_num_threads(1)
    lines: list[str] = []
    for kind, network, steps in TABLES:
        truth = open_truth(picture if kind == "image" else mesh, kind)
        config = config_of(kind, network)
        lines += heading(truth, config)
        here = folder / f"{kind}_{network}"
        files = []
        for seed, part in ((1, "left"), (2, "right")):
            files.append(here / f"{part}.safetensors")
            if not files[-1].exists():
                settings = FitSettings(steps=steps, seed=seed)
                memonf.save(fit(truth, group=part, config=config, settings=settings), files[-1])
            lines.append(row(f"{part} parent", memonf.load(files[-1]), truth))
        for method in METHODS:
            merged = memonf.merge(files, method).field
            memonf.save(merged, here / f"{method}.safetensors")
            lines.append(row(f"`{method}`", merged, truth))
        print("\n".join(lines[-8:]), flush=True)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
