"""``memonf merge``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import InputError
from ..evaluation.image_free import Evidence, assess
from ..fields import FIELDS
from ..io.checkpoint import load
from ..merging import METHODS, MergeResult
from ..merging.parents import Parents
from ..merging.recipe import Recipe, read_recipe
from ..training.loggers import training_seconds
from ..typing import Seed
from ..utils.devices import pick_device
from ..utils.files import same_place
from .options import (
    Common,
    NewFile,
    Switch,
    flag_value,
    flags_given,
    parse,
    shown_command,
    with_settings,
)
from .progress import counting_progress
from .terminal import say, say_text

__all__ = ["run"]

DEFAULT = "distill"

#: Flags that name parts of a method; without --method they make one that has no name of its own.
PARTS = {"align", "combine_by", "correct"}

WHY = (
    f"  chosen: {DEFAULT}, because it asks each parent only where that parent saw, and takes\n"
    "  parents of any kind; weight-space methods are faster and far less faithful "
    "(docs/choosing.md)"
)

EXAMPLES = """\
  memonf merge front.safetensors rear.safetensors --out merged.safetensors
  memonf merge front.safetensors rear.safetensors --method weight_matching --out merged.safetensors
  memonf merge a.safetensors b.safetensors c.safetensors --coefficients 0.5 0.3 0.2 \\
               --method activation_matching_repair --out merged.safetensors
  memonf merge front.safetensors rear.safetensors --align both --combine-by fisher \\
               --correct repair --out merged.safetensors
  memonf merge wide.safetensors narrow.safetensors --student tiny_nerf \\
               --student-config width 96 --budget 20 --out merged.safetensors
  memonf merge --recipe merge.yaml
  memonf merge --recipe merge.yaml --seed 1 --out other.safetensors

A recipe (docs/recipes.md) holds parents, method, coefficients, also by layer, settings, seed, out
and force; flags given with it win. `memonf inspect merged.safetensors --recipe merge.yaml` writes
the recipe of a merged field.

