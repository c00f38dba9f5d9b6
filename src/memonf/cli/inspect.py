"""``memonf inspect``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..checkpoint import content_hash, load
from ..symmetry import find_symmetry
from .options import Common, parse

__all__ = ["run"]

EXAMPLES = """\
  memonf inspect merged.safetensors
  memonf inspect merged.safetensors --json\
"""


@dataclass(frozen=True, kw_only=True)
class Inspect(Common):
    """Print what a field file holds: architecture, training, lineage, symmetry.

    Attributes:
        field: Field file.
        seed: Accepted by every verb; nothing is drawn at random here.
    """

    field: Annotated[Path, tyro.conf.Positional]
    seed: int = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Inspect, "inspect", args, EXAMPLES)
    field = load(options.field)
    record = field.record
    content: dict[str, Any] = {
        "file": str(options.field),
        "architecture": field.name,
        "config": field.config.as_dict(),
        "parameters": field.parameter_count(),
        "aabb": field.aabb.tolist(),
        "near": record.near,
        "far": record.far,
        "background": list(record.background),
        "group": record.group,
        "scene": record.scene,
        "cameras": None if record.cameras is None else len(record.cameras),
        "training": record.training,
        "lineage": record.lineage,
        "content": content_hash(field),
        "symmetry": [
            {
                "group": group.name,
                "units": group.size,
                "also": group.kind,
                "axes": [f"{s.tensor}[{s.axis}][{s.start}:{s.stop}]" for s in group.slices],
            }
            for group in find_symmetry(field).groups
        ],
    }
    if options.json:
        print(json.dumps(content))
        return
    for key, value in content.items():
        if key == "symmetry":
            for row in value:
                print(f"  {row['group']}: {row['units']} units, also {row['also']}; "
                      f"{', '.join(row['axes'])}")  # fmt: skip
        else:
            print(f"{key}: {value}")
