"""What single weight-space methods claim, against hand-made and brute-force answers."""

from __future__ import annotations

import copy
import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BOX, descendant, outputs, relative_difference, small_field

import memonf
from memonf.errors import MergeError
from memonf.experiment import CompareSettings
from memonf.fields import Field, build_field, known
from memonf.io.checkpoint import content_hash
from memonf.merging import METHODS, MergeProblem
from memonf.merging import merge as merge_checked
from memonf.merging.aligning import ByActivations
from memonf.merging.combining.fisher import fisher_of
from memonf.merging.combining.least_squares import layer_outputs
from memonf.merging.combining.regmean import NormalEquations, own_points
from memonf.merging.combining.task_vectors import agreeing, dropped, trimmed
from memonf.merging.parents import Parents
from memonf.merging.positions import Positions
from memonf.merging.unit_statistics import weighted_moments
from memonf.rendering.knowledge import SOLID_RESOLUTION
from memonf.training import INITIAL_PARAMS, SHARED_SEED, TrainSettings

merge = functools.partial(merge_checked, force=True)
POINTS = 1024
ANCESTOR_METHODS = [name for name in METHODS if METHODS[name].needs_ancestor]


@functools.cache
def knowing(kind: str, seed: int) -> Field:
    """A small field that has its knowledge recorded; not to be changed."""
    field = small_field(kind, seed)
    field.record = dataclasses.replace(field.record, knowledge=known(field))
    return field


def problem_of(kind: str, parents: int = 2) -> MergeProblem:
    return MergeProblem(Parents([knowing(kind, seed) for seed in range(1, 1 + parents)]))


# ── REPAIR in closed form ────────────────────────────────────────────────────────────────────────


def aligned_fields(problem: MergeProblem, positions: Positions) -> list[Field]:
    aligned = ByActivations().align(problem, positions)
    return [problem.field_with(params) for params in aligned.params]


def parent_moments(
    problem: MergeProblem, coefficients: tuple[float, ...], points: int
) -> tuple[list, list, torch.Tensor]:
    """Moments and pre-activations of the aligned parents, and the merge's weight of each point."""
    positions = problem.positions(points, 0.25, use_knowledge=True)
    aligned = aligned_fields(problem, positions)
    values = [dict(layer_outputs(field, positions)) for field in aligned]
    moments = [
        {name: weighted_moments(value, trust) for name, value in outputs_.items()}
        for outputs_, trust in zip(values, positions.trust, strict=True)
    ]
    weights = torch.tensor(coefficients) @ positions.trust
    return moments, values, weights


@pytest.mark.parametrize("kind_", ["tiny_nerf", "tiny_nerf_skip", "nerf"])
def test_closed_repair_restores_a_layer_whose_inputs_are_those_of_the_parents(kind_: str) -> None:
    """The first layer reads what the parents' first layers read: it reaches the targets exactly."""
    problem = problem_of(kind_)
    moments, _, weights = parent_moments(problem, (0.7, 0.3), POINTS)
    parents = list(problem.parents)
    method = "activation_matching_closed_repair"
    merged = merge(parents, method, coefficients=[0.7, 0.3], points=POINTS).field
    positions = problem.positions(POINTS, 0.25, use_knowledge=True)
    value = dict(layer_outputs(merged, positions))["layers.0"]
    for reached, one, other in zip(
        weighted_moments(value, weights), *(m["layers.0"] for m in moments), strict=True
    ):
        torch.testing.assert_close(reached, 0.7 * one + 0.3 * other, rtol=1e-4, atol=1e-4)


