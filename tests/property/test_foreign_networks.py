"""Networks that are not this project's own: their symmetry is what one would write by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from siren_pytorch import SirenNet
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from memonf.errors import InputError
from memonf.symmetry import Symmetry, find_symmetry, verify


class Script(nn.Module):
    """A NeRF as scripts write it: one joined input, split inside; a skip; three heads."""

    def __init__(self, depth: int = 6, width: int = 16, skip: int = 3) -> None:
        super().__init__()
        self.skip = skip
        columns = [9] + [width + 9 * (n == skip) for n in range(depth - 1)]
        self.points = nn.ModuleList([nn.Linear(c, width) for c in columns])
        self.alpha, self.feature = nn.Linear(width, 1), nn.Linear(width, width)
        self.views = nn.ModuleList([nn.Linear(width + 5, width // 2)])
        self.rgb = nn.Linear(width // 2, 3)

    def forward(self, joined: Tensor) -> Tensor:
        points, views = torch.split(joined, [9, 5], dim=-1)
        h = points
        for number, layer in enumerate(self.points):
            h = F.relu(layer(h))
            if number == self.skip:
                h = torch.cat([points, h], -1)
        alpha, h = self.alpha(h), torch.cat([self.feature(h), views], -1)
        for layer in self.views:
            h = F.relu(layer(h))
        return torch.cat([self.rgb(h), alpha], -1)


class Distances(nn.Module):
    """A decoder of signed distances: layer norms, a skip that keeps the variance, a tanh."""

    def __init__(self, *, weight_normed: bool) -> None:
        super().__init__()
        widths = [(7, 16), (16, 9), (16, 16), (16, 1)]
        self.layers = nn.ModuleList([nn.Linear(*w) for w in widths])
        self.norms = nn.ModuleList([nn.LayerNorm(w) for _, w in widths[:-1]])
        if weight_normed:
            for layer in self.layers[:-1]:
                weight_norm(layer)

    def forward(self, code_and_point: Tensor) -> Tensor:
        h = code_and_point
        for number, layer in enumerate(self.layers):
            if number == 2:
                h = torch.cat([h, code_and_point], 1) / 2**0.5
            h = layer(h)
            if number < 3:
                h = F.dropout(F.relu(self.norms[number](h)), p=0.2, training=self.training)
        return torch.tanh(h)


class Block(nn.Module):
    """A residual block that activates first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(size, size), nn.Linear(size, size)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        net = self.first(self.activation(x))
        return x + self.second(self.activation(net))


class Conditioned(nn.Module):
    """Residual blocks, to each of which a view of the image features is added."""

    def __init__(self) -> None:
        super().__init__()
        self.entry, self.out = nn.Linear(6, 12), nn.Linear(12, 4)
        self.blocks = nn.ModuleList([Block(12) for _ in range(3)])
        self.conditions = nn.ModuleList([nn.Linear(8, 12) for _ in range(2)])

    def forward(self, joined: Tensor) -> Tensor:
        features, points = joined[..., :8], joined[..., 8:]
        h = self.entry(points)
        for number, block in enumerate(self.blocks):
            if number < len(self.conditions):
                h = h + self.conditions[number](features)
            h = block(h)
        return self.out(F.relu(h))


