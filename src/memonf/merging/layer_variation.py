"""How much of the parents' variation a merge keeps, layer by layer.

Units that are averaged vary less than each of them does, and the loss grows from layer to layer:
the *variance collapse* that REPAIR corrects (Jordan et al. 2022, arXiv 2211.08403).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from ..fields import Field
from ..typing import PathLike
from .layer_similarity import LOOKED_AT
from .parents import Parents, check_alike
from .problem import MergeProblem
from .unit_statistics import statistics_of

__all__ = ["LayerVariation", "layer_variation"]


@dataclass(frozen=True)
class LayerVariation:
    """How much the units of one layer vary over space, before their activation.

    Attributes:
        layer: Name of the layer.
        parents: Standard deviation over points, mean over the parents' units.
        merged: The same of the merge.
    """

    layer: str
    parents: float
    merged: float

    @property
    def kept(self) -> float:
        """Share of the parents' variation that the merge has, >= 0; 1 is all of it."""
        return self.merged / max(self.parents, 1e-12)


@torch.no_grad()
def layer_variation(
    merged: Field, parents: Sequence[Field | PathLike], *, seed: int = 0
) -> list[LayerVariation]:
    """Compare how much units vary in a merge and in its parents, from the first layer to the last.

    Means over a layer's units: the order of the units makes no difference. Points lie where the
    parents saw matter and, a quarter of them, anywhere; each counts by what the parent saw there.

    Args:
        merged: Field of the parents' architecture.
        parents: Two or more fields of one architecture, or their files.
        seed: Seed of the points.

    Raises:
        MergeError: They are not alike, or what was read as their symmetry is not one.
        InputError: The forward pass cannot be read.
    """
    given = Parents(parents, str(merged.aabb.device))
    check_alike(given.facts)
    problem = MergeProblem(given, seed)
    positions = problem.positions(LOOKED_AT, 0.25, True)
    layers = problem.symmetry.pre_activations

    def deviations(network: Field, trust: torch.Tensor) -> list[float]:
        found = statistics_of(
            problem.symmetry, network, positions.inputs, set(layers.values()), trust
        )
        return [float(found[value][1].mean()) for value in layers.values()]

    of_parents = [
        deviations(given[number], positions.trust[number]) for number in range(len(parents))
    ]
    of_merge = deviations(merged, positions.trust.mean(0))
    return [
        LayerVariation(name, fmean(own), found)
        for name, own, found in zip(layers, zip(*of_parents, strict=True), of_merge, strict=True)
    ]