def test_closed_repair_scales_by_the_formula_of_variances_and_covariances() -> None:
    """All layers: the factor is Σ c σ over the deviation that the parents' moments foretell."""
    coefficients = (0.5, 0.3, 0.2)
    problem = problem_of("tiny_nerf", len(coefficients))
    moments, values, weights = parent_moments(problem, coefficients, POINTS)
    parents = list(problem.parents)
    chosen = {"coefficients": coefficients, "points": POINTS}
    plain = merge(parents, "activation_matching", **chosen).field
    merged = merge(parents, "activation_matching_closed_repair", **chosen).field
    shares = (weights / weights.sum()).double()
    for name in ("layers.0", "layers.1", "layers.2"):
        variance = torch.zeros(24, dtype=torch.float64)
        centred = [v[name].double() - shares @ v[name].double() for v in values]
        for i, c_i in enumerate(coefficients):
            for j, c_j in enumerate(coefficients):
                variance += c_i * c_j * (shares @ (centred[i] * centred[j]))
        target = sum(c * m[name][1] for c, m in zip(coefficients, moments, strict=True))
        expected = (target / variance.sqrt())[:, None] * plain.get_submodule(name).weight.double()
        torch.testing.assert_close(
            merged.get_submodule(name).weight.double(), expected, rtol=1e-3, atol=1e-5
        )
    assert torch.equal(merged.head.weight, plain.head.weight)


@pytest.mark.parametrize("kind_", ["tiny_nerf", "tiny_nerf_batch_norm"])
def test_closed_repair_never_runs_the_merged_field(kind_: str, monkeypatch) -> None:
    """Only parents are evaluated, each once in its aligned copy."""
    from memonf.merging.correcting import closed_repair

    seen: list[str] = []

    def noting(evaluate, place: int):
        def noted(*args):
            seen.append(content_hash(args[place]))
            return evaluate(*args)

        return noted

    monkeypatch.setattr(closed_repair, "record", noting(closed_repair.record, 1))
    monkeypatch.setattr(closed_repair, "run_through", noting(closed_repair.run_through, 0))
    problem = problem_of(kind_)
    positions = problem.positions(POINTS, 0.25, use_knowledge=True)
    aligned = aligned_fields(problem, positions)
    merge(list(problem.parents), "activation_matching_closed_repair", points=POINTS)
    assert seen == [content_hash(field) for field in aligned]


def test_closed_repair_widens_running_variances_by_no_more_than_the_parents() -> None:
    parents = [knowing("tiny_nerf_batch_norm", seed) for seed in (1, 2)]
    merged = merge(parents, "activation_matching_closed_repair", points=POINTS).field
    plain = merge(parents, "activation_matching", points=POINTS).field
    for name, value in merged.state_dict().items():
        if name.endswith("running_var"):
            # Units that are not one and the same lose variance, and none gains any (to speak of).
            assert (value < plain.state_dict()[name]).float().mean() > 0.9
            assert (value > 0).all()
        else:
            assert torch.equal(value, plain.state_dict()[name]), name


# ── RegMean ──────────────────────────────────────────────────────────────────────────────────────


def random_layers(count: int) -> list[torch.nn.Linear]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [torch.nn.Linear(7, 5) for _ in range(count)]


def test_regmean_solves_the_least_squares_problem_of_all_parents_data() -> None:
    generator = torch.Generator().manual_seed(1)
    coefficients = (0.6, 0.4)
    layers = random_layers(2)
    data = [torch.randn(50, 7, generator=generator) for _ in layers]
    system: NormalEquations | None = None
    for layer, inputs, share in zip(layers, data, coefficients, strict=True):
        ours = NormalEquations.of(layer, inputs, 1.0)
        system = system or NormalEquations(ours.gram * 0, ours.answers * 0)
        system.add(ours, share)
    assert system is not None
    merged = torch.nn.Linear(7, 5)
    system.solve(merged, ridge=1e-12)
    roots = [share**0.5 for share in coefficients]
    ones = [torch.cat([inputs, torch.ones(50, 1)], 1) for inputs in data]
    lhs = torch.cat([root * x for root, x in zip(roots, ones, strict=True)])
    rhs = torch.cat([root * layer(x) for root, layer, x in zip(roots, layers, data, strict=True)])
    expected = np.linalg.lstsq(lhs.numpy(), rhs.detach().numpy(), rcond=None)[0]
    found = torch.cat([merged.weight.mT, merged.bias[None]]).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_regmean_on_the_same_inputs_is_the_average() -> None:
    layers = random_layers(2)
    inputs = torch.randn(40, 7, generator=torch.Generator().manual_seed(2))
    for off_diagonal in (0.0, 0.9, 1.0):
        system = NormalEquations.of(layers[0], inputs, off_diagonal)
        system.add(NormalEquations.of(layers[1], inputs, off_diagonal), 1.0)
        merged = copy.deepcopy(layers[0])
        system.solve(merged, ridge=1e-9)
        average = (layers[0].weight + layers[1].weight) / 2
        torch.testing.assert_close(merged.weight, average, rtol=1e-4, atol=1e-5)


