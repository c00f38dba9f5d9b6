"""Matchers are held to what they claim: nothing lost, nothing missed, whatever the order."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from conftest import ARCHITECTURES, BOX, outputs, relative_difference, small_field
from hypothesis import given, settings
from hypothesis import strategies as st

from memonf.errors import MergeError
from memonf.fields import Field, build_field, known
from memonf.fields.siren import SirenConfig
from memonf.io.checkpoint import content_hash
from memonf.matching import Matcher, Member, match_many, steps_between
from memonf.matching.activations import moments_between, similarity_of
from memonf.matching.agreement import Agreement
from memonf.matching.balance import balance
from memonf.matching.coordinate_descent import descend
from memonf.matching.frank_wolfe import relax
from memonf.matching.matcher import apply_steps
from memonf.merging import merge
from memonf.symmetry import Element, find_symmetry, random_element, transform


def changed(field: Field, seed: int) -> Field:
    """The same function with equivalent params: other order, scales, signs, turns and maps."""
    symmetry = find_symmetry(field)
    element = random_element(symmetry, torch.Generator().manual_seed(seed))
    twin = type(field)(field.config, field.aabb)
    twin.load_state_dict(transform(field.state_dict(), symmetry, element))
    twin.record = field.record
    return twin.eval()


def noisy(field: Field, noise: float, seed: int) -> Field:
    """The same field with noise of so many standard deviations of each tensor."""
    generator = torch.Generator().manual_seed(seed)
    twin = type(field)(field.config, field.aabb)
    state = {}
    for name, tensor in field.state_dict().items():
        noise_here = noise if name.endswith(("weight", "bias")) and tensor.numel() > 1 else 0.0
        drawn = torch.randn(tensor.shape, generator=generator)
        state[name] = tensor + (noise_here * tensor.std() * drawn if noise_here else 0)
    twin.load_state_dict(state)
    twin.record = field.record
    return twin.eval()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("method", ["weight_matching", "combined_matching"])
def test_a_field_with_equivalent_params_merges_with_itself(
    method: str, kind: str, seed: int
) -> None:
    field = small_field(kind)
    points = {"points": 1024} if method == "combined_matching" else {}
    merged = merge([field, changed(field, seed)], method, force=True, **points).field
    assert relative_difference(outputs(field), outputs(merged)) < 1e-5
    naive = merge([field, changed(field, seed)], "average", force=True).field
    assert relative_difference(outputs(field), outputs(naive)) > 0.01


@pytest.mark.parametrize("noise", [0.7, 1.0])
def test_a_siren_is_recovered_under_noise(noise: float) -> None:
    field = build_field("siren", SirenConfig(width=64), BOX, seed=1)
    symmetry = find_symmetry(field)
    planted = symmetry.random(torch.Generator().manual_seed(3))
    b = transform(noisy(field, noise, 2).state_dict(), symmetry, Element(planted))

    def recovered(solver: str) -> float:
        perms = Matcher(solver=solver).match(symmetry, field.state_dict(), b).perms
        hits = [planted[name][perms[name]] == torch.arange(64) for name in planted]
        return float(torch.cat(hits).float().mean())

    assert recovered("best") >= 0.95
    assert recovered("auto") >= 0.95
    assert recovered("descent") < 0.5  # one group after another does not get there


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.sampled_from(list(ARCHITECTURES)), st.integers(0, 10_000), st.booleans())
def test_best_is_never_below_either_solver(kind: str, seed: int, scales: bool) -> None:
    a, b = (small_field(kind, seed + place).state_dict() for place in (0, 1))
    symmetry = find_symmetry(small_field(kind))
    matcher = Matcher(solver="best", scales=scales, seed=seed)
    ours, theirs = (matcher.balanced(symmetry, params)[1] for params in (a, b))
    agreement = matcher.agreement(symmetry, ours, theirs)
    best = matcher.solve(agreement).objective
    descended, _ = descend(agreement, agreement.identity(), torch.Generator().manual_seed(seed))
    relaxed, _ = descend(
        agreement, relax(agreement, matcher.iterations), torch.Generator().manual_seed(seed)
    )
    slack = 1e-9 * agreement.bound
    for solver in ("auto", "descent", "frank_wolfe", "annealing"):
        alone = dataclasses.replace(matcher, solver=solver).solve(agreement)
        assert best >= alone.objective - slack
    assert best >= agreement.value(descended) - slack
    assert best >= agreement.value(relaxed) - slack
    assert best <= agreement.bound + slack


def test_each_step_of_a_descent_raises_the_agreement(kind: str) -> None:
    a, b = (small_field(kind, seed).state_dict() for seed in (1, 2))
    symmetry = find_symmetry(small_field(kind))
    agreement = Agreement.of_params(symmetry, a, b)
    placements = agreement.identity()
    before = agreement.value(placements)
    after, sweeps = descend(agreement, placements, torch.Generator().manual_seed(0))
    assert agreement.value(after) > before
    again, more = descend(agreement, after, torch.Generator().manual_seed(1))
    assert agreement.value(again) == pytest.approx(agreement.value(after))
    assert sweeps > 1
    assert more == 1


def test_restarts_never_lower_the_agreement() -> None:
    a, b = (small_field("tiny_nerf", seed).state_dict() for seed in (1, 2))
    symmetry = find_symmetry(small_field("tiny_nerf"))
    reached = [
        Matcher(solver="descent", restarts=count).match(symmetry, a, b).solution.objective
        for count in (0, 2, 6)
    ]
    assert reached == sorted(reached)


def test_matching_is_deterministic(kind: str) -> None:
    a, b = (small_field(kind, seed).state_dict() for seed in (1, 2))
    symmetry = find_symmetry(small_field(kind))
    one, other = (Matcher(restarts=1, seed=4).match(symmetry, a, b).apply(b) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_balance_leaves_the_function_and_is_unique(kind: str) -> None:
    field = small_field(kind)
    symmetry = find_symmetry(field)
    _, wide = balance(symmetry, field.state_dict())
    balanced = {name: wide[name].to(tensor.dtype) for name, tensor in field.state_dict().items()}
    before = outputs(field)
    # Equivalent params in the same order are balanced to the same params.
    element = random_element(symmetry, torch.Generator().manual_seed(5))
    only_scales = {
        group.name: {
            n: element.gauges[group.name][n]
            for n, gauge in enumerate(group.gauges) if gauge.kind == "scale"
        }
        for group in symmetry.groups
    }  # fmt: skip
    scaled = transform(field.state_dict(), symmetry, Element({}, only_scales))
    _, again = balance(symmetry, scaled)
    for name, tensor in balanced.items():
        torch.testing.assert_close(again[name].to(tensor.dtype), tensor, rtol=1e-4, atol=1e-5)
    field.load_state_dict(balanced)
    assert relative_difference(before, outputs(field)) < 1e-5
    for group in symmetry.groups:  # made and read weigh the same
        gauge = group.gauge("scale")
        if gauge is not None and group.gauge("sign") is None:
            weights = [
                sum(
                    balanced[p.tensor].double().movedim(p.axis, 0)[p.start : p.stop]
                    .reshape(group.size, -1).square().sum(1)
                    for p in parts
                )
                for parts in (gauge.rows, gauge.columns)
            ]  # fmt: skip
            feeds_map = any(g.gauge("linear") for g in symmetry.groups)
            if not feeds_map:
                torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("method", ["weight_matching", "activation_matching", "combined_matching"])
def test_the_order_of_many_parents_does_not_matter(method: str) -> None:
    field = small_field("tiny_nerf")
    field.record = dataclasses.replace(field.record, knowledge=known(field))
    parents = [noisy(changed(field, seed), 0.2, seed) for seed in range(4)]
    points = {} if method == "weight_matching" else {"points": 512}
    shares = [0.4, 0.3, 0.2, 0.1]
    found = [
        outputs(
            merge(
                [parents[n] for n in order], method, force=True,
                coefficients=[shares[n] for n in order], **points,
            ).field
        )
        for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0))
    ]  # fmt: skip
    for other in found[1:]:
        assert relative_difference(found[0], other) < 1e-4


def test_equivalent_params_of_one_field_merge_to_it(kind: str) -> None:
    field = small_field(kind)
    parents = [field, *(changed(field, seed) for seed in range(3))]
    merged = merge(parents, "weight_matching", force=True).field
    assert relative_difference(outputs(field), outputs(merged)) < 1e-5


def test_ways_between_parents_close_in_circles() -> None:
    symmetry = find_symmetry(small_field("nerf"))
    params = [small_field("nerf", seed).state_dict() for seed in (1, 2, 3)]
    ways, _ = match_many(symmetry, 3, lambda n: Member(params[n]), Matcher())
    for a, b, c in itertools.permutations(range(3)):
        direct = apply_steps(params[a], symmetry, steps_between(symmetry, ways[a], ways[c]))
        half = apply_steps(params[a], symmetry, steps_between(symmetry, ways[a], ways[b]))
        round_about = apply_steps(half, symmetry, steps_between(symmetry, ways[b], ways[c]))
        for name, tensor in direct.items():
            torch.testing.assert_close(round_about[name], tensor, rtol=1e-3, atol=1e-4)


def test_one_parent_given_twice_among_others_keeps_its_bytes() -> None:
    field = small_field("tiny_nerf")
    merged = merge([field, field], "weight_matching", force=True).field
    assert content_hash(merged) == content_hash(field)


@pytest.mark.parametrize("dead", ["feature", "view_layers.0"])
def test_layers_that_do_nothing_do_not_break_balance(dead: str) -> None:
    field = small_field("nerf")
    with torch.no_grad():
        field.get_submodule(dead).weight.zero_()
        field.get_submodule(dead).bias.zero_()
    merged = merge([field, changed(field, 1)], "weight_matching", force=True).field
    assert relative_difference(outputs(field), outputs(merged)) < 1e-4


def test_sines_without_biases_are_recovered_from_equivalent_params() -> None:
    field = small_field("siren")
    with torch.no_grad():
        for layer in field.layers:
            layer.bias.zero_()
    merged = merge([field, changed(field, 2)], "weight_matching", force=True).field
    assert relative_difference(outputs(field), outputs(merged)) < 1e-5


def test_repair_of_sines_corrects_what_the_layer_makes() -> None:
    """Equivalent params of nearly one field, repaired from either side, are one function."""
    parents = [noisy(changed(small_field("siren"), seed), 0.05, seed) for seed in (1, 2)]
    one, other = (
        outputs(merge(pair, "weight_matching_repair", force=True, points=1024).field)
        for pair in (parents, parents[::-1])
    )
    assert relative_difference(one, other) < 1e-4


def test_units_that_never_change_are_like_no_other() -> None:
    still = torch.full((64, 2), 0.3)
    moving = torch.stack([torch.full((64,), 0.7), torch.linspace(-1, 1, 64)], 1)
    alike = similarity_of(moments_between(still, moving, None), "correlation")
    assert alike.abs().max() == 0


def test_params_that_are_not_float32_are_refused_by_name() -> None:
    field = small_field("tiny_nerf")
    with pytest.raises(MergeError, match=r"parent 1: .* is torch.float64"):
        merge([field.double(), small_field("tiny_nerf", 1)], "average")
