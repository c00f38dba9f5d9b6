"""Options of the verbs that open a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from pydantic import Field as Limits

from ..data import Background, Place, Scene, load_scene
from ..errors import InputError
from ..fields import FIELDS, Field
from ..io.checkpoint import load
from ..training import BACKGROUND, GIVEN
from .options import Common, Finite

__all__ = ["FromData", "chosen_place", "radiance_field", "radiance_fields"]


def radiance_fields() -> list[str]:
    """Names of the architectures that are trained on views."""
    return [name for name in FIELDS if FIELDS[name].asked_along == "rays"]


def radiance_field(name: str) -> type[Field]:
    """An architecture that is trained on views.

    Raises:
        InputError: There is none of this name, or it is trained at positions.
    """
    chosen = FIELDS[name]
    if chosen.asked_along != "rays":
        raise InputError(f"--field {name}: is no radiance field; train it with `memonf fit`")
    return chosen


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
        background: Colour behind everything: white, black or R G B in [0, 1]; auto: what the data
            says, else white behind pictures with alpha and the borders' colour of others.
    """

    data: str
    front: Annotated[tuple[Finite, Finite] | None, tyro.conf.arg(metavar="X Y")] = None
    place: str = "auto"
    half_side: Annotated[float, Limits(gt=0, le=1e12)] | None = None
    background: Background = "auto"

    def scene(self, like: Field | None = None) -> Scene:
        """Open the data set.

        Args:
            like: Field that it is for: a capture is placed as that field's was, and the background
                is that which the field was given, unless told.
        """
        place = chosen_place(self.place)
        follow = place == "auto" and like is not None and self.half_side is None
        if follow and like is not None and like.record.placement is not None:
            place = like.record.placement
        background = self.background
        given = like is not None and like.record.training.get(BACKGROUND) == GIVEN
        if background == "auto" and like is not None and given:
            background = like.record.background
        scene = load_scene(
            self.data, front=self.front, place=place, half_side=self.half_side,
            background=background,
        )  # fmt: skip
        if follow and place == "auto" and scene.placement is not None:
            # A field that was not placed knows the data set's own coordinates.
            return load_scene(self.data, front=self.front, place="keep", background=background)
        return scene


def chosen_place(text: str) -> Place:
    """What `--place` says; of a field file, its placement, or keep where it has none."""
    if text == "auto":
        return "auto"
    if text == "keep":
        return "keep"
    if not text.endswith(".safetensors"):
        raise InputError(f"--place: expected auto, keep or a field file, received `{text}`")
    return load(text).record.placement or "keep"