def test_regmean_without_off_diagonals_weighs_each_input_by_its_power() -> None:
    layers = random_layers(2)
    data = [torch.ones(3, 7), 2 * torch.ones(3, 7)]
    system = NormalEquations.of(layers[0], data[0], 0.0)
    system.add(NormalEquations.of(layers[1], data[1], 0.0), 1.0)
    merged = copy.deepcopy(layers[0])
    system.solve(merged, ridge=1e-12)
    expected = (layers[0].weight + 4 * layers[1].weight) / 5
    torch.testing.assert_close(merged.weight, expected)
    torch.testing.assert_close(merged.bias, (layers[0].bias + layers[1].bias) / 2)


def test_each_parents_own_points_are_those_drawn_from_it() -> None:
    problem = problem_of("tiny_nerf", 3)
    positions = problem.positions(90, 0.0, use_knowledge=False)
    parts = [own_points(positions, number).inputs[0] for number in range(3)]
    assert [len(part) for part in parts] == [30, 30, 30]
    assert torch.equal(torch.cat(parts), positions.inputs[0])


# ── Fisher ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind_", ["tiny_nerf_skip", "tiny_nerf_batch_norm", "nerf"])
def test_fisher_is_that_of_each_points_own_gradient(kind_: str, monkeypatch) -> None:
    monkeypatch.setattr("memonf.merging.combining.fisher.CHUNK", 5)
    problem = problem_of(kind_)
    positions = problem.positions(12, 0.25, use_knowledge=True)
    with torch.no_grad():
        found = fisher_of(problem.field_with(problem.params[1]), positions, 1)
    field = problem.field_with(problem.params[1])
    cell = 2.0 / SOLID_RESOLUTION
    expected = {name: torch.zeros_like(param) for name, param in field.named_parameters()}
    for point in range(12):
        one = positions.part(slice(point, point + 1))
        density, rgb = field.raw(*one.inputs)
        opacity = 1 - (-field.activate_density(density) * cell).exp()
        counts = [1.0, *[opacity.item()] * 3]
        for output, count in zip([opacity[0], *rgb.sigmoid()[0]], counts, strict=True):
            field.zero_grad()
            output.backward(retain_graph=True)
            for name, param in field.named_parameters():
                if param.grad is not None:
                    expected[name] += float(one.trust[1]) * count * param.grad.square() / 12
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].float(), value, rtol=1e-3, atol=1e-9)


def test_fisher_listens_to_the_parent_that_something_hangs_on() -> None:
    """Where one parent's params move no output, the other's are taken."""
    a, b = small_field("tiny_nerf", 1), small_field("tiny_nerf", 2)
    with torch.no_grad():
        b.head.weight[:] = 0
    settings = {"align": "none", "points": POINTS, "knowledge": False}
    merged = merge([a, b], "fisher", floor=1e-9, **settings).field
    part, ours = merged.layers[2].weight, a.layers[2].weight
    average = (ours + b.layers[2].weight) / 2
    taken = torch.isclose(part, ours, rtol=1e-3, atol=1e-4)
    assert float(taken.float().mean()) > 0.7
    # What no output hangs on, such as the inputs of a silent unit, stays averaged.
    averaged = torch.isclose(part, average, rtol=1e-3, atol=1e-4)
    assert float((taken | averaged).float().mean()) > 0.95
    assert averaged.any()
    # A floor above all information is the plain average.
    merged = merge([a, b], "fisher", floor=1e9, **settings).field
    assert relative_difference(outputs(merge([a, b], "average").field), outputs(merged)) < 1e-4


@pytest.mark.parametrize("align", ["weights", "activations"])
def test_fisher_aligns_as_the_method_of_the_name_does(align: str) -> None:
    parents = [knowing("tiny_nerf", seed) for seed in (1, 2)]
    name = {"weights": "weight_matching", "activations": "activation_matching"}[align]
    aligned = merge(parents, name, **({"points": POINTS} if align == "activations" else {})).field
    merged = merge(parents, "fisher", align=align, floor=1e9, points=POINTS).field
    assert relative_difference(outputs(aligned), outputs(merged)) < 1e-4


