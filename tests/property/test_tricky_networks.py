"""What authors of networks write: either the outputs hold under a random element, or a refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from memonf.errors import InputError
from memonf.symmetry import Symmetry, find_symmetry, verify


@fx.wrap
def relu(value: Tensor) -> Tensor:
    """No ReLU at all: somebody's own function that only bears the name."""
    return value.cumsum(-1)


class Tricky(nn.Module):
    """A bag of layers and params; `raw` is the case's own."""

    def __init__(self, case: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.case = case
        self.a, self.a2 = nn.Linear(3, 8), nn.Linear(3, 8)
        self.b, self.b2, self.narrow = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(3, 1)
        self.wide, self.from4 = nn.Linear(11, 8), nn.Linear(4, 8)
        self.out, self.out4, self.out16 = nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(16, 4)
        self.again = self.out_again = None
        self.ln, self.bn = nn.LayerNorm(8), nn.BatchNorm1d(8)
        self.plain_bn = nn.BatchNorm1d(8, affine=False)
        self.bare = nn.Linear(3, 8, bias=False)
        self.inplace = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.p, self.q = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.rand(1, 8) + 0.5)
        self.square, self.number = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.rand(1))
        self.column = nn.Parameter(torch.rand(64, 1))
        self.vector = nn.Parameter(torch.randn(8))
        self.register_buffer("kept", torch.rand(8) + 0.5)
        self.register_buffer("dropped", torch.rand(8) + 0.5, persistent=False)
        self.register_buffer("mask", torch.arange(8) % 3 > 0)
        self.plain = torch.rand(8) + 0.5
        self.bn.running_mean.copy_(torch.randn(8))
        self.bn.running_var.copy_(torch.rand(8) + 0.5)
        self.plain_bn.load_state_dict(
            {k: v for k, v in self.bn.state_dict().items() if k not in ("weight", "bias")}
        )
        for norm in (self.ln, self.bn):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)

    def raw(self, x: Tensor) -> Any:
        return self.case(self, x)


def statement(change: Callable[[Any, Tensor], Any], *, after: bool = True) -> Callable[..., Any]:
    """h = a(x); change(h); then h itself is read, not what the change returned."""

    def case(n: Any, x: Tensor) -> Tensor:
        h = n.a(x)
        changed = change(n, h)
        return n.out(h) if after else n.out(h + changed)

    return case


def augmented(n: Any, x: Tensor) -> Tensor:
    h = torch.tanh(n.a(x))
    skip = h
    h += n.a2(x)
    return n.out(h) + n.out(torch.relu(n.b(skip)))


def augmented_product(n: Any, x: Tensor) -> Tensor:
    h = n.a(x)
    skip = h
    h *= 3
    return n.out(torch.sin(skip)) + h.sum(-1, keepdim=True)


def view_changed(n: Any, x: Tensor) -> Tensor:
    h = n.a(x)
    part = h[..., :4]
    part.relu_()
    return n.out(h)


def base_changed(n: Any, x: Tensor) -> Tensor:
    h = n.a(x)
    part = h[..., :4]
    h.relu_()
    return n.out4(part)


