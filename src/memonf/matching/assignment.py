"""The linear assignment problem, through SciPy's solver."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..errors import InputError
from ..typing import Float, Int, Tensor

__all__ = ["best_permutation"]


def best_permutation(similarity: Float[Tensor, "slots units"]) -> Int[Tensor, " slots"]:
    """Permutation that maximises Σ_i similarity[i, perm[i]].

    Args:
        similarity: Entry (i, j): how well unit j of the other parent fits slot i of the reference.

    Raises:
        InputError: The matrix is not square, or holds NaN or infinity.

    Reference:
        Crouse 2016, a Jonker-Volgenant variant, in ``scipy.optimize``.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise InputError(f"similarity: expected (units, units), received {tuple(similarity.shape)}")
    matrix = similarity.detach().double().cpu().numpy()
    if not np.isfinite(matrix).all():
        raise InputError("similarity: expected finite numbers; a parent's params are not finite")
    _, columns = linear_sum_assignment(matrix, maximize=True)
    return torch.from_numpy(columns).to(similarity.device)
