"""The record of a merged field: what it inherits of its parents."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..cameras.cameras import Cameras
from ..fields import Record
from ..rendering.knowledge import Knowledge, union
from ..typing import Float, Tensor
from .parents import ParentFacts

__all__ = ["joined_cameras", "merged_record"]


def merged_record(
    parents: Sequence[ParentFacts],
    knowledge: Sequence[Knowledge | None],
    lineage: dict[str, Any],
    aabb: Float[Tensor, "2 3"],
) -> Record:
    """Record of a merged field: cameras and knowledge of all parents, the widest range."""
    records = [parent.record for parent in parents]
    groups = list(dict.fromkeys(record.group for record in records))
    scenes = list(dict.fromkeys(record.scene for record in records if record.scene))
    recorded = [seen for seen in knowledge if seen is not None]
    return dataclasses.replace(
        records[0],
        near=min(record.near for record in records),
        far=max(record.far for record in records),
        cameras=joined_cameras([record.cameras for record in records]),
        knowledge=union(recorded, aabb) if len(recorded) == len(records) else None,
        group=" + ".join(groups),
        scene=" + ".join(scenes),
        training={},
        lineage=lineage,
    )


def joined_cameras(parts: Sequence[Cameras | None]) -> Cameras | None:
    """All cameras together at the first one's image size; None if a parent's are unknown."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Cameras.join(known)