# ── Parents of one ancestor ──────────────────────────────────────────────────────────────────────


def ancestor_of(field: Field) -> Field:
    return build_field(field.name, field.config, BOX, seed=SHARED_SEED)


def test_task_arithmetic_steps_from_the_ancestor(kind: str) -> None:
    parents = [descendant(kind, seed) for seed in (1, 2)]
    ancestor = dict(ancestor_of(parents[0]).named_parameters())
    params = [dict(parent.named_parameters()) for parent in parents]
    coefficients = [0.7, 0.3]
    for strength in (0.0, 0.5, 1.0, 2.0):
        merged = merge(parents, "task_arithmetic", coefficients=coefficients, strength=strength)
        for name, value in merged.field.named_parameters():
            start = ancestor[name].double()
            change = 0.7 * (params[0][name] - start) + 0.3 * (params[1][name] - start)
            torch.testing.assert_close(value, (start + strength * change).float())
            if strength == 0:
                assert torch.equal(value, ancestor[name])
    average = merge(parents, "average", coefficients=coefficients).field
    whole = merge(parents, "task_arithmetic", coefficients=coefficients).field
    assert relative_difference(outputs(average), outputs(whole)) < 1e-6


def test_ties_trims_over_all_params_together() -> None:
    vector = {"a": torch.tensor([0.1, -5.0, 2.0]), "b": torch.tensor([[0.3, -0.2]])}
    left = trimmed(vector, 0.4)
    assert left["a"].tolist() == [0.0, -5.0, 2.0]
    assert left["b"].tolist() == [[0.0, 0.0]]
    assert trimmed(vector, 1.0) == vector


def test_ties_elects_signs_and_averages_those_that_agree(monkeypatch) -> None:
    a, b = descendant("tiny_nerf", 1), descendant("tiny_nerf", 2)
    ancestor = ancestor_of(a)
    with torch.no_grad():
        for field in (a, b):
            field.load_state_dict(ancestor.state_dict())
        a.layers[1].weight[0, :4] += torch.tensor([3.0, 2.0, 1.0, 4.0])
        b.layers[1].weight[0, :4] += torch.tensor([1.0, -5.0, 0.0, -4.0])
    merged = merge([a, b], "ties", keep=1.0).field
    change = (merged.layers[1].weight - ancestor.layers[1].weight)[0, :4]
    # both agree; the larger sum wins; one has no say; a draw moves nothing
    torch.testing.assert_close(change, torch.tensor([2.0, -5.0, 1.0, 0.0]))
    merged = merge([a, b], "ties", keep=1.0, coefficients=[0.8, 0.2], strength=0.5).field
    change = (merged.layers[1].weight - ancestor.layers[1].weight)[0, :4]
    torch.testing.assert_close(change, 0.5 * torch.tensor([2.6, 2.0, 1.0, 4.0]))


def test_entries_against_the_elected_sign_are_left_out() -> None:
    vector = {"a": torch.tensor([1.0, -2.0, 3.0])}
    elected = {"a": torch.tensor([0.5, 0.5, 0.0])}
    assert agreeing(vector, elected)["a"].tolist() == [1.0, 0.0, 0.0]


def test_dare_is_unbiased_and_drops_the_share() -> None:
    vector = {"a": torch.linspace(-1, 1, 100)}
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([dropped(vector, 0.8, generator)["a"] for _ in range(4000)])
    assert float((draws == 0).float().mean()) == pytest.approx(0.8, abs=0.01)
    torch.testing.assert_close(draws.mean(0), vector["a"], rtol=0, atol=0.15)
    kept = draws[0] != 0
    torch.testing.assert_close(draws[0][kept], vector["a"][kept] / (1 - 0.8))
    assert dropped(vector, 0.0, generator)["a"].equal(vector["a"])


