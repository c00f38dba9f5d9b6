"""Which params which optimiser takes."""

from __future__ import annotations

from ..errors import InputError
from ..fields import Field
from ..symmetry import find_symmetry
from .optimizers import Adam, Muon, Optimizer
from .settings import TrainSettings

__all__ = ["build_optimizers", "hidden_matrices"]


def build_optimizers(field: Field, settings: TrainSettings) -> list[Optimizer]:
    """Adam on everything, or Muon on the hidden matrices and Adam on the rest."""
    params = dict(field.named_parameters())
    hidden = hidden_matrices(field) if settings.optimizer == "muon" else []
    adam = Adam(
        [param for name, param in params.items() if name not in hidden],
        settings.adam_rate * field.rate_scale,
        settings.weight_decay / (10 if hidden else 1),
        means=(0.9, 0.99),
        floor=1e-15,
    )
    if not hidden:
        return [adam]
    rate = settings.muon_rate * field.rate_scale
    return [Muon([params[name] for name in hidden], rate, settings.weight_decay), adam]


def hidden_matrices(field: Field) -> list[str]:
    """Names of the matrices that carry hidden units on both of their axes.

    Of a field whose forward pass cannot be traced: those whose shorter side is at least half the
    longest of all.
    """
    matrices = {name: param for name, param in field.named_parameters() if param.ndim == 2}
    try:
        groups = find_symmetry(field).groups
    except InputError:
        widest = max((max(param.shape) for param in matrices.values()), default=0)
        return [name for name, param in matrices.items() if 2 * min(param.shape) >= widest]
    axes: dict[str, set[int]] = {}
    for group in groups:
        for part in group.slices:
            axes.setdefault(part.tensor, set()).add(part.axis)
    return [name for name, seen in axes.items() if seen == {0, 1} and name in matrices]
