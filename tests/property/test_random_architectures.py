"""Networks drawn at random: what is found of them holds, and nothing can be left out of it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from memonf.errors import InputError
from memonf.symmetry import Group, Symmetry, find_symmetry, random_element, transform, verify

ACTIVATIONS = {
    "none": lambda z: z,
    "relu": torch.relu,
    "leaky": lambda z: F.leaky_relu(z, 0.1),
    "tanh": torch.tanh,
    "sine": lambda z: torch.sin(1.7 * z),
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
}
#: What can be done to one value, beside a dense layer.
UNARY = (
    "layer_norm", "plain_layer_norm", "batch_norm", "plain_batch_norm", "rms_norm", "units_scale",
    "units_shift", "number", "constant", "half", "other_half", "param_number", "negative",
)  # fmt: skip
#: What can be done to two.
BINARY = ("join", "sum", "product", "gate")


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a network: what it does, to which earlier values, with which layer."""

    kind: str
    reads: tuple[int, ...]
    detail: str = ""
    layer: int = -1


class Drawn(nn.Module):
    """A network that carries out a list of steps; value 0 is the position, 1 the direction."""

    def __init__(self, steps: list[Step], layers: list[nn.Module], heads: list[int]) -> None:
        super().__init__()
        self.steps, self.heads = steps, heads
        self.layers = nn.ModuleList(layers)

    def raw(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, ...]:
        values = [positions, directions]
        for step in self.steps:
            values.append(self.carry_out(step, [values[n] for n in step.reads]))
        head, *others = [self.layers[layer] for layer in self.heads]
        out = head(values[-1])
        return out[..., 0], out[..., 1:], *[other(values[-2]) for other in others]

    def carry_out(self, step: Step, inputs: list[Tensor]) -> Tensor:
        value = inputs[0]
        layer: Any = self.layers[step.layer] if step.layer >= 0 else None
        half = layer.size if isinstance(layer, Half) else 0
        simple = {
            "number": lambda: value * 0.7,
            "constant": lambda: value + 0.3,
            "negative": lambda: -value,
            "half": lambda: value[..., :half],
            "other_half": lambda: torch.split(value, [half, layer.rest], -1)[1],
            "join": lambda: torch.cat(inputs, -1),
            "sum": lambda: value + inputs[1],
            "product": lambda: value * inputs[1],
            "gate": lambda: value * torch.sigmoid(inputs[1]),
            "units_scale": lambda: value * layer.value,
            "param_number": lambda: value * layer.value,
            "units_shift": lambda: layer.value + value,
            "functional": lambda: F.linear(value, layer.weight, layer.bias),
            "activation": lambda: ACTIVATIONS[step.detail](value),
        }
        return simple[step.kind]() if step.kind in simple else layer(value)