def test_dare_drops_other_entries_of_each_parent_and_with_each_seed() -> None:
    parents = [descendant("tiny_nerf", seed) for seed in (1, 2)]
    hashes = {content_hash(merge(parents, "dare", drop=0.5, seed=seed).field) for seed in (0, 1, 0)}
    assert len(hashes) == 2
    ancestor = ancestor_of(parents[0]).layers[1].weight
    merged = merge(parents, "dare", drop=0.5).field.layers[1].weight
    # Both dropped an entry with probability a quarter, were their draws independent.
    assert float((merged == ancestor).float().mean()) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("name", ANCESTOR_METHODS)
def test_parents_without_a_common_ancestor_are_refused_by_name(name: str) -> None:
    one, other = descendant("tiny_nerf", 1), descendant("tiny_nerf", 2)
    stranger = small_field("tiny_nerf", 2)
    with pytest.raises(MergeError, match=r"parent 2: a field without a record .* `distill`"):
        merge([one, stranger], name)
    again = merge([one, other], "average").field
    with pytest.raises(MergeError, match="parent 1: a merged field without a record"):
        merge([again, one], name)
    training = other.record.training | {INITIAL_PARAMS: "0" * 64}
    other.record = dataclasses.replace(other.record, training=training)
    with pytest.raises(MergeError, match=r"parent 2: trained from params 000000000000"):
        merge([one, other], name)
    # A parent that has no say is not asked.
    merge([one, other, descendant("tiny_nerf", 3)], name, coefficients=[0.5, 0.0, 0.5])


def test_an_ancestor_may_come_from_its_file(tmp_path: Path) -> None:
    ancestor = small_field("tiny_nerf", 5)
    memonf.save(ancestor, tmp_path / "ancestor.safetensors")
    memonf.save(small_field("tiny_nerf", 6), tmp_path / "stranger.safetensors")
    parents = []
    for seed in (1, 2):
        parent = small_field("tiny_nerf", seed)
        training = {"initialization": "field", INITIAL_PARAMS: content_hash(ancestor)}
        parent.record = dataclasses.replace(parent.record, training=training)
        parents.append(parent)
    given = str(tmp_path / "ancestor.safetensors")
    merged = merge(parents, "task_arithmetic", ancestor=given, strength=0).field
    assert relative_difference(outputs(ancestor), outputs(merged)) < 1e-6
    with pytest.raises(MergeError, match=r"initial params drawn again: .*--ancestor FILE"):
        merge(parents, "task_arithmetic")
    with pytest.raises(
        MergeError, match=r"stranger.safetensors: params: expected hash .* parents were trained"
    ):
        merge(parents, "task_arithmetic", ancestor=str(tmp_path / "stranger.safetensors"))


def test_ancestors_of_older_files_and_of_independent_seeds_are_drawn_anew() -> None:
    parents = [descendant("tiny_nerf", seed) for seed in (1, 2)]
    whole = merge(parents, "ties").field
    for parent in parents:
        training = {"initialization": "shared"}  # before hashes were recorded
        parent.record = dataclasses.replace(parent.record, training=training)
    assert content_hash(merge(parents, "ties").field) == content_hash(whole)
    first = build_field("tiny_nerf", parents[0].config, BOX, seed=7)
    for parent in parents:
        training = {"initialization": "independent", "seed": 7, INITIAL_PARAMS: content_hash(first)}
        parent.record = dataclasses.replace(parent.record, training=training)
    merged = merge(parents, "task_arithmetic", strength=0.0).field
    assert torch.equal(merged.layers[1].weight, first.layers[1].weight)
    for parent in parents:
        training = {"initialization": "independent", "seed": 7}  # nothing to check it by
        parent.record = dataclasses.replace(parent.record, training=training)
    with pytest.raises(MergeError, match="without a record"):
        merge(parents, "task_arithmetic")


def test_a_comparison_of_independent_parents_leaves_out_what_needs_an_ancestor() -> None:
    names = {
        initialization: CompareSettings(
            "x", methods=("all",), train=TrainSettings(initialization=initialization)
        ).method_names()
        for initialization in ("shared", "independent")
    }
    assert set(names["shared"]) == {name for name in METHODS if METHODS[name].listed}
    assert set(names["shared"]) - set(names["independent"]) == set(ANCESTOR_METHODS)
