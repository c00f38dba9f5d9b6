"""Shared fixtures; shapes in public signatures are checked while the tests run."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import install_import_hook

#: All but the architectures: symmetry traces those with stand-ins that are no tensors.
CHECKED = [
    "cameras",
    "data",
    "doctor",
    "evaluation.baselines",
    "evaluation.evaluate",
    "evaluation.lpips",
    "evaluation.metrics",
    "experiment",
    "fields.encodings",
    "implicit",
    "io.export",
    "io.importing",
    "matching",
    "merging",
    "rendering",
    "symmetry",
    "training.optimizers",
    "training.params",
    "training.room",
    "training.run",
    "training.settings",
    "training.start",
    "training.state",
    "training.trainer",
    "utils.workers",
    "visualization",
]
HOOK = install_import_hook([f"memonf.{name}" for name in CHECKED], "beartype.beartype")
HOOK.__enter__()

#: One thread here and in every process that a test starts: tests run side by side.
os.environ["OMP_NUM_THREADS"] = "1"
import torch  # noqa: E402

import memonf  # noqa: E402
from memonf.cameras.cameras import turntable  # noqa: E402
from memonf.experiment import (  # noqa: E402
    Alignment,
    CompareSettings,
    Contender,
    Curve,
    Outcome,
    RunDescription,
    Scored,
)
from memonf.fields import Field, build_field, known  # noqa: E402
from memonf.fields.classic_nerf import ClassicNerfConfig  # noqa: E402
from memonf.fields.nerf import NerfConfig  # noqa: E402
from memonf.fields.siren import SirenConfig  # noqa: E402
from memonf.fields.tiny_nerf import TinyNerfConfig  # noqa: E402
from memonf.io.checkpoint import content_hash  # noqa: E402
from memonf.merging import LayerSimilarity  # noqa: E402
from memonf.symmetry import find_symmetry, permute  # noqa: E402
from memonf.training import INITIAL_PARAMS, SHARED_SEED, TrainSettings  # noqa: E402

torch.set_num_threads(1)

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
SHARED = Path(os.environ.get("MEMONF_DATA", Path(__file__).parents[2] / "shared" / "data"))
#: Debian's Chromium without a screen, which asks for nothing by itself.
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-gl=angle",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip

#: Every architecture of the project, small, in the variants that differ in symmetry.
ARCHITECTURES = {
    "tiny_nerf": ("tiny_nerf", TinyNerfConfig(width=24, depth=3, frequencies=4)),
    "tiny_nerf_skip": ("tiny_nerf", TinyNerfConfig(width=24, depth=4, frequencies=4, skips=(2,))),
    "tiny_nerf_tanh": (
        "tiny_nerf", TinyNerfConfig(width=24, depth=3, frequencies=4, activation="tanh"),
    ),
    "tiny_nerf_batch_norm": (
        "tiny_nerf", TinyNerfConfig(width=24, depth=3, frequencies=4, batch_norm=True),
    ),
    "tiny_nerf_tanh_batch_norm": (
        "tiny_nerf",
        TinyNerfConfig(width=24, depth=3, frequencies=4, activation="tanh", batch_norm=True),
    ),
    "nerf": ("nerf", NerfConfig(width=24, depth=4, frequencies=4, skips=(2,), view_width=12)),
    "nerf_batch_norm": (
        "nerf",
        NerfConfig(width=24, depth=4, frequencies=4, skips=(2,), view_width=12, batch_norm=True),
    ),
    "siren": ("siren", SirenConfig(width=24, depth=3)),
    "classic_nerf": (
        "classic_nerf",
        ClassicNerfConfig(
            width=24, depth=4, frequencies=4, skips=(2,), view_width=12, first_activation=False,
            feature_activation=True,
        ),
    ),
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The notebook takes longest by far: begun first, it runs beside all others."""
    items.sort(key=lambda item: item.path.name != "test_notebook.py")


def small_field(kind: str, seed: int = 0) -> Field:
    """A field whose params, biases and norm statistics are all random, none of them special."""
    name, config = ARCHITECTURES[kind]
    return made_random(build_field(name, config, BOX, seed=seed), seed)


def descendant(kind: str, seed: int = 0) -> Field:
    """A small field that moved, as its record says, away from the params that all share."""
    name, config = ARCHITECTURES[kind]
    field = build_field(name, config, BOX, seed=SHARED_SEED)
    training = {"initialization": "shared", INITIAL_PARAMS: content_hash(field)}
    generator = torch.Generator().manual_seed(2000 + seed)
    with torch.no_grad():
        for param in field.parameters():
            param += 0.05 * torch.randn(param.shape, generator=generator)
    field = made_random(field, seed)
    field.record = dataclasses.replace(field.record, training=training)
    return field


