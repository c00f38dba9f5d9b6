"""MeMo NF: merge neural fields of one scene into one field of the size of one, without images.

    scene = memonf.load_scene("embedded:robot")
    front = memonf.train(scene, group="front", settings=memonf.TrainSettings(seed=1))
    rear = memonf.train(scene, group="rear", settings=memonf.TrainSettings(seed=2))
    result = memonf.merge([front, rear], method="activation_matching_repair")
    print(memonf.evaluate(result.field, scene).psnr)

Names are imported when they are first used, so ``import memonf`` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .cameras.cameras import Cameras, turntable
    from .data import Scene, embedded_scenes, load_scene
    from .errors import MemonfError
    from .evaluation.evaluate import Scores, evaluate
    from .fields import Field, FieldOutput, build_field
    from .io.checkpoint import load, save
    from .merging import Merger, MergeResult, merge
    from .merging.recipe import Recipe, read_recipe
    from .rendering.volume_rendering import Renderer
    from .training import TrainSettings, train

__all__ = [
    "Cameras",
    "Field",
    "FieldOutput",
    "MemonfError",
    "MergeResult",
    "Merger",
    "Recipe",
    "Renderer",
    "Scene",
    "Scores",
    "TrainSettings",
    "__version__",
    "build_field",
    "embedded_scenes",
    "evaluate",
    "load",
    "load_scene",
    "merge",
    "read_recipe",
    "save",
    "train",
    "turntable",
]

_MODULES = {
    "Cameras": "cameras.cameras",
    "Field": "fields",
    "FieldOutput": "fields",
    "MemonfError": "errors",
    "MergeResult": "merging",
    "Merger": "merging",
    "Recipe": "merging.recipe",
    "Renderer": "rendering.volume_rendering",
    "Scene": "data",
    "Scores": "evaluation.evaluate",
    "TrainSettings": "training",
    "build_field": "fields",
    "embedded_scenes": "data",
    "evaluate": "evaluation.evaluate",
    "load": "io.checkpoint",
    "load_scene": "data",
    "merge": "merging",
    "read_recipe": "merging.recipe",
    "save": "io.checkpoint",
    "train": "training",
    "turntable": "cameras.cameras",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module `memonf` has no attribute `{name}`")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
