"""``memonf scenes``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data import embedded_scenes, load_scene
from ..typing import Seed
from .options import Common, parse
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf scenes
  memonf train --data embedded:robot --out robot.safetensors\
"""


@dataclass(frozen=True, kw_only=True)
class Scenes(Common):
    """List the scenes that come with the package.

    Attributes:
        seed: Accepted by every verb; nothing is drawn at random here.
    """

    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Scenes, "scenes", args, EXAMPLES)
    rows: list[dict[str, Any]] = []
    for name in embedded_scenes():
        scene = load_scene(f"embedded:{name}")
        train = scene.split("train")
        rows.append(
            {
                "name": f"embedded:{name}",
                "title": scene.title,
                "train": len(train),
                "test": len(scene.split("test")),
                "size": list(train.cameras.size(0)),
            }
        )
    if options.json:
        say(json.dumps(rows))
        return
    for row in rows:
        say(
            f"{row['name']:<22} {row['title']}; {row['train']} train and {row['test']} test views "
            f"of {row['size'][0]}x{row['size'][1]}"
        )