def made_random(field: Field, seed: int) -> Field:
    """The same field with random biases and norms, and a head that reaches solid densities."""
    generator = torch.Generator().manual_seed(1000 + seed)
    for key, tensor in field.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
        elif key.endswith("running_var") or ("norm" in key and key.endswith("weight")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    # A head that reaches solid densities, so that differences of the output can be seen.
    for key, tensor in field.state_dict().items():
        if key.startswith(("head", "density_head")) and key.endswith("weight"):
            tensor.mul_(10)
        if key in ("head.bias", "density_head.bias"):
            tensor[0] = 6.0
    cameras = turntable(4, 16, 4.0, torch.zeros(3))
    field.record = dataclasses.replace(field.record, near=2.0, far=6.0, cameras=cameras)
    return field.eval()


def outputs(field: Field, count: int = 512, seed: int = 0) -> torch.Tensor:
    """Density and colour at fixed random points and directions: (count, 4)."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(count, 3, generator=generator) * 2 - 1
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    with torch.no_grad():
        out = field(positions, directions)
    return torch.cat([out.density[:, None], out.rgb], 1)


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm of the difference relative to the norm of `a`."""
    return float((a - b).norm() / a.norm())


@pytest.fixture(params=list(ARCHITECTURES))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def robot() -> memonf.Scene:
    return memonf.load_scene("embedded:robot")


@pytest.fixture
def lego() -> Path:
    folder = SHARED / "lego_100"
    if not folder.exists():
        pytest.skip(f"real data is not at hand ({folder}); set MEMONF_DATA to its folder")
    return folder


def knowing_pair(shuffled: bool = False) -> list[Field]:
    """Two small fields that have recorded what they saw; or one and itself in another order."""
    pair = [small_field("tiny_nerf", 1), small_field("tiny_nerf", 1 if shuffled else 2)]
    if shuffled:
        symmetry = find_symmetry(pair[1])
        order = symmetry.random(torch.Generator().manual_seed(5))
        pair[1].load_state_dict(permute(dict(pair[1].state_dict()), symmetry, order))
    for field in pair:
        field.record = dataclasses.replace(field.record, knowledge=known(field))
    return pair


def small_outcome(**changes: Any) -> Outcome:
    """An experiment as it comes out, with made-up figures and pictures of one colour."""
    truth = (plain(10), plain(40))

    def scored(contender: Contender, psnr: float, shade: int, frames: bool = True) -> Scored:
        groups = {"front": psnr + 1, "rear": psnr - 1, "all": psnr}
        return Scored(
            contender, 0, 1.5, 1000, groups, dict.fromkeys(groups, 0.9),
            {"front": 1, "rear": 1, "all": 2}, {"a": psnr + 1, "b": psnr - 1}, None,
            tuple(plain(shade + 30 * place) for place in range(2)), (psnr, psnr),
            tuple(plain(shade + 9 * frame) for frame in range(3)) if frames else (),
        )  # fmt: skip

    fields = (
        scored(Contender("parent", "front"), 24.0, 10),
        scored(Contender("parent", "rear"), 23.0, 90),
        scored(Contender("oracle", "oracle"), 30.0, 10, False),
        scored(Contender("joint", "joint"), 29.0, 20),
        scored(Contender.merge("average"), 19.0, 180),
        scored(Contender.merge("distill"), 28.0, 30),
    )
    generator = torch.Generator().manual_seed(0)
    layer = LayerSimilarity("layers.0", torch.rand(5, 5, generator=generator), torch.eye(5))
    settings = CompareSettings(
        "embedded:robot", train=TrainSettings(steps=10), most_views=None, workers=2,
        command="memonf demo --out demo",
    )  # fmt: skip
    run = RunDescription(
        settings, TinyNerfConfig(width=8), "robot", (1.0, 1.0, 1.0), "0", "2", "3", "a machine"
    )
    whole = Outcome(
        run, fields, (Curve("average", (0.0, 0.5, 1.0), (24.0, 19.0, 23.0)),),
        Alignment((layer,)), (), truth, ("front a", "rear b"), 12.0,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


class Shell(Field):
    """A sphere's shell, little more than a cell thick, with nothing beside it: as a ReLU does."""

    radius, thickness, peak = 0.6, 0.02, 150.0

    def __init__(self) -> None:
        super().__init__(TinyNerfConfig(), BOX)

    def raw(
        self, positions: torch.Tensor, directions: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        away = (positions.norm(dim=-1) - self.radius).abs()
        return self.peak * torch.relu(1 - 2 * away / self.thickness), torch.zeros_like(positions)

    def activate_density(self, raw: torch.Tensor) -> torch.Tensor:
        return raw


def plain(shade: int) -> np.ndarray:
    """A picture of one grey."""
    return np.full((16, 16, 3), shade, np.uint8)


def write_little_scene(path: Path) -> Path:
    """The robot at half its size, a fifth of its views, as a packed file: quick to learn and score.

    Returns:
        `path`.
    """
    scene = memonf.load_scene("embedded:robot")
    arrays: dict[str, Any] = {"aabb": scene.aabb.numpy()}
    for split in ("train", "test"):
        views = scene.split(split)[::5]
        bottom = np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(views), 1, 1))
        arrays[f"images_{split}"] = views.images[:, ::2, ::2].numpy()
        arrays[f"poses_{split}"] = np.concatenate(
            [views.cameras.camera_to_world.numpy(), bottom], 1
        )
        arrays["focal"] = float(views.cameras.intrinsics[0, 0]) / 2
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def little_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of `write_little_scene`."""
    return write_little_scene(tmp_path_factory.mktemp("little") / "robot.npz")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, started once."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Debian's chromium")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh page; `page.complaints` gathers errors of its console, `page.asked` all requests."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    opened.complaints, opened.asked = [], []
    opened.on("console", lambda m: opened.complaints.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("request", lambda request: opened.asked.append(request.url))
    yield opened
    context.close()
