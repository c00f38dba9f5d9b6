"""Checks before a merge: invalid symmetries, and parents of different scenes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from ..cameras.frames import Placement
from ..errors import MergeError
from ..fields import Field
from ..rendering.knowledge import Knowledge, disagreement
from ..symmetry import Symmetry, verify

__all__ = ["check_knowledge", "check_placements", "check_symmetry"]

#: Largest share of the solid cells seen by both of two parents that is solid for one of them only.
#: Measured: below 1 % for two halves of one scene, 60 to 75 % for two scenes
#: (docs/research/knowledge.md).
MOST_DISAGREEMENT = 0.4
#: Points at which the symmetry is verified before parents are aligned by it, and the largest
#: relative change of outputs that counts as float noise.
VERIFIED_POINTS = 64
MOST_CHANGE = 1e-4


def check_symmetry(field: Field, symmetry: Symmetry, seed: int) -> None:
    """Refuse an invalid symmetry: one of which a random element changes the field's outputs."""
    generator = torch.Generator().manual_seed(seed)
    positions = 2 * torch.rand(VERIFIED_POINTS, 3, generator=generator) - 1
    directions = torch.randn(VERIFIED_POINTS, 3, generator=generator)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    inputs = [positions.to(field.aabb), directions.to(field.aabb)]
    changed = verify(field, symmetry, inputs, seed=seed).outputs
    if not changed <= MOST_CHANGE:
        raise MergeError(
            f"field `{field.name}`: the symmetry found in its forward pass is invalid: it changes "
            f"the outputs by {changed:.1e} of their size, expected at most {MOST_CHANGE:.0e} "
            "(float noise); its `raw` contains an operation that is traced wrongly. Merge with "
            "`distill`, which needs no symmetry"
        )


def check_placements(placements: Sequence[Placement | None]) -> None:
    """Refuse parents whose captures were placed differently, so that coordinates differ.

    Args:
        placements: Placement of each parent's capture, in the order given.

    Raises:
        MergeError: One was moved, rotated or scaled differently from the first.
    """
    first = placements[0]
    for number, other in enumerate(placements[1:], 2):
        if first is None and other is None:
            continue
        if first is None or other is None or not first.same_as(other):
            raise MergeError(
                f"parent {number}: its capture was placed (moved, rotated or scaled) differently "
                "from that of parent 1, so their coordinates differ. Train it with `--place "
                "FIRST.safetensors`, which uses the placement of the first"
            )


def check_knowledge(recorded: Sequence[Knowledge | None]) -> None:
    """Refuse parents with empty knowledge, and parents of different scenes.

    Two parents count as fields of different scenes if too many of the solid cells that both saw
    are solid for one of them only.

    Args:
        recorded: Knowledge of each parent; None for those without a record, which pass.

    Raises:
        MergeError: A parent has empty knowledge, or two contradict each other.
    """
    for number, seen in enumerate(recorded, 1):
        if seen is not None and not ((seen.views > 0).any() and seen.solid.any()):
            raise MergeError(
                f"parent {number} has empty knowledge: its cameras see no matter in it. Look at it "
                "with `memonf render`, and leave it out"
            )
    for (one, first), (other, second) in itertools.combinations(enumerate(recorded, 1), 2):
        if first is None or second is None:
            continue
        measured = disagreement(first, second)
        if measured is not None and measured > MOST_DISAGREEMENT:
            raise MergeError(
                f"parents {one} and {other} contradict each other: {100 * measured:.0f} % of the "
                "solid cells that both saw are solid for one of them only (parents of one scene: "
                "below 10 %). Are they fields of one scene, in one coordinate frame? Force the "
                "merge if they are (--force, force=True)"
            )
