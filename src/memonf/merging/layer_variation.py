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

    Example:
        >>> LayerVariation("layers.0", parents=2.0, merged=1.0).kept
        0.5

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

    Figures are means over a layer's units, so the order of the units does not matter. Points lie
    where the parents saw matter and, a quarter of them, anywhere; each is weighted by the parent's
    trust there.

    Example:
        >>> merged = memonf.merge([front, rear], "average").field
        >>> layers = memonf.merging.layer_variation(merged, [front, rear])
        >>> layers[0].layer
        'layers.0'

    Args:
        merged: Field of the parents' architecture.
        parents: Two or more fields of one architecture, or their files.
        seed: Seed of the points.

    Raises:
        MergeError: Parents of different kinds, or an invalid symmetry.
        InputError: The forward pass cannot be read.
    """
    given = Parents(parents, str(merged.aabb.device))
    check_alike(given.facts)
    problem = MergeProblem(given, seed)
    positions = problem.positions(LOOKED_AT, 0.25, True)
    layers = problem.symmetry.pre_activations

    def deviations(network: Field, trust: torch.Tensor) -> list[float]:
        statistics = statistics_of(
            problem.symmetry, network, positions.inputs, set(layers.values()), trust
        )
        return [float(statistics[value][1].mean()) for value in layers.values()]

    of_parents = [
        deviations(given[number], positions.trust[number]) for number in range(len(parents))
    ]
    of_merge = deviations(merged, positions.trust.mean(0))
    return [
        LayerVariation(name, fmean(deviations), merged_deviation)
        for name, deviations, merged_deviation in zip(
            layers, zip(*of_parents, strict=True), of_merge, strict=True
        )
    ]