class Geometry(nn.Module):
    """Density and geometry features from one layer; a colour network reads the features."""

    def __init__(self) -> None:
        super().__init__()
        self.sigma_net = nn.Sequential(
            nn.Linear(10, 16, bias=False), nn.ReLU(inplace=True), nn.Linear(16, 8, bias=False)
        )
        self.color_net = nn.ModuleList(
            [nn.Linear(7 + 4, 16, bias=False), nn.Linear(16, 16, bias=False),
             nn.Linear(16, 3, bias=False)]
        )  # fmt: skip

    def forward(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        encoded, directions = joined[..., :10], joined[..., 10:]
        h = self.sigma_net(encoded)
        sigma, features = torch.exp(h[..., 0]), h[..., 1:]
        h = torch.cat([directions, features], dim=-1)
        for number, layer in enumerate(self.color_net):
            h = layer(h)
            if number < len(self.color_net) - 1:
                h = F.relu(h, inplace=True)
        return sigma, torch.sigmoid(h)


class Around(nn.Module):
    """A network whose optional arguments are left out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def siren() -> nn.Module:
    """Three layers, ω 30 and then 5, and the package's own last layer."""
    return Around(SirenNet(3, 12, 2, num_layers=3, w0=5.0, w0_initial=30.0))


def baked() -> nn.Module:
    """The normed decoder with its weights made plain, as its refusal says."""
    network = Distances(weight_normed=True)
    for layer in network.layers[:-1]:
        parametrize.remove_parametrizations(layer, "weight")
    return network


#: Maker, columns of the input, {group: (size, kind)}.
NETWORKS: dict[str, tuple[Any, int, dict[str, tuple[int, str]]]] = {
    "siren-pytorch": (
        siren, 3, {f"network.layers.{n}": (12, "turn") for n in range(3)},
    ),
    "script": (
        Script, 14,
        {
            **{f"points.{n}": (16, "scale") for n in range(6)},
            "feature": (16, "linear"), "views.0": (8, "scale"),
        },
    ),
    "distances": (
        baked, 7,
        {"layers.0": (16, "scale"), "layers.1": (9, "scale"), "layers.2": (16, "scale")},
    ),
    "conditioned": (
        Conditioned, 14,
        {"entry": (12, "scale"), **{f"blocks.{n}.first": (12, "scale") for n in range(3)}},
    ),
    "geometry": (
        Geometry, 14,
        {
            "sigma_net.0": (16, "scale"), "sigma_net.2[1:8]": (7, "scale and sign"),
            "color_net.0": (16, "scale"), "color_net.1": (16, "scale"),
        },
    ),
}  # fmt: skip


def build(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    maker, columns, _ = NETWORKS[name]
    network = maker().eval()
    for key, tensor in network.state_dict().items():
        if "norms" in key:  # layer norms start out as nothing special; these do not
            tensor.copy_(0.5 + torch.rand(tensor.shape))
    return network, torch.rand(256, columns) * 2 - 1


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_as_by_hand(name: str) -> None:
    network, _ = build(name)
    groups = find_symmetry(network, "forward").groups
    assert {group.name: (group.size, group.kind) for group in groups} == NETWORKS[name][2]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_hold(name: str, seed: int) -> None:
    network, x = build(name)
    symmetry = find_symmetry(network, "forward")
    change = verify(network, symmetry, [x], method="forward", seed=seed)
    assert change.params > 0.1
    assert change.outputs < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_leaving_a_slice_out_is_seen(name: str) -> None:
    network, x = build(name)
    symmetry = find_symmetry(network, "forward")
    for group in symmetry.groups:
        for missing in group.slices:
            left = tuple(part for part in group.slices if part is not missing)
            broken = Symmetry(
                (dataclasses.replace(group, slices=left, gauges=()),), symmetry.graph, {}
            )
            change = verify(network, broken, [x], method="forward")
            assert change.outputs > 1e-5, str(missing)


def test_half_turns_of_the_package_follow_its_omega() -> None:
    network, _ = build("siren-pytorch")
    turns = [group.gauges[0].half_turn for group in find_symmetry(network, "forward").groups]
    assert turns == pytest.approx([torch.pi / 30, torch.pi / 5, torch.pi / 5])


def test_weight_norm_is_refused_with_a_way_out() -> None:
    with pytest.raises(
        InputError, match=r"field `Distances`: `layers.0` .*remove_param.*`distill`"
    ):
        find_symmetry(Distances(weight_normed=True), "forward")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.entry, self.cell, self.out = nn.Linear(3, 8), nn.GRU(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.cell(torch.relu(self.entry(x)))
        return self.out(h)


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.entry, self.out = nn.Linear(3, 8), nn.Linear(8, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.layer(self.entry(x[None]))[0]))


@pytest.mark.parametrize("maker", [Recurrent, Attentive])
def test_layers_that_are_not_known_fix_what_they_read(maker: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network, x = maker().eval(), torch.randn(64, 3)
    symmetry = find_symmetry(network, "forward")
    assert symmetry.groups == ()
    assert verify(network, symmetry, [x], method="forward").outputs == 0
