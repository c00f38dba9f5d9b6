"""Sets up a training run: fresh params or those of an earlier field, and the record of both."""

from __future__ import annotations

import copy
from dataclasses import asdict

import torch

from ..data import Scene
from ..errors import InputError
from ..fields import Field, FieldConfig, Record, build_field, outline
from ..io.checkpoint import content_hash, load
from ..typing import PathLike
from .room import check_room
from .settings import TrainSettings
from .trainer import Trainer

__all__ = [
    "BACKGROUND",
    "DEFAULT_FIELD",
    "GIVEN",
    "INITIAL_PARAMS",
    "SHARED_SEED",
    "new_trainer",
]

DEFAULT_FIELD = "tiny_nerf"
#: Seed of the initial params that all parents share by default.
SHARED_SEED = 0
#: Key of a training record: content hash of the field before the first step.
INITIAL_PARAMS = "initial_params"
#: Key of a training record, and what it is where the background was named, not found.
BACKGROUND, GIVEN = "background", "given"
#: What `initialization` is in the record of a field that started from another's params.
FROM_A_FIELD = "field"


def new_trainer(
    scene: Scene,
    *,
    group: str = "all",
    overlap: float = 0.0,
    field: str | None = None,
    config: FieldConfig | None = None,
    settings: TrainSettings | None = None,
    start: Field | PathLike | None = None,
    device: torch.device | str = "cpu",
) -> Trainer:
    """Set up a training run; see `train`."""
    settings = settings or TrainSettings()
    views = scene.views("train", group, overlap)
    recorded = asdict(settings)
    if scene.background_given:
        recorded[BACKGROUND] = GIVEN
    if start is None:
        independent = settings.initialization == "independent"
        initial_seed = settings.seed if independent else SHARED_SEED
        check_room(outline(field or DEFAULT_FIELD, config, scene.aabb), settings, device)
        built = build_field(field or DEFAULT_FIELD, config, scene.aabb, seed=initial_seed)
    else:
        built = copy_of(start, field, config, scene)
        check_room(built, settings, device)
        recorded["initialization"] = FROM_A_FIELD
    built.record = Record(
        near=scene.near,
        far=scene.far,
        background=scene.background,
        cameras=views.cameras,
        placement=scene.placement,
        group=group,
        scene=scene.name,
        training={**recorded, "overlap": overlap, INITIAL_PARAMS: content_hash(built)},
    )
    return Trainer(built.to(device), views, scene, settings)


def copy_of(
    start: Field | PathLike, field: str | None, config: FieldConfig | None, scene: Scene
) -> Field:
    """A new field with the params of an earlier one.

    Args:
        start: The earlier field, or its file.
        field: Architecture it must have; None for its own.
        config: Configuration it must have; None for its own.
        scene: Its box must be this scene's.

    Raises:
        InputError: They differ; the message names where.
    """
    earlier = start if isinstance(start, Field) else load(start)
    named = "the field to start from" if isinstance(start, Field) else f"{start}"
    if field is not None and field != earlier.name:
        raise InputError(
            f"{named}: architecture `{earlier.name}`, asked for is `{field}`; leave it out to "
            "train on with that of the start"
        )
    theirs = earlier.config.as_dict()
    for key, value in ({} if config is None else config.as_dict()).items():
        if theirs.get(key) != value:
            raise InputError(
                f"{named}: `{key}` is {theirs.get(key)!r}, asked for is {value!r}; leave it out to "
                "train on with that of the start"
            )
    if not torch.allclose(earlier.aabb.cpu(), scene.aabb, rtol=0, atol=1e-6):
        raise InputError(
            f"{named}: box {earlier.aabb.tolist()}, {scene.name} has {scene.aabb.tolist()}; params "
            "mean another place in another box: start afresh, or take the data set of the start"
        )
    return copy.deepcopy(earlier).cpu()