Methods (the options below depend on --method):
"""


@dataclass(frozen=True, kw_only=True)
class Merge(Common):
    """Merge fields of one scene into one field of the size of one, without images.

    Attributes:
        parents: Field files; the first is the reference whose unit order is kept.
        recipe: YAML file that says what the flags do not, see below.
        out: Field file to write.
        method: How to merge, see below.
        coefficients: Weight of each parent, sum 1; equal if left out.
        report: HTML file to write: turntables, pictures side by side, what the parents know.
        without_evidence: Do not judge the merge by its parents afterwards, which takes seconds.
        force: Merge parents that contradict each other, know nothing or are one file all the same.
        seed: Seed of every random choice.
    """

    parents: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    recipe: Path | None = None
    out: NewFile | None = None
    method: str = DEFAULT
    coefficients: tuple[float, ...] = ()
    report: NewFile | None = None
    without_evidence: Switch = False
    force: Switch = False
    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    longest = max(map(len, METHODS))
    table = "\n".join(
        f"  {name:<{longest}} {METHODS[name].summary} ({METHODS[name].paper})" for name in METHODS
    )
    file = flag_value(args, "--recipe", "")
    basis = read_recipe(file) if file else Recipe()
    parts_named = PARTS & flags_given(args) and "method" not in flags_given(args)
    method = METHODS["composed" if parts_named else flag_value(args, "--method", basis.method)]
    options = parse(with_settings(Merge, settings=method), "merge", args, EXAMPLES + table)
    recipe = with_flags(basis, method.name, options, flags_given(args))
    if recipe.out is None:
        raise InputError(
            "--out: expected the field file to write, received none; add `--out merged.safetensors`"
        )
    if options.report is not None and options.report.suffix != ".html":
        raise InputError(f"--report {options.report}: expected a name that ends in .html")
    for other in (options.recipe, options.report):
        if other is not None and same_place(recipe.out, other):
            raise InputError(
                f"--out {recipe.out}: is the recipe or the report; choose another name"
            )
    device = pick_device(options.device)
    if options.report is not None:
        check_has_views(recipe)
    with counting_progress(recipe.method, show=not options.quiet) as on_count:
        result = recipe.run(device, lambda share: on_count(round(100 * share), 100))
    found = None
    # Parents without rays are asked at points by the merge itself; there are no views to predict.
    if not options.without_evidence and result.field.asked_along == "rays":
        found = assess(result.field, Parents(recipe.parents, result.field.aabb.device))
    if options.report is not None:
        write_merge_report(options.report, recipe, result, found, shown_command("merge", args))
    if options.json:
        evidence = {} if found is None else {"evidence": found.as_dict()}
        say(json.dumps({"out": str(recipe.out), **result.report, **evidence}))
        return
    shares = " ".join(f"{share:.3g}" for share in result.report["coefficients"])
    say(
        f"{recipe.out}: {len(recipe.parents)} parents by {recipe.method}, coefficients "
        f"{shares}, {result.report['seconds']:.2f} s"
    )
    for pattern, own in result.report.get("layers", ()):
        say(f"  {pattern}: coefficients {' '.join(f'{share:.3g}' for share in own)}")
    if not file and "method" not in flags_given(args) and not parts_named:
        say_text(WHY)
    if found is not None:
        for line in in_words(found):
            say(line)
    if options.report is not None:
        say(f"Open {options.report}")
    if result.field.asked_along == "rays":
        say(f"See it with `memonf render {recipe.out} --turntable --out turntable.gif`")
    else:
        say(f"Score and see it with `memonf score {recipe.out} --truth FILE --png merged.png`")


def check_has_views(recipe: Recipe) -> None:
    """Refuse a page before the merge, where the fields on it have no views to show.

    Raises:
        InputError: A parent, or the student, has none.
        FieldFileError: A parent cannot be read.
    """
    student = recipe.settings.get("student")
    kinds = [FIELDS[student]] if student else []
    for kind in (*kinds, *(type(load(parent)) for parent in recipe.parents)):
        if kind.asked_along != "rays":
            raise InputError(
                f"--report: a page shows views, and `{kind.name}` has none; leave it out, and see "
                "the merge with `memonf score --png`"
            )


def write_merge_report(
    path: Path, recipe: Recipe, result: MergeResult, found: Evidence | None, command: str
) -> None:
    """Write the page of a merge."""
    from ..report import MergeStory, merge_page, write_page  # heavy: only when asked for

    device = result.field.aabb.device
    parents = [load(parent, device) for parent in recipe.parents]
    names = [parent.stem for parent in map(Path, recipe.parents)]
    if len(set(names)) < len(names):
        names = [f"{number} {name}" for number, name in enumerate(names, 1)]
    seconds = [
        training_seconds(path, parent.record.training.get("steps_done"))
        for path, parent in zip(recipe.parents, parents, strict=True)
    ]
    story = MergeStory(result.field, parents, names, result.report, found, command, seconds)
    write_page(merge_page(story), path)


def with_flags(recipe: Recipe, method: str, options: Any, given: set[str]) -> Recipe:
    """The recipe with what the flags say in its place.

    Args:
        recipe: As read, or empty.
        method: Name of the method to use; settings of the recipe's own method do not fit another.
        options: The parsed command line.
        given: Names of the options that stand on it.
    """
    named = ("out", "coefficients", "seed", "force")
    changes = {name: getattr(options, name) for name in named if name in given}
    settings = dict(recipe.settings) if method == recipe.method else {}
    for name, value in options.settings.settings().items():
        if name in given:
            settings[name] = value
    parents = options.parents or recipe.parents
    return dataclasses.replace(recipe, parents=parents, method=method, settings=settings, **changes)


def in_words(found: Evidence) -> list[str]:
    """What the fields say of the merge, a line for each point."""
    lines = [
        f"  {parent.group}: {parent.fidelity:.1f} dB against this parent along its own rays; "
        f"predicted {parent.predicted_psnr:.1f} dB on its views, "
        f"{parent.predicted_loss:.1f} dB below the parent"
        for parent in found.parents
    ]
    if found.disagreement is None:
        lines.append("  no two parents saw the same matter, so nothing says that they agree")
    else:
        lines.append(
            f"  parents disagree on {100 * found.disagreement:.1f} % of the matter that two of "
            "them saw"
        )
    lines.append(f"  nobody saw {100 * found.unseen_matter:.1f} % of the surface in sight")
    if found.seam is not None:
        lines.append(f"  seam: errors where the best informed parent changes are "
                     f"{found.seam:.2f} times those elsewhere")  # fmt: skip
    return lines
