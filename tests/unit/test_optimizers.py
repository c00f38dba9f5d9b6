"""Muon against its reference and against the singular value decomposition."""

from __future__ import annotations

import pytest
import torch

from memonf.training.optimizers import Muon, orthogonalised

SHAPES = [(24, 24), (24, 40), (40, 24)]


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_about_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    """The result is U S Vᵀ with S near one, for the U and V of the matrix."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalised(matrix) @ vh.T
    assert float((inner - inner.diagonal().diag()).abs().max()) < 1e-4
    assert 0.6 < float(inner.diagonal().min()) <= float(inner.diagonal().max()) < 1.3


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_that_of_torch_but_for_its_rounding(shape: tuple[int, int]) -> None:
    """torch.optim.Muon orthogonalises in bfloat16; all else is the same."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine = Muon([ours], lr=0.05, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.05, weight_decay=0.1)
    for _ in range(4):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    assert float((ours - theirs).detach().norm()) < 0.02 * float((ours - start).detach().norm())


def test_precision_of_the_params_is_kept() -> None:
    """float64 in, float64 out."""
    assert orthogonalised(torch.eye(3, dtype=torch.float64)).dtype == torch.float64
