"""Strangers' checkpoints: the field computes what their network did, and no code of theirs runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memonf
from memonf.cli import main
from memonf.errors import FieldFileError, InputError
from memonf.fields.classic_nerf import ClassicNerf
from memonf.io.importing import import_field, read_layers

SHARED = Path(os.environ.get("MEMONF_DATA", Path(__file__).parents[3] / "shared" / "data"))
KRRISH_FILE = SHARED / "pretrained_krrish94" / "lego-lowres" / "checkpoint199999.ckpt"
BOX = torch.tensor([[-1.5] * 3, [1.5] * 3])
WIDTH = 12


def encoded(values: Tensor, frequencies: int, include_input: bool = True) -> Tensor:
    """The encoding of all these code bases: from octave to octave, sines before cosines."""
    parts = [values] if include_input else []
    for octave in range(frequencies):
        parts += [(2.0**octave * values).sin(), (2.0**octave * values).cos()]
    return torch.cat(parts, -1)


class Yenchenlin(nn.Module):
    """Names and forward pass of yenchenlin/nerf-pytorch."""

    def __init__(self, depth: int = 4, frequencies: int = 3, skip: int = 1, views: bool = True):
        super().__init__()
        self.frequencies, self.skip, self.views = frequencies, skip, views
        inputs = 3 + 6 * frequencies
        self.pts_linears = nn.ModuleList(
            [nn.Linear(inputs, WIDTH)]
            + [nn.Linear(WIDTH + inputs * (i == skip), WIDTH) for i in range(depth - 1)]
        )
        if views:
            self.views_linears = nn.ModuleList([nn.Linear(WIDTH + 3 + 6 * 2, WIDTH // 2)])
            self.feature_linear = nn.Linear(WIDTH, WIDTH)
            self.alpha_linear = nn.Linear(WIDTH, 1)
            self.rgb_linear = nn.Linear(WIDTH // 2, 3)
        else:
            self.output_linear = nn.Linear(WIDTH, 5)

    def forward(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        inputs = encoded(positions, self.frequencies)
        hidden = inputs
        for index, layer in enumerate(self.pts_linears):
            hidden = layer(hidden).relu()
            if index == self.skip:
                hidden = torch.cat([inputs, hidden], -1)
        if not self.views:
            out = self.output_linear(hidden)
            return out[:, 3], out[:, :3]
        coloured = torch.cat([self.feature_linear(hidden), encoded(directions, 2)], -1)
        rgb = self.rgb_linear(self.views_linears[0](coloured).relu())
        return self.alpha_linear(hidden)[:, 0], rgb


class Krrish(nn.Module):
    """Names and forward pass of krrish94/nerf-pytorch, FlexibleNeRFModel."""

    def __init__(self, layers: int = 6, skip_every: int = 3, include_input: bool = True):
        super().__init__()
        self.include_input, self.skips = include_input, []
        inputs = 3 * include_input + 6 * 4
        self.layer1 = nn.Linear(inputs, WIDTH)
        self.layers_xyz = nn.ModuleList()
        for index in range(layers - 1):
            skips = index % skip_every == 0 and 0 < index != layers - 1
            self.skips += [index] * skips
            self.layers_xyz.append(nn.Linear(WIDTH + inputs * skips, WIDTH))
        self.layers_dir = nn.ModuleList([nn.Linear(WIDTH + 6 * 2, WIDTH // 2)])
        self.fc_alpha, self.fc_feat = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, WIDTH)
        self.fc_rgb = nn.Linear(WIDTH // 2, 3)

    def forward(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        inputs = encoded(positions, 4, self.include_input)
        hidden = self.layer1(inputs)
        for index, layer in enumerate(self.layers_xyz):
            if index in self.skips:
                hidden = torch.cat([hidden, inputs], -1)
            hidden = layer(hidden).relu()
        coloured = torch.cat([self.fc_feat(hidden).relu(), encoded(directions, 2, False)], -1)
        rgb = self.fc_rgb(self.layers_dir[0](coloured).relu())
        return self.fc_alpha(hidden)[:, 0], rgb


class NerfPl(nn.Module):
    """Names and forward pass of kwea123/nerf_pl."""

    def __init__(self) -> None:
        super().__init__()
        for index in range(1, 5):
            columns = 63 if index == 1 else WIDTH + 63 * (index == 3)
            setattr(self, f"xyz_encoding_{index}", nn.Sequential(nn.Linear(columns, WIDTH)))
        self.xyz_encoding_final = nn.Linear(WIDTH, WIDTH)
        self.dir_encoding = nn.Sequential(nn.Linear(WIDTH + 27, WIDTH // 2))
        self.sigma, self.rgb = nn.Linear(WIDTH, 1), nn.Sequential(nn.Linear(WIDTH // 2, 3))

    def forward(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        hidden = inputs = encoded(positions, 10)
        for index in range(1, 5):
            if index == 3:
                hidden = torch.cat([inputs, hidden], -1)
            hidden = getattr(self, f"xyz_encoding_{index}")(hidden).relu()
        final = torch.cat([self.xyz_encoding_final(hidden), encoded(directions, 4)], -1)
        return self.sigma(hidden)[:, 0], self.rgb(self.dir_encoding(final).relu())


def drawn(network: type[nn.Module], seed: int = 0, **config: object) -> nn.Module:
    torch.manual_seed(seed)
    return network(**config)


def assert_computes(field: ClassicNerf, network: nn.Module) -> None:
    """The field's density and colour at random places are those of the network."""
    generator = torch.Generator().manual_seed(1)
    positions = torch.rand(300, 3, generator=generator) * 3 - 1.5
    directions = nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=-1)
    with torch.no_grad():
        density, rgb = network(positions, directions)
        found = field(positions, directions)
        torch.testing.assert_close(found.density, density.relu(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.rgb, rgb.sigmoid(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(field.density(positions), found.density)


@pytest.mark.parametrize(
    "network",
    [
        drawn(Yenchenlin), drawn(Yenchenlin, depth=8, frequencies=10, skip=4),
        drawn(Yenchenlin, views=False),
    ],
)  # fmt: skip
def test_yenchenlin(network: nn.Module, tmp_path: Path) -> None:
    other = drawn(type(network), 1, views=network.views)
    content = {
        "global_step": 200000,
        "network_fn_state_dict": other.state_dict(),
        "network_fine_state_dict": network.state_dict(),
        "optimizer_state_dict": torch.optim.Adam(network.parameters()).state_dict(),
    }
    torch.save(content, tmp_path / "200000.tar")
    assert_computes(import_field(tmp_path / "200000.tar", BOX), network)
    assert_computes(import_field(tmp_path / "200000.tar", BOX, net="coarse"), other)


@pytest.mark.parametrize("include_input", [True, False])
def test_krrish94(include_input: bool, tmp_path: Path) -> None:
    network = drawn(Krrish, include_input=include_input)
    torch.save({"iter": 1, "model_coarse_state_dict": network.state_dict(),
                "model_fine_state_dict": None}, tmp_path / "c.ckpt")  # fmt: skip
    field = import_field(tmp_path / "c.ckpt", BOX)  # there is no fine net: the coarse one it is
    assert_computes(field, network)
    assert field.config.skips == (4,)
    assert field.config.include_direction is False


def test_nerf_pl(tmp_path: Path) -> None:
    network = drawn(NerfPl)
    state = {f"nerf_fine.{name}": value for name, value in network.state_dict().items()}
    state |= {f"nerf_coarse.{name}": value + 1 for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    assert_computes(import_field(tmp_path / "last.ckpt", BOX), network)


@pytest.mark.parametrize("views", [True, False])
def test_bmild(views: bool, tmp_path: Path) -> None:
    network = drawn(Yenchenlin, views=views)
    names = [f"pts_linears.{index}" for index in range(4)]
    names += ["feature_linear", "views_linears.0", "rgb_linear", "alpha_linear"] if views else [
        "output_linear"]  # fmt: skip
    state = network.state_dict()
    arrays = []
    for name in names:
        arrays += [state[f"{name}.weight"].T.numpy(), state[f"{name}.bias"].numpy()]
    listed = np.empty(len(arrays), dtype=object)
    listed[:] = arrays
    np.save(tmp_path / "model_200000.npy", listed, allow_pickle=True)
    assert_computes(import_field(tmp_path / "model_200000.npy", BOX), network)


def test_a_state_dict_whose_layers_are_named(tmp_path: Path) -> None:
    network = drawn(Yenchenlin)
    renamed = {
        f"module.net.{name.replace('pts_linears', 'body').replace('alpha_linear', 'sigma')}": value
        for name, value in network.state_dict().items()
    }
    torch.save(renamed, tmp_path / "net.pt")
    with pytest.raises(FieldFileError, match=r"`net.body.0.weight`.* are of no code base"):
        import_field(tmp_path / "net.pt", BOX)
    (tmp_path / "names.yaml").write_text(
        "trunk: [net.body.0, net.body.1, net.body.2, net.body.3]\n"
        "density: net.sigma\ncolour: net.rgb_linear\n"
        "feature: net.feature_linear\nview: [net.views_linears.0]\n"
    )
    layers = read_layers(tmp_path / "names.yaml")
    assert_computes(import_field(tmp_path / "net.pt", BOX, layers=layers), network)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trunk: a", "`trunk`: expected a list of layer names"),
        ("trunk: [a]\ndensity: b", "expected `trunk`, and `density` and `colour`"),
        ("trunks: [a]", "unknown key `trunks`: did you mean `trunk`"),
        ("- a", "expected a mapping"),
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['false']", "not valid YAML"),
        ("trunk: [[a]]\nboth: b", "expected a list of layer names"),
    ],
)
def test_broken_names_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_layers(tmp_path / "names.yaml")


def changed(change: Callable[[dict[str, Tensor]], object], folder: Path) -> Path:
    state = drawn(Yenchenlin).state_dict()
    change(state)
    torch.save({"network_fn_state_dict": state}, folder / "c.tar")
    return folder / "c.tar"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("alpha_linear.bias"), "`alpha_linear.bias` is missing"),
        (lambda s: s.update(extra=torch.zeros(2)), "`extra` is of no layer"),
        (lambda s: s.update({"pts_linears.0.weight": torch.zeros(WIDTH, 20)}), "6 L or 6 L \\+ 3"),
        (lambda s: s.update({"pts_linears.1.weight": torch.zeros(WIDTH, 99)}), "reads 99 values"),
        (lambda s: s.update({"pts_linears.1.weight": torch.zeros(5, WIDTH)}), "expected 12 rows"),
        (lambda s: s.update({"rgb_linear.bias": torch.full((3,), torch.nan)}), "NaN or infinity"),
        (lambda s: s.update({"rgb_linear.bias": torch.zeros(3, dtype=torch.int64)}), "real num"),
        (lambda s: s.update({"rgb_linear.weight": torch.zeros(3)}), "expected 2 dimensions"),
        (lambda s: s.clear(), "no tensor at all"),
    ],
)
def test_networks_that_cannot_be_taken_over(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(FieldFileError, match=message):
        import_field(changed(change, tmp_path), BOX)


class Evil:
    """What a malicious file would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.path}",))


def test_code_is_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"network_fn_state_dict": Evil(trap)}, tmp_path / "evil.tar")
    with pytest.raises(FieldFileError, match=r"asks for `(posix|nt).system`, which is code"):
        import_field(tmp_path / "evil.tar", BOX)
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Evil(trap)))
    with pytest.raises(FieldFileError):
        import_field(tmp_path / "evil.ckpt", BOX)
    listed = np.empty(2, dtype=object)
    listed[:] = [Evil(trap), 1]
    np.save(tmp_path / "evil.npy", listed, allow_pickle=True)
    with pytest.raises(FieldFileError, match=r"system`, which is code"):
        import_field(tmp_path / "evil.npy", BOX)
    assert not trap.exists()


def test_bombs_are_refused_before_they_go_off(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (64 << 20))
    with pytest.raises(FieldFileError, match="PyTorch does not compress"):
        import_field(tmp_path / "bomb.pt", BOX)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    content = changed(lambda _: None, tmp_path).read_bytes()
    cuts: Iterable[int] = (0, 1, 10, len(content) // 2, len(content) - 30)
    for cut in cuts:
        (tmp_path / "cut.tar").write_bytes(content[:cut])
        with pytest.raises(FieldFileError):
            import_field(tmp_path / "cut.tar", BOX)


@pytest.mark.skipif(not KRRISH_FILE.exists(), reason="the stranger's checkpoint is not at hand")
def test_the_verb_takes_over_a_real_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "theirs.safetensors"
    box = ["-1.5", "-1.5", "-1.5", "1.5", "1.5", "1.5"]
    assert main(["import", str(KRRISH_FILE), "--out", str(out)]) == 2
    assert "give --data, or --box" in capsys.readouterr().err
    arguments = ["--box", *box, "--near", "2", "--far", "6", "--out", str(out)]
    assert main(["import", str(KRRISH_FILE), *arguments]) == 0
    field = memonf.load(out)
    assert field.parameter_count() == 84548
    assert field.record.background == (1.0, 1.0, 1.0)
    # There is a lego in it: solid somewhere, empty in the corners.
    places = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        assert 0.02 < float((field.density(places) > 5).float().mean()) < 0.5
        assert float((field.density(BOX * 0.95)).max()) < 1
