"""Adam and Muon against those of torch, and against the singular value decomposition."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from memonf.training.optimizers import Adam, Muon, orthogonalised

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
    mine = Muon([ours], 0.05, 0.1)
    reference = torch.optim.Muon([theirs], lr=0.05, weight_decay=0.1)
    for _ in range(4):
        theirs.grad = torch.randn(shape, generator=generator)
        ours.grad = theirs.grad.clone()
        mine.step()
        reference.step()
    assert float((ours - theirs).detach().norm()) < 0.02 * float((ours - start).detach().norm())


def test_precision_of_the_params_is_kept() -> None:
    """float64 in, float64 out."""
    assert orthogonalised(torch.eye(3, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_is_that_of_torch(decay: float) -> None:
    """Ten steps with changing rates; a param without a gradient stays."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(7, 5, generator=generator)
    ours, theirs, idle = (torch.nn.Parameter(start.clone()) for _ in range(3))
    mine = Adam([ours, idle], 0.01, decay, means=(0.9, 0.99), floor=1e-15)
    reference = torch.optim.AdamW(
        [theirs], lr=0.01, weight_decay=decay, betas=(0.9, 0.99), eps=1e-15
    )
    for step in range(10):
        mine.rate = reference.param_groups[0]["lr"] = 0.01 * (1 + step % 3)
        theirs.grad = torch.randn(7, 5, generator=generator)
        ours.grad = theirs.grad.clone()
        mine.step()
        reference.step()
        assert ours.grad is None
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert torch.equal(idle.detach(), start)


def test_training_does_not_wait_for_the_compiler() -> None:
    """Neither a step of training nor one of distillation imports torch's compiler."""
    code = (
        "import sys, memonf\n"
        "from memonf.training import TrainSettings, new_trainer\n"
        "scene = memonf.load_scene('embedded:robot')\n"
        "new_trainer(scene, settings=TrainSettings(steps=2, rays=64, grid=16)).step()\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", [Adam, Muon])
def test_what_died_is_forgotten_before_it_becomes_denormal(kind: type[Adam] | type[Muon]) -> None:
    """Rows whose gradient has ended leave zeros behind, not ever smaller numbers."""
    generator = torch.Generator().manual_seed(3)
    param = torch.nn.Parameter(torch.randn(8, 8, generator=generator))
    optimizer = kind([param], 0.01)
    for step in range(5000):
        param.grad = 1e-4 * torch.randn(8, 8, generator=generator)
        if step > 3:
            param.grad[0] = 0
        optimizer.step()
    for values in optimizer.memory[0].values():
        assert not bool(((values != 0) & (values.abs() < torch.finfo(torch.float32).tiny)).any())
    assert not bool(optimizer.memory[0]["mean"][0].any())