class Param(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(0.5 + torch.rand(*shape))


class Half(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.size, self.rest = width // 2, width - width // 2


def layer_for(kind: str, width: int) -> nn.Module | None:
    """The layer that a step needs, with params and statistics that are nothing special."""
    makers = {
        "layer_norm": lambda: nn.LayerNorm(width),
        "plain_layer_norm": lambda: nn.LayerNorm(width, elementwise_affine=False),
        "batch_norm": lambda: nn.BatchNorm1d(width),
        "plain_batch_norm": lambda: nn.BatchNorm1d(width, affine=False),
        "rms_norm": lambda: nn.RMSNorm(width),
        "units_scale": lambda: Param(width),
        "units_shift": lambda: Param(1, width),
        "param_number": lambda: Param(1),
        "half": lambda: Half(width),
        "other_half": lambda: Half(width),
    }
    if kind not in makers:
        return None
    layer = makers[kind]()
    for name, tensor in layer.state_dict().items():
        if name in ("weight", "running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape))
        elif name in ("bias", "running_mean"):
            tensor.copy_(0.3 * torch.randn(tensor.shape))
    return layer


@st.composite
def networks(draw: st.DrawFn) -> Drawn:
    """Networks of one to five hidden layers with steps of all kinds between them."""
    torch.manual_seed(draw(st.integers(0, 9999)))
    steps: list[Step] = []
    layers: list[nn.Module] = []
    widths = [3, 3]

    def add(kind: str, reads: tuple[int, ...], width: int, detail: str = "",
            layer: nn.Module | None = None) -> int:  # fmt: skip
        if layer is not None:
            layers.append(layer)
        steps.append(Step(kind, reads, detail, len(layers) - 1 if layer is not None else -1))
        widths.append(width)
        return len(widths) - 1

    def dense(source: int, width: int) -> int:
        layer = nn.Linear(widths[source], width, bias=draw(st.sampled_from([True, True, False])))
        nn.init.normal_(layer.weight, std=1.3 / widths[source] ** 0.5)
        if layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.5)
        kind = draw(st.sampled_from(["dense", "dense", "functional"]))
        return add(kind, (source,), width, layer=layer)

    now = 0
    for _ in range(draw(st.integers(1, 5))):
        shared = [s for s in steps if s.kind in ("dense", "functional")
                  and layers[s.layer].in_features == widths[now]]  # fmt: skip
        if shared and draw(st.integers(0, 5)) == 0:
            step = draw(st.sampled_from(shared))
            steps.append(Step(step.kind, (now,), "", step.layer))
            widths.append(layers[step.layer].out_features)
            now = len(widths) - 1
        else:
            now = dense(now, draw(st.integers(3, 12)))
        for _ in range(draw(st.integers(0, 3))):
            choice = draw(st.sampled_from(["activation", "activation", "unary", "binary"]))
            if choice == "activation":
                name = draw(st.sampled_from(list(ACTIVATIONS)))
                now = add("activation", (now,), widths[now], name)
            elif choice == "unary":
                kind = draw(st.sampled_from(UNARY))
                width = widths[now]
                if "half" in kind and width < 4:
                    continue
                size = {"half": width // 2, "other_half": width - width // 2}.get(kind, width)
                now = add(kind, (now,), size, layer=layer_for(kind, width))
            else:
                kind = draw(st.sampled_from(BINARY))
                other = draw(st.integers(0, len(widths) - 1))
                width = widths[now]
                if kind == "gate":
                    other = dense(other, 1)
                elif kind == "join":
                    width += widths[other]
                    if width > 24:
                        continue
                elif widths[other] != width:
                    other = dense(other, width)
                now = add(kind, (now, other), width)
    # An activation, so that the outputs stay of order one.
    add("activation", (now,), widths[now], "tanh")
    heads = []
    for source, width in [(-1, 4), *[(-2, 2)] * draw(st.integers(0, 1))]:
        layers.append(nn.Linear(widths[source], width))
        nn.init.normal_(layers[-1].weight)
        heads.append(len(layers) - 1)
    return Drawn(steps, layers, heads).eval()


def arguments() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(2, 64, 3, generator=generator)
    return draw[0], draw[1]


class Raw(nn.Module):
    def __init__(self, network: Drawn) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        parts = self.network.raw(*inputs)
        return torch.cat([part.reshape(len(inputs[0]), -1) for part in parts], 1)


@torch.no_grad()
def outputs(network: Drawn, params: dict[str, Tensor]) -> Tensor:
    named = {f"network.{name}": tensor for name, tensor in params.items()}
    return functional_call(Raw(network), named, tuple(x.double() for x in arguments()))


def change(network: Drawn, params: dict[str, Tensor]) -> float:
    """Relative change of the outputs, in float64."""
    before = outputs(network, network.state_dict())
    return float((outputs(network, params) - before).norm() / before.norm())


def without(symmetry: Symmetry, group: Group, number: int) -> Symmetry:
    """The symmetry with only one group, and that without one of its slices and its gauges."""
    parts = group.slices[:number] + group.slices[number + 1 :]
    return dataclasses.replace(
        symmetry, groups=(dataclasses.replace(group, slices=parts, gauges=()),)
    )


def check(network: Drawn, number: int) -> None:
    try:
        symmetry = find_symmetry(network)
    except InputError as error:
        assert "field `Drawn`" in str(error)  # noqa: PT017
        assert "distill" in str(error)  # noqa: PT017
        return
    precise = copy.deepcopy(network).double()
    exact = verify(precise, symmetry, [x.double() for x in arguments()], seed=number)
    assert exact.outputs < 1e-9, (network.steps, [str(g) for g in symmetry.groups])
    assert verify(network, symmetry, arguments(), seed=number).outputs < 2e-5
    groups = [group for group in symmetry.groups if group.size > 1]
    if not groups:
        return
    group = groups[number % len(groups)]
    part = number // len(groups) % len(group.slices)
    state = precise.state_dict()
    # Whether the outputs depend on that slice at all: with other values in it.
    missing = group.slices[part]
    other = state[missing.tensor].clone()
    view = other.narrow(missing.axis, missing.start, group.size)
    view.copy_(view.roll(1, missing.axis) + torch.rand_like(view))
    if change(precise, {**state, missing.tensor: other}) > 1e-6:
        broken = without(symmetry, group, part)
        element = random_element(broken, torch.Generator().manual_seed(number))
        order = {group.name: torch.arange(group.size).roll(1)}
        element = dataclasses.replace(element, perms=order)
        assert change(precise, transform(state, broken, element)) > 1e-9, (
            network.steps, group, str(missing)
        )  # fmt: skip


@settings(deadline=None, max_examples=60, derandomize=True)
@given(networks(), st.integers(0, 99))
def test_what_is_found_of_a_random_network_holds(network: Drawn, number: int) -> None:
    check(network, number)
