"""What an experiment scores: parents, the yardsticks that they are measured against, and merges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from ..evaluation.baselines import BLENDS

__all__ = ["Contender", "Kind"]

#: ``joint``: trained on all images; ``oracle``: each view by the parent of its group; ``blend``:
#: both parents rendered together.
Kind = Literal["parent", "joint", "oracle", "blend", "merge"]

#: How distillations from other starts, yardsticks that are trained, and blends are called.
START_TITLES = {
    "merge": "`distill` from activation matching and REPAIR",
    "parent": "`distill` from the first parent",
    "scratch": "`distill` from scratch",
}
TITLES = {
    "oracle": "oracle (each view by the parent of its group)",
    "blend": "blend by knowledge (both parents rendered)",
    "blend_by_distance": "blend by distance (both parents rendered)",
    "joint": "joint (all images)",
}


@dataclass(frozen=True)
class Contender:
    """One row of an experiment's tables.

    Attributes:
        kind: What it is.
        name: View group of a parent, name of a yardstick, or merge method.
        start: Where a distillation starts, if not where it starts by default; such a merge is a
            yardstick for the default.
        batch_norm: Whether the parents have batch norm.
    """

    kind: Kind
    name: str
    start: Literal["", "merge", "parent", "scratch"] = ""
    batch_norm: bool = False

    @classmethod
    def merge(cls, method: str, *, batch_norm: bool = False) -> Contender:
        """A merge by a method with its default settings."""
        return cls("merge", method, batch_norm=batch_norm)

    @property
    def key(self) -> str:
        """Name of its files, and in ``scores.json``: unique in an experiment."""
        start = f"_from_{self.start}" if self.start else ""
        return f"{self.name}{start}{'_batch_norm' if self.batch_norm else ''}"

    @property
    def title(self) -> str:
        """Name for people, in Markdown."""
        if self.kind == "parent":
            text = f"parent {self.name}"
        elif self.start:
            text = START_TITLES[self.start]
        else:
            text = TITLES.get(self.name, f"`{self.name}`")
        return f"{text}, batch norm" if self.batch_norm else text

    @property
    def plain_title(self) -> str:
        """Name for people, without marks of code."""
        return self.title.replace("`", "").replace("_", " ")

    @property
    def label(self) -> str:
        """Short name for captions."""
        return replace(self, batch_norm=False).key.replace("_", " ")

    @property
    def produced_by(self) -> str:
        """``train``, the merge method, or the yardstick."""
        return {"parent": "train", "joint": "train"}.get(self.kind, self.name)

    @property
    def is_default_merge(self) -> bool:
        """Whether it is a merge that users would make, not a yardstick for one."""
        return self.kind == "merge" and not self.start

    def settings(self, distill_steps: int) -> dict[str, Any]:
        """Settings of its merge method that differ from the defaults."""
        if self.name != "distill":
            return {}
        return {"steps": distill_steps, **({"start": self.start} if self.start else {})}

    def order(self, groups: tuple[str, str], methods: list[str]) -> tuple[bool, int]:
        """Sorting key: plain before batch norm; parents, yardsticks, merges, other starts."""
        names = [
            *groups, "oracle", *BLENDS, "joint", *methods,
            *(f"distill_from_{start}" for start in START_TITLES),
        ]  # fmt: skip
        return self.batch_norm, names.index(replace(self, batch_norm=False).key)
