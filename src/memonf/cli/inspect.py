"""``memonf inspect``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import InputError
from ..fields import Field, known
from ..io.checkpoint import content_hash, load
from ..merging.recipe import recorded_recipe
from ..symmetry import find_symmetry
from ..typing import Seed
from ..utils.devices import pick_device
from ..utils.files import write_text
from ..visualization.knowledge import draw_knowledge, knowledge_summary, summary_in_words
from .options import Common, NewFile, parse
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf inspect merged.safetensors
  memonf inspect merged.safetensors --json
  memonf inspect front.safetensors --png front.png
  memonf inspect merged.safetensors --recipe merge.yaml\
"""


@dataclass(frozen=True, kw_only=True)
class Inspect(Common):
    """Print what a field file holds: architecture, training, knowledge, lineage, symmetry.

    Attributes:
        field: Field file.
        png: Draw what the field knows: what its cameras saw, saw empty and never saw.
        recipe: Write how a merged field was made, for `memonf merge --recipe`.
        seed: Accepted by every verb; nothing is drawn at random here.
    """

    field: Annotated[Path, tyro.conf.Positional]
    png: NewFile | None = None
    recipe: NewFile | None = None
    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Inspect, "inspect", args, EXAMPLES)
    if options.png is not None and options.png.suffix.lower() != ".png":
        raise InputError(f"--png {options.png}: expected a name that ends in .png")
    if options.recipe is not None and options.recipe.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"--recipe {options.recipe}: expected a name that ends in .yaml")
    field = load(options.field, pick_device(options.device))
    if options.recipe is not None:
        write_recipe(field, options.field, options.recipe)
    # Found once, also for the picture.
    knowledge = known(field)
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
        "knowledge": knowledge_summary(record, knowledge),
        "training": record.training,
        "lineage": record.lineage,
        "content": content_hash(field),
        "symmetry": symmetry_rows(field),
    }
    if options.png is not None:
        draw_knowledge(field, knowledge, options.png, name=options.field.name)
        content["png"] = str(options.png)
    if options.recipe is not None:
        content["recipe"] = str(options.recipe)
    if options.json:
        say(json.dumps(content))
        return
    for key, value in content.items():
        if key == "symmetry":
            print_symmetry(value)
        elif key == "knowledge":
            words = [*summary_in_words(value), f"at most {value['most_views']} views of a cell"]
            say(f"knowledge: {value['source']}; {', '.join(words)}")
        else:
            say(f"{key}: {value}")


def symmetry_rows(field: Field) -> list[dict[str, Any]] | str:
    """The groups of a field, as plain values; in words why it cannot be read, if so."""
    try:
        groups = find_symmetry(field).groups
    except InputError as error:
        return str(error)
    return [
        {
            "group": group.name,
            "units": group.size,
            "also": group.kind,
            "axes": [str(part) for part in group.slices],
            "gauges": [
                {
                    "kind": gauge.kind,
                    "rows": [str(part) for part in gauge.rows],
                    "columns": [str(part) for part in gauge.columns],
                }
                for gauge in group.gauges
            ],
        }
        for group in groups
    ]


#: What each gauge does to a unit, in words.
GAUGES = {
    "scale": "positive scale",
    "sign": "sign",
    "turn": "sign and half turns of a sine",
    "linear": "any invertible map",
}


def print_symmetry(rows: list[dict[str, Any]] | str) -> None:
    """One paragraph a group: which axes share its order, and what else can be done to its units."""
    if isinstance(rows, str):
        say(f"symmetry: none found; {rows}")
        return
    say(f"symmetry: {len(rows)} groups of hidden units")
    for row in rows:
        say(f"  {row['group']}: {row['units']} units in one order on {', '.join(row['axes'])}")
        for gauge in row["gauges"]:
            say(
                f"    {GAUGES[gauge['kind']]}: {', '.join(gauge['rows'])} times it, "
                f"{', '.join(gauge['columns']) or 'nothing'} divided by it"
            )


def write_recipe(field: Field, source: Path, out: Path) -> None:
    """Write the recipe that a merged field keeps; its files are those beside the recipe.

    Raises:
        InputError: The field keeps none.
        OutputError: It cannot be written.
    """
    recipe = recorded_recipe(field.record.lineage, str(source))
    note = f"# How {source.name!r} was made. The parents are looked for in this file's folder.\n"
    write_text(out, note + dataclasses.replace(recipe, out=Path(source.name)).as_yaml())