def argument_changed(n: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y.add_(n.a(x)[..., :3])
    return n.out(n.a2(y))


def gain_changed(n: Any, x: Tensor) -> Tensor:
    z = n.a(x)
    z.mul_(2)
    return n.out(torch.sin(z))


def twice(activation: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def case(n: Any, x: Tensor) -> Tensor:
        h = activation(n.a(x))
        return n.out(activation(n.b(activation(n.b(h)))))

    return case


def dictionary(n: Any, x: Tensor) -> dict[str, Tensor]:
    h = torch.relu(n.a(x))
    return {"density": n.out(h)[..., 0], "feature": h[..., 2:5]}


CASES: dict[str, Callable[[Any, Tensor], Any]] = {
    # changes in place
    "relu_ as a statement": statement(lambda n, h: h.relu_()),
    "torch.relu_": statement(lambda n, h: torch.relu_(h)),
    "F.relu inplace": statement(lambda n, h: F.relu(h, inplace=True)),
    "F.relu inplace by place": statement(lambda n, h: F.relu(h, True)),
    "nn.ReLU inplace": statement(lambda n, h: n.inplace(h)),
    "inplace and result": statement(lambda n, h: n.inplace(h), after=False),
    "add_ as a statement": statement(lambda n, h: h.add_(n.p)),
    "mul_ as a statement": statement(lambda n, h: h.mul_(n.p)),
    "clamp_": statement(lambda n, h: h.clamp_(min=0)),
    "sin_": statement(lambda n, h: h.sin_()),
    "out=": statement(lambda n, h: torch.abs(n.b(h), out=h)),
    "copy_": statement(lambda n, h: h.copy_(torch.relu(n.b(h)))),
    "dropout then inplace": statement(lambda n, h: n.inplace(n.dropout(h))),
    "h += g": augmented,
    "h *= 3": augmented_product,
    "view changed": view_changed,
    "base changed": base_changed,
    "argument changed": argument_changed,
    "mul_ before sin": gain_changed,
    "chained": lambda n, x: n.out(n.a(x).relu_().mul_(2).add_(1)),
    # methods, functions and their arguments by name
    "h.relu()": lambda n, x: n.out(n.a(x).relu()),
    "h.mul(2)": lambda n, x: n.out(n.a(x).mul(2).sin()),
    "sin of nothing": lambda n, x: n.out((0.0 * n.a(x)).sin()),
    "cat by name": lambda n, x: n.wide(torch.cat(tensors=[n.a(x), x], dim=-1)),
    "cat axis": lambda n, x: n.wide(torch.cat([n.a(x), x], axis=-1)),
    "concat": lambda n, x: n.wide(torch.concat([n.a(x).relu(), x], dim=1)),
    "leaky by name": lambda n, x: n.out(F.leaky_relu(n.a(x), negative_slope=0.3)),
    "linear by name": lambda n, x: n.out(
        torch.relu(F.linear(input=x, weight=n.a.weight, bias=n.a.bias))
    ),
    "add alpha": lambda n, x: n.out(torch.add(n.a(x), n.a2(x), alpha=2).relu()),
    "add by name": lambda n, x: n.out(torch.add(input=n.a(x), other=n.a2(x)).relu()),
    "mul other by name": lambda n, x: n.out(torch.mul(n.a(x), other=n.a2(x))),
    "sub param alpha": lambda n, x: n.out(torch.sub(n.a(x), n.p, alpha=2)),
    "floor division": lambda n, x: n.out(torch.div(n.a(x), 0.1, rounding_mode="floor")),
    "split by name": lambda n, x: n.out4(
        torch.split(n.a(x), split_size_or_sections=[4, 4], dim=-1)[1]
    ),
    "split method by name": lambda n, x: n.out4(n.a(x).split(split_size=4, dim=1)[-1]),
    "chunk by name": lambda n, x: n.out4(n.a(x).chunk(chunks=2, dim=-1)[0].relu()),
    "function of that name": lambda n, x: n.out(relu(n.a(x))),
    # parts
    "cat of a split": lambda n, x: n.out(torch.cat(n.a(x).split(4, -1), -1)),
    "cat of some parts": lambda n, x: n.out4(torch.cat(n.a(x).split(2, -1)[1:3], -1)),
    "cat of reversed parts": lambda n, x: torch.tanh(torch.cat(n.a(x).chunk(2, -1)[::-1], -1)),
    "negative slice": lambda n, x: n.out4(n.a(x)[..., -4:].relu()),
    "negative number": lambda n, x: n.out(torch.relu(n.b(n.a(x)))) * n.a(x)[..., -1:],
    "strided": lambda n, x: n.out4(n.a(x)[..., ::2]),
    "list": lambda n, x: n.out4(n.a(x)[..., [1, 0, 5, 7]]),
    "mask": lambda n, x: n.a(x)[..., n.mask],
    "half by shape": lambda n, x: n.out4(n.a(x)[..., : n.a(x).shape[-1] // 2]),
    "first token": lambda n, x: n.out(n.b(n.a(x)[:, None])[:, 0]),
    "half of a third axis": lambda n, x: n.out(n.a(x[:, None])[:, :4])[:, 0],
    "one unit read": lambda n, x: n.out(torch.relu(n.a(x))) + n.a(x)[:, 3:4],
    "halves added": lambda n, x: n.out4(n.a(x)[..., :4].relu() + n.a(x)[..., 4:].relu()),
    "halves of sines": lambda n, x: (
        n.out4(torch.sin(n.a(x))[..., :4]) + n.from4(torch.sin(n.a(x))[..., 4:])[..., :4]
    ),
    "halves swapped and added": lambda n, x: n.out(
        n.a(x) + torch.cat([n.a(x)[..., 3:], n.a(x)[..., :3]], -1)
    ),
    "cat of points": lambda n, x: n.out(torch.cat([n.a(x), n.a2(x)], 0)),
    "cat of a middle axis": lambda n, x: torch.cat([n.a(x)[:, None], n.a2(x)[:, None]], 1),
    # other shapes
    "T": lambda n, x: torch.sigmoid((n.a(x).T * 2).T),
    "mT": lambda n, x: n.out(torch.matmul(n.a(x).mT.mT, n.square)),
    "data": lambda n, x: torch.sigmoid(n.a(x).data),
    "transpose": lambda n, x: n.a(x).transpose(0, 1).relu(),
    "reshape": lambda n, x: n.out4(n.a(x).reshape(-1, 4)),
    "unsqueeze": lambda n, x: n.out(n.a(x).unsqueeze(-1).squeeze(-1)),
    "permute": lambda n, x: n.a(x).permute(1, 0),
    "flatten": lambda n, x: n.a(x).flatten(),
    "stack": lambda n, x: n.out(torch.stack([n.a(x), n.a2(x)]).sum(0)),
    "repeat": lambda n, x: n.out16(n.a(x).repeat(1, 2)),
    "roll": lambda n, x: n.out(n.a(x).roll(1, -1)),
    "batch norm of samples": lambda n, x: n.out(n.bn(n.a(x[:8, None].expand(8, 8, 3)))),
    # broadcasting
    "gate of one unit": lambda n, x: n.out(n.a(x) * n.a2(x)[..., :1]),
    "own gate": lambda n, x: n.out(n.a(x) * n.a(x)[..., :1]),
    "narrow layer": lambda n, x: n.out(n.a(x) + n.narrow(x)),
    "narrow gate": lambda n, x: n.out(torch.relu(n.a(x)) * torch.sigmoid(n.narrow(x))),
    "narrow and the position": lambda n, x: n.out(n.a(n.narrow(x) + x).relu()),
    "number param": lambda n, x: n.out((n.a(x) * n.number).sin()),
    "number added": lambda n, x: n.out((n.a(x) + n.number).relu()),
    "param of points": lambda n, x: n.out(n.a(x) * n.column),
    "row param": lambda n, x: n.out(torch.relu(n.a(x) * n.q)),
    "param less units": lambda n, x: n.out(n.p - n.a(x)),
    "units by param": lambda n, x: n.out(n.a(x) / n.p),
    "param by units": lambda n, x: n.out(n.p / n.a(x).exp()),
    # shared weights
    "layer twice": twice(torch.relu),
    "layer twice, tanh": twice(torch.tanh),
    "layer twice, sine": twice(torch.sin),
    "layer on two things": lambda n, x: n.out(torch.relu(n.b(n.a(x))) + n.b(n.a2(x))),
    "layer on both": lambda n, x: n.out(torch.relu(n.a(x))) + n.out(torch.tanh(n.a2(x))),
    "layer on position and not": lambda n, x: n.out(
        n.b(n.a(x)).relu() + n.b(x.repeat(1, 3)[:, :8]).relu()
    ),
    "norm twice": lambda n, x: n.out(n.ln(torch.relu(n.b(n.ln(n.a(x)))))),
    "batch norm on two": lambda n, x: n.out(n.bn(n.a(x))) + n.out4(n.bn(n.a2(x))[..., :4]),
    "tied weights": lambda n, x: F.linear(torch.tanh(n.a(x)), n.a.weight.t()),
    "weight with another bias": lambda n, x: n.out(
        n.a(x).relu() + F.linear(x, n.a.weight, n.p).relu()
    ),
    "computed bias": lambda n, x: n.out(F.linear(x, n.a.weight, n.a.bias * 2).relu()),
    "computed weight": lambda n, x: n.out(F.linear(x, n.a.weight.abs()).relu() + n.a(x)),
    "penalty": lambda n, x: (n.out(n.a(x).relu()), n.a.weight[:3].sum()),
    "param returned": lambda n, x: (n.out(n.a(x) * n.p), n.p),
    "param squared": lambda n, x: n.out(n.a(x) * n.p * n.p),
    "param on two": lambda n, x: n.out(n.a(x) * n.p) + n.out4((n.a2(x).relu() * n.p)[..., :4]),
    "param added and multiplied": lambda n, x: n.out(torch.relu(n.a(x) * n.p + n.p)),
    "param of position": lambda n, x: n.out(n.a(x) * n.p) + (x * n.p[:3]).sum(-1, keepdim=True),
    "vector weight": lambda n, x: F.linear(n.a(x), n.vector),
    "exp of a param": lambda n, x: n.out(n.a(x) * n.p.exp() + n.p),
    # buffers and constants
    "buffer": lambda n, x: n.out(n.a(x) * n.kept),
    "buffer computed": lambda n, x: n.out(n.a(x) * n.kept + n.a2(x) * n.kept.exp()),
    "buffer not kept": lambda n, x: n.out(n.a(x) * n.dropped),
    "plain tensor": lambda n, x: n.out(n.a(x) * n.plain),
    "new tensor": lambda n, x: n.out(n.a(x) * torch.arange(1.0, 9.0)),
    "mask of units": lambda n, x: n.out(n.a(x).relu() * n.mask),
    # functions of several units
    "matmul with itself": lambda n, x: torch.matmul(n.a(x).T, n.a(x)),
    "einsum": lambda n, x: n.out(torch.einsum("ni,ij->nj", n.a(x), n.square)),
    "inner product": lambda n, x: torch.einsum("ni,ni->n", n.a(x), n.a2(x)),
    "mean": lambda n, x: n.out(n.a(x) - n.a(x).mean(-1, keepdim=True)),
    "sum": lambda n, x: torch.relu(n.a(x)).sum(-1),
    "max": lambda n, x: n.out(n.a(x)) * n.a(x).max(-1, keepdim=True).values,
    "softmax": lambda n, x: n.out(torch.softmax(n.a(x), -1)),
    "sort": lambda n, x: n.out(torch.sort(n.a(x), -1).values),
    "normalize": lambda n, x: n.out(F.normalize(n.a(x), dim=-1)),
    "comparison": lambda n, x: n.out((n.a(x) > 0) * n.a2(x)),
    "where": lambda n, x: n.out(torch.where(n.a(x) > 0, n.a(x), n.a2(x))),
    "maximum": lambda n, x: n.out(torch.maximum(n.a(x), n.a2(x))),
    "power": lambda n, x: n.out(n.a(x) ** 2 + 2.0 ** n.a2(x)),
    "functional norm": lambda n, x: n.out(F.layer_norm(n.a(x), (8,), n.p, n.p)),
    "dropout": lambda n, x: n.out(F.dropout(n.a(x), 0.5, training=False).relu()),
    # sines
    "two sines": lambda n, x: n.out(torch.sin(n.a(x))) + n.out4(torch.sin(2 * n.a(x))[..., :4]),
    "sines of one value": lambda n, x: (
        lambda z: n.out(torch.sin(z)) + n.out4(torch.sin(2 * z)[..., :4])
    )(n.a(x)),
    "sine and cosine": lambda n, x: (
        lambda z: n.out16(torch.cat([torch.sin(z), torch.cos(z)], -1))
    )(n.a(x)),
    "sine and batch norm": lambda n, x: n.out(n.plain_bn(torch.sin(n.a(x)))),
    "sine and shift": lambda n, x: n.out(torch.sin(n.a(x)) + n.p),
    "sine of a shift": lambda n, x: n.out(torch.sin(n.bare(x) + n.p)),
    "sine and its layer": lambda n, x: (lambda z: n.out(torch.sin(z) + z))(n.a(x)),
    # outputs
    "two outputs": lambda n, x: (n.out(n.a(x)), n.a(x)),
    "dictionary": dictionary,
    "position and unknown widths": lambda n, x: n.wide(
        torch.cat([n.a(x), x[..., :1], x[..., 1:]], -1)
    ),
    "norm of a join": lambda n, x: nn.functional.relu(
        n.wide(torch.cat([x, n.ln(torch.cat([x, n.a(x)[..., :5]], -1))], -1))
    ),
}  # fmt: skip


def hold(network: nn.Module, x: Tensor, method: str = "raw") -> Symmetry | None:
    """Demand that outputs hold under random elements, or a refusal that says what to do."""
    network = network.eval().double()
    try:
        symmetry = find_symmetry(network, method)
    except InputError as error:
        assert f"field `{type(network).__name__}`" in str(error)  # noqa: PT017
        assert "`distill` can merge it" in str(error)  # noqa: PT017
        return None
    for seed in range(4):
        change = verify(network, symmetry, [x], method=method, seed=seed)
        assert change.outputs < 1e-10, [str(group) for group in symmetry.groups]
    return symmetry


@pytest.mark.parametrize("name", CASES)
def test_outputs_hold_or_the_network_is_refused(name: str) -> None:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1)).double()
    hold(Tricky(CASES[name]), x)


def groups_of(name: str) -> dict[str, str]:
    return {group.name: group.kind for group in find_symmetry(Tricky(CASES[name])).groups}


def test_two_uses_of_a_layer_move_together() -> None:
    assert groups_of("layer twice") == {"a": "scale"}
    assert groups_of("layer twice, tanh") == {"a": "sign"}


def test_arguments_by_name_are_understood() -> None:
    assert groups_of("cat by name") == groups_of("cat axis") == {"a": "linear"}
    assert groups_of("linear by name") == {"a": "scale"}


def test_a_chain_in_place_is_followed() -> None:
    assert list(groups_of("chained")) == ["a"]


def test_a_gate_for_all_units_keeps_their_freedom() -> None:
    assert groups_of("narrow gate") == {"a": "scale"}


def test_a_gate_on_the_inputs_is_followed() -> None:
    network = Tricky(
        lambda n, x: (lambda h: n.wide(torch.cat([n.narrow(x).sigmoid() * x, h], -1)))(
            torch.relu(n.a(x))
        )
    )
    symmetry = hold(network, torch.randn(64, 3).double())
    assert symmetry is not None
    assert [group.name for group in symmetry.groups] == ["a"]


def test_joined_inputs_need_no_widths() -> None:
    network = Tricky(lambda n, x: n.out(torch.relu(n.a(torch.cat([x[..., :1], x[..., 1:]], -1)))))
    assert [group.name for group in find_symmetry(network).groups] == ["a"]


def test_one_layer_under_two_names_stays_as_it_is() -> None:
    network = Tricky(lambda n, x: n.out(torch.relu(n.again(torch.relu(n.a(x))))))
    network.again = network.b
    x = torch.randn(64, 3).double()
    symmetry = hold(network, x)
    assert symmetry is not None
    assert symmetry.groups == ()


def test_a_hooked_layer_stays_as_it_is() -> None:
    network = Tricky(lambda n, x: n.out(n.a(x)))
    network.a.register_forward_hook(lambda module, inputs, value: value.sort(-1).values)
    symmetry = hold(network, torch.randn(64, 3).double())
    assert symmetry is not None
    assert symmetry.groups == ()


def test_turns_survive_a_cut() -> None:
    def case(n: Any, x: Tensor) -> Tensor:
        first, second = torch.sin(2 * n.a(x)).chunk(2, -1)
        return n.out4(first) + n.from4(second)[..., :4]

    network = Tricky(case)
    gauges = [group.gauges[0] for group in find_symmetry(network).groups[:2]]
    assert [(gauge.kind, gauge.half_turn) for gauge in gauges] == [("turn", math.pi / 2)] * 2
    hold(network, torch.randn(64, 3).double())
