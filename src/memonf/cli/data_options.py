"""Options of the verbs that open a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..checkpoint import load
from ..data import Place, Scene, load_scene
from ..errors import InputError
from ..fields import Field
from .options import Common

__all__ = ["FromData"]


@dataclass(frozen=True, kw_only=True)
class FromData(Common):
    """Options of verbs that open a data set.

    Attributes:
        data: NeRF-synthetic folder, capture (transforms.json, LLFF, COLMAP), .npz file, or
            embedded:NAME.
        front: Horizontal direction (x y) towards the front cameras; the format's own if left out.
        place: Where a capture lies: auto (upright, centred, its box scaled to 3 units), keep (its
            own coordinates), or a field file whose placement is taken over.
        half_side: Half a side of a capture's box, in its own units; all cameras if left out.
    """

    data: str
    front: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="X Y")] = None
    place: str = "auto"
    half_side: float | None = None

    def scene(self, like: Field | None = None) -> Scene:
        """Open the data set.

        Args:
            like: Field that it is for: a capture is placed as that field's was, unless told.
        """
        place: Place = "auto"
        if self.place == "keep":
            place = "keep"
        elif self.place != "auto":
            place = placement_of(Path(self.place))
        elif like is not None and self.half_side is None:
            place = like.record.placement or "auto"
        return load_scene(self.data, front=self.front, place=place, half_side=self.half_side)


def placement_of(file: Path) -> Place:
    """The placement of a field file; its coordinates are the capture's own where it has none."""
    if file.suffix != ".safetensors":
        raise InputError(f"--place: expected auto, keep or a field file, received `{file}`")
    return load(file).record.placement or "keep"
