"""``memonf merge``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..checkpoint import save
from ..devices import pick_device
from ..errors import InputError
from ..evidence import Evidence, assess
from ..files import check_writable
from ..merging import METHODS, merge
from ..merging.parents import Parents
from .options import Common, Switch, flag_value, parse, with_settings
from .progress import counting_progress

__all__ = ["run"]

DEFAULT = "distill"

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
  memonf merge wide.safetensors narrow.safetensors --student tiny_nerf \\
               --student-config width 96 --budget 20 --out merged.safetensors

Methods (the options below depend on --method):
"""


@dataclass(frozen=True, kw_only=True)
class Merge(Common):
    """Merge fields of one scene into one field of the size of one, without images.

    Attributes:
        parents: Field files; the first is the reference whose unit order is kept.
        out: Field file to write.
        method: How to merge, see below.
        coefficients: Weight of each parent, sum 1; equal if left out.
        without_evidence: Do not judge the merge by its parents afterwards, which takes seconds.
        force: Merge parents that contradict each other, or know nothing, all the same.
        seed: Seed of every random choice.
    """

    parents: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path
    method: str = DEFAULT
    coefficients: tuple[float, ...] = ()
    without_evidence: Switch = False
    force: Switch = False
    seed: int = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    table = "\n".join(
        f"  {name:<28} {METHODS[name].summary} ({METHODS[name].paper})" for name in METHODS
    )
    method = METHODS[flag_value(args, "--method", DEFAULT)]
    options = parse(with_settings(Merge, settings=method), "merge", args, EXAMPLES + table)
    check_writable(options.out)
    if any(parent.resolve() == options.out.resolve() for parent in options.parents):
        raise InputError(f"--out {options.out}: is one of the parents; choose another name")
    with counting_progress(options.method, show=not options.quiet) as on_count:
        result = merge(
            options.parents,
            options.method,
            coefficients=options.coefficients or None,
            seed=options.seed,
            force=options.force,
            device=pick_device(options.device),
            on_progress=lambda share: on_count(round(100 * share), 100),
            **options.settings.settings(),  # type: ignore[attr-defined]
        )
    save(result.field, options.out)
    found = None
    if not options.without_evidence:
        found = assess(result.field, Parents(options.parents, result.field.aabb.device))
    if options.json:
        evidence = {} if found is None else {"evidence": found.as_dict()}
        print(json.dumps({"out": str(options.out), **result.report, **evidence}))
        return
    shares = " ".join(f"{share:.3g}" for share in result.report["coefficients"])
    print(
        f"{options.out}: {len(options.parents)} parents by {options.method}, coefficients "
        f"{shares}, {result.report['seconds']:.2f} s"
    )
    if not any(arg.partition("=")[0] == "--method" for arg in args):
        print(WHY)
    if found is not None:
        print(in_words(found))
    print(f"See it with `memonf render {options.out} --turntable --out turntable.gif`")


def in_words(found: Evidence) -> str:
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
    return "\n".join(lines)
