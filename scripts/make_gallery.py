"""Draw the gallery, and how much REPAIR brings back, from the fields of two experiments.

memonf demo --out demo
memonf compare --data lego_100 --out lego
python scripts/make_gallery.py demo lego docs/images/gallery
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from memonf.fields import Field, build_field, known
from memonf.io.checkpoint import load
from memonf.merging import Merger, layer_variation, merge
from memonf.rendering.volume_rendering import RadianceField, Renderer
from memonf.symmetry import find_symmetry, permute
from memonf.visualization.disagreement import DisagreementColours
from memonf.visualization.images import labelled_sheet
from memonf.visualization.knowledge import KnowledgeColours, view_colours
from memonf.visualization.turntables import field_turntable
from memonf.visualization.video import to_bytes

SIZE = 128
AROUND = ("front", "60°", "120°", "rear", "240°", "300°")
EXPERIMENT = {
    "front parent": "front",
    "rear parent": "rear",
    "averaged": "average",
    "activation\nmatching": "activation_matching",
    "activation\nmatching\n+ REPAIR": "activation_matching_repair",
    "least squares": "least_squares",
    "distilled": "distill",
    "trained on all\npictures": "joint",
}
SLID = ("average", "activation_matching_repair", "least_squares")
REPAIRED = {
    "averaged": ("average", "average_repair"),
    "weight matching": ("weight_matching", "weight_matching_repair"),
    "activation matching": ("activation_matching", "activation_matching_repair"),
}


def main() -> None:
    """Draw each picture in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("demo", "lego", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    robot, lego = (folder / "fields" / "pair0" for folder in (arguments.demo, arguments.lego))
    parents = [load(robot / f"{name}.safetensors") for name in ("front", "rear")]
    bricks = [load(lego / f"{name}.safetensors") for name in ("front", "rear")]
    arguments.out.mkdir(parents=True, exist_ok=True)
    sheets = {
        "robot": all_around(robot),
        "lego": all_around(lego),
        "coefficients": slid(parents),
        "order": shuffled_units(parents),
        "knowledge": knowledge(bricks),
    }
    for name, sheet in sheets.items():
        Image.fromarray(sheet).save(arguments.out / f"{name}.webp", quality=88, method=6)
    draw_variation(bricks, arguments.out / "variation.png")


def views(field: RadianceField, frames: int, chosen: Sequence[int] = ()) -> list[np.ndarray]:
    """Frames of a turntable, all or those chosen."""
    cameras = field_turntable(field, frames, SIZE)
    renderer = Renderer.of(field)
    numbers = chosen or range(frames)
    return [to_bytes(renderer.view(cameras, frame).rgb) for frame in numbers]


def all_around(folder: Path) -> np.ndarray:
    """Parents and merges of an experiment from six sides."""
    rows = [
        (title, views(load(folder / f"{name}.safetensors"), len(AROUND)))
        for title, name in EXPERIMENT.items()
    ]
    return labelled_sheet(rows, AROUND, cell=SIZE)


def slid(parents: Sequence[Field]) -> np.ndarray:
    """From the front parent to the rear one, as the front camera sees it."""
    shares = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    rows = []
    for method in SLID:
        merger = Merger(parents, method)
        fields = [merger.at([1 - share, share]).field for share in shares]
        pictures = [views(field, 4, [0])[0] for field in fields]
        rows.append((method.replace("_", "\n"), pictures))
    return labelled_sheet(rows, [f"{share:.0%} rear" for share in shares], cell=SIZE)


def shuffled_units(parents: Sequence[Field]) -> np.ndarray:
    """The same merges where the rear parent's units were put in another order at random."""
    front, rear = parents
    symmetry = find_symmetry(rear)
    order = symmetry.random(torch.Generator().manual_seed(0))
    shuffled = build_field(rear.name, rear.config, rear.aabb)
    shuffled.load_state_dict(permute(dict(rear.state_dict()), symmetry, order))
    shuffled.record = dataclasses.replace(rear.record)
    shuffled.eval()
    methods = ("average", "average_repair", "weight_matching", "weight_matching_repair")
    rows = []
    for title, other in (("units in the\norder of\ntraining", rear), ("shuffled", shuffled)):
        merged = [merge([front, other], method).field for method in methods]
        rows.append((title, [views(field, 4, [0])[0] for field in (other, *merged)]))
    columns = ("rear parent", *(method.replace("_repair", " + REPAIR").replace("_", " ")
                                for method in methods))  # fmt: skip
    return labelled_sheet(rows, columns, cell=168)


def knowledge(parents: Sequence[Field]) -> np.ndarray:
    """What each parent saw, and where they contradict each other."""
    rows = []
    for title, parent in zip(("front parent", "rear parent"), parents, strict=True):
        seen = known(parent)
        painted = KnowledgeColours(parent, seen, view_colours(int(seen.views.max())))
        rows += [(title, views(parent, len(AROUND))), ("what it saw", views(painted, len(AROUND)))]
    merged = merge(parents).field
    disputed = DisagreementColours(merged, parents)
    rows.append(("where they\ndisagree", views(disputed, len(AROUND))))
    return labelled_sheet(rows, AROUND, cell=SIZE)


def draw_variation(parents: Sequence[Field], path: Path) -> None:
    """How much of the parents' variation each layer of a merge keeps, repaired and not."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(1, len(REPAIRED), figsize=(9, 2.7), sharey=True, layout="tight")
    for axes, (title, methods) in zip(panels, REPAIRED.items(), strict=True):
        for method, colour, label in zip(
            methods, ("#8a8f98", "#2f6fb3"), ("as averaged", "after REPAIR"), strict=True
        ):
            layers = layer_variation(merge(parents, method).field, parents)
            kept = [layer.kept for layer in layers]
            axes.plot(kept, "o-", color=colour, label=label)
            print(f"{method}: " + ", ".join(f"{share:.3f}" for share in kept))
        axes.axhline(1, color="#181c24", linewidth=0.6)
        axes.set(title=title, ylim=(0, 1.1), xticks=range(len(kept)), xlabel="hidden layer")
    panels[0].set_ylabel("variation kept")
    panels[-1].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
