"""Elements of the symmetry change params and not outputs; breaking any part of one is seen."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import outputs, relative_difference, small_field
from torch import nn

from memonf.errors import InputError
from memonf.symmetry import (
    Element,
    Gauge,
    Symmetry,
    find_symmetry,
    inverse,
    permute,
    random_element,
    transform,
    verify,
)


def permuted_outputs(kind: str, symmetry: Symmetry, seed: int) -> tuple[float, float]:
    """Relative change of (params, outputs) under a random element of the group."""
    field = small_field(kind)
    before_params = torch.cat([p.flatten() for p in field.state_dict().values()]).float()
    before = outputs(field)
    perms = symmetry.random(torch.Generator().manual_seed(seed))
    field.load_state_dict(permute(field.state_dict(), symmetry, perms))
    after_params = torch.cat([p.flatten() for p in field.state_dict().values()]).float()
    return (
        relative_difference(before_params, after_params),
        relative_difference(before, outputs(field)),
    )


@pytest.mark.parametrize("seed", range(3))
def test_permuting_changes_params_and_not_outputs(kind: str, seed: int) -> None:
    params, out = permuted_outputs(kind, find_symmetry(small_field(kind)), seed)
    assert params > 0.1
    assert out < 1e-5


def test_leaving_any_one_axis_out_is_seen(kind: str) -> None:
    symmetry = find_symmetry(small_field(kind))
    for number, group in enumerate(symmetry.groups):
        for missing in group.slices:
            left = tuple(part for part in group.slices if part is not missing)
            broken = dataclasses.replace(group, slices=left)
            groups = (*symmetry.groups[:number], broken, *symmetry.groups[number + 1 :])
            _, out = permuted_outputs(kind, dataclasses.replace(symmetry, groups=groups), seed=0)
            assert out > 1e-4, f"{group.name} without {missing}"


def arguments() -> tuple[torch.Tensor, torch.Tensor]:
    """Positions in the box and directions, as `raw` takes them."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(512, 3, generator=generator) * 2 - 1
    return positions, nn.functional.normalize(torch.randn(512, 3, generator=generator), dim=-1)


@pytest.mark.parametrize("seed", range(5))
def test_random_elements_change_params_and_not_outputs(kind: str, seed: int) -> None:
    field = small_field(kind)
    change = verify(field, find_symmetry(field), arguments(), seed=seed)
    assert change.params > 0.1
    assert change.outputs < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_the_inverse_takes_an_element_back(kind: str, seed: int) -> None:
    field = small_field(kind).double()
    symmetry, state = find_symmetry(field), field.state_dict()
    element = random_element(symmetry, torch.Generator().manual_seed(seed))
    there = transform(state, symmetry, element)
    back = transform(there, symmetry, inverse(element, symmetry))
    for name, tensor in state.items():
        torch.testing.assert_close(back[name], tensor, rtol=1e-9, atol=1e-9)


def gauged_outputs(kind: str, gauge: Gauge, group: int, number: int) -> float:
    """Relative change of outputs when one gauge of a group, maybe a broken one, is put to use."""
    field = small_field(kind)
    symmetry, before = find_symmetry(field), outputs(field)
    old = symmetry.groups[group]
    value = random_element(symmetry, torch.Generator().manual_seed(1)).gauges[old.name][number]
    if gauge.kind == "turn":  # one half turn each, this way or that
        value[:, 1] = 1.0 - 2.0 * (torch.arange(len(value)) % 2)
    gauges = (*old.gauges[:number], gauge, *old.gauges[number + 1 :])
    broken = dataclasses.replace(symmetry, groups=(dataclasses.replace(old, gauges=gauges),))
    element = Element({}, {old.name: {number: value}})
    field.load_state_dict(transform(field.state_dict(), broken, element))
    return relative_difference(before, outputs(field))


def gauges_of(kind: str) -> list[tuple[int, int, Gauge]]:
    """(group, gauge, gauge itself) of an architecture."""
    return [
        (group, number, gauge)
        for group, its in enumerate(find_symmetry(small_field(kind)).groups)
        for number, gauge in enumerate(its.gauges)
    ]


def test_leaving_any_slice_of_a_gauge_out_is_seen(kind: str) -> None:
    for group, number, gauge in gauges_of(kind):
        assert gauged_outputs(kind, gauge, group, number) < 1e-5
        for side in ("rows", "columns"):
            parts = getattr(gauge, side)
            for missing in parts:
                left = tuple(part for part in parts if part is not missing)
                broken = dataclasses.replace(gauge, **{side: left})
                out = gauged_outputs(kind, broken, group, number)
                assert out > 1e-4, f"{gauge.kind} of group {group} without {side} {missing}"


def test_half_a_wrong_turn_is_seen() -> None:
    turns = [(g, n, gauge) for g, n, gauge in gauges_of("siren") if gauge.kind == "turn"]
    assert len(turns) == 3
    for group, number, gauge in turns:
        assert gauged_outputs("siren", gauge, group, number) < 1e-5
        half = dataclasses.replace(gauge, half_turn=gauge.half_turn / 2)
        assert gauged_outputs("siren", half, group, number) > 1e-4


def test_every_hidden_unit_is_in_a_group(kind: str) -> None:
    field = small_field(kind)
    sizes = {group.name: group.size for group in find_symmetry(field).groups}
    linears = {n: m for n, m in field.named_modules() if isinstance(m, nn.Linear)}
    hidden = {n: m.out_features for n, m in linears.items() if "head" not in n}
    assert sizes == hidden


def test_kinds_are_read_off_the_activations() -> None:
    def kinds(kind: str) -> dict[str, str]:
        return {g.name: g.kind for g in find_symmetry(small_field(kind)).groups}

    assert set(kinds("tiny_nerf").values()) == {"scale"}
    assert set(kinds("tiny_nerf_tanh").values()) == {"sign"}
    assert set(kinds("tiny_nerf_batch_norm").values()) == {"sign and scale"}
    assert set(kinds("siren").values()) == {"turn"}
    assert kinds("nerf")["feature"] == "linear"


class Residual(nn.Module):
    """Two branches added: both must move in one order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 2)
        self.relu = nn.ReLU()

    def raw(self, x):
        hidden = self.relu(self.first(x))
        return self.out(self.relu(hidden + self.second(hidden)))


def test_sums_share_one_order() -> None:
    network = Residual()
    symmetry = find_symmetry(network)
    assert [group.size for group in symmetry.groups] == [8]
    x = torch.randn(64, 3)
    before = network.raw(x)
    perms = symmetry.random(torch.Generator().manual_seed(0))
    network.load_state_dict(permute(network.state_dict(), symmetry, perms))
    torch.testing.assert_close(network.raw(x), before, rtol=1e-5, atol=1e-6)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def raw(self, x):
        return self.layer(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="field `Branching`: its `raw` cannot be traced"):
        find_symmetry(Branching())


class Sorted(nn.Module):
    """Sorts its hidden units: their order can be seen, so none may move."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def raw(self, x):
        return self.out(torch.cumsum(self.layer(x), -1))


def test_units_that_an_unknown_function_reads_stay_fixed() -> None:
    assert find_symmetry(Sorted()).groups == ()
