from __future__ import annotations

import pytest
import torch
from conftest import descendant, small_field

from memonf.cameras.cameras import turntable
from memonf.errors import InputError
from memonf.merging import METHODS, merge
from memonf.rendering.volume_rendering import Renderer
from memonf.utils.devices import pick_device

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_auto_takes_what_is_there() -> None:
    assert pick_device("auto").type in ("cuda", "mps", "cpu")
    assert pick_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta"])
def test_devices_that_are_not_there_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="leave --device out or use cpu"):
        pick_device(name)


@needs_gpu
@pytest.mark.parametrize("method", list(METHODS))
def test_merges_agree_on_cpu_and_gpu(method: str) -> None:
    made = descendant if METHODS[method].needs_ancestor else small_field
    parents = [made("tiny_nerf", seed) for seed in (1, 2)]
    on_cpu = merge(parents, method).field
    on_gpu = merge([parent.to("cuda") for parent in parents], method).field
    assert on_gpu.aabb.device.type == "cuda"
    for a, b in zip(on_cpu.parameters(), on_gpu.parameters(), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-3, atol=1e-4)


@needs_gpu
def test_pictures_agree_on_cpu_and_gpu() -> None:
    field = small_field("nerf")
    cameras = turntable(1, 24, 4.0, torch.zeros(3))
    on_cpu = Renderer.of(field).view(cameras, 0).rgb
    on_gpu = Renderer.of(field.to("cuda")).view(cameras, 0).rgb
    assert on_gpu.device.type == "cuda"
    torch.testing.assert_close(on_cpu, on_gpu.cpu(), rtol=0, atol=2e-2)
