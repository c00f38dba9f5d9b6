"""Every merge method is held to what it claims."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys

import pytest
import torch
from conftest import BOX, outputs, relative_difference, small_field

from memonf.checkpoint import content_hash
from memonf.errors import InputError, MergeError
from memonf.fields import build_field
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.matching import best_permutation, match_activations, match_params
from memonf.matching.activations import cross_moments
from memonf.matching.weights import objective
from memonf.merging import METHODS
from memonf.merging import merge as merge_checked
from memonf.merging.base import MergeProblem
from memonf.merging.parents import Parents
from memonf.merging.repair import repair, statistics_of
from memonf.merging.weight_matching import align_by_weights
from memonf.symmetry import find_symmetry, permute

#: Random fields are of no common scene, and would be refused.
merge = functools.partial(merge_checked, force=True)
#: Few points keep the tests fast.
POINTS = 1024


def settings(method: str) -> dict[str, int]:
    if method == "distill":
        return {"steps": 3, "rays": 128}
    if method == "gauss_newton":
        return {"rays": 512, "iterations": 2}
    return {"points": POINTS} if METHODS[method].needs_positions else {}


@pytest.fixture(params=list(METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def test_claims_are_stated(method: str) -> None:
    cls = METHODS[method]
    assert cls.summary
    assert "arXiv" in cls.paper
    assert cls.__doc__


def test_merging_a_field_with_itself_gives_the_field(method: str, kind: str) -> None:
    if not METHODS[method].idempotent:
        pytest.skip(f"{method} does not claim it")
    field = small_field(kind)
    merged = merge([field, copy.deepcopy(field)], method, **settings(method)).field
    repaired = method.endswith("_repair") or method == "least_squares"
    if repaired and "batch_norm" in kind:
        pytest.skip("re-estimated running statistics are those of the points, not of training")
    limit = 1e-3 if repaired else 1e-6
    assert relative_difference(outputs(field), outputs(merged)) < limit


def test_endpoints_are_the_parents_exactly(method: str, kind: str) -> None:
    parents = [small_field(kind, seed) for seed in (1, 2)]
    for index, coefficients in enumerate(([1.0, 0.0], [0.0, 1.0])):
        merged = merge(parents, method, coefficients=coefficients, **settings(method)).field
        assert content_hash(merged) == content_hash(parents[index])


def test_parents_stay_untouched_and_runs_agree(method: str, kind: str) -> None:
    parents = [small_field(kind, seed) for seed in (1, 2)]
    before = [content_hash(parent) for parent in parents]
    first = merge(parents, method, seed=5, **settings(method))
    second = merge(parents, method, seed=5, **settings(method))
    assert content_hash(first.field) == content_hash(second.field)
    assert [content_hash(parent) for parent in parents] == before
    assert first.field.parameter_count() == parents[0].parameter_count()
    assert first.report["parents"] == before


def test_symmetry_claim(method: str) -> None:
    if not METHODS[method].symmetric:
        pytest.skip(f"{method} does not claim it")
    parents = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    one = outputs(merge(parents, method, **settings(method)).field)
    other = outputs(merge(parents[::-1], method, **settings(method)).field)
    assert relative_difference(one, other) < 1e-3


def test_three_parents_merge(method: str) -> None:
    parents = [small_field("tiny_nerf", seed) for seed in (1, 2, 3)]
    result = merge(parents, method, coefficients=[0.5, 0.25, 0.25], **settings(method))
    assert result.field.record.lineage["coefficients"] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize("name", ["weight_matching", "activation_matching"])
def test_a_shuffled_self_is_recovered_exactly(name: str, kind: str) -> None:
    field = small_field(kind)
    shuffled = copy.deepcopy(field)
    symmetry = find_symmetry(field)
    planted = symmetry.random(torch.Generator().manual_seed(7))
    shuffled.load_state_dict(permute(field.state_dict(), symmetry, planted))
    alive = {group.name: torch.ones(group.size, dtype=torch.bool) for group in symmetry.groups}
    if name == "weight_matching":
        found = match_params(symmetry, dict(field.state_dict()), dict(shuffled.state_dict())).perms
    else:
        x = torch.rand(2048, 3) * 2 - 1
        d = torch.nn.functional.normalize(torch.randn(2048, 3), dim=-1)
        found = match_activations(symmetry, field, shuffled, [x, d])
        # Units that are silent at all points cannot be told apart by what they do.
        moments = cross_moments(symmetry, field, field, [x, d])
        alive = {group: found_moments.aa > 0 for group, found_moments in moments.items()}
        assert sum(int(mask.sum()) for mask in alive.values()) > 40
    for group in symmetry.groups:
        undone = planted[group.name][found[group.name]]
        mask = alive[group.name]
        assert torch.equal(undone[mask], torch.arange(group.size)[mask]), group.name
    merged = merge([field, shuffled], name).field
    assert relative_difference(outputs(field), outputs(merged)) < 1e-5
    assert (
        relative_difference(outputs(field), outputs(merge([field, shuffled], "average").field))
        > 0.01
    )


def test_biases_count() -> None:
    """Fields that differ in nothing but the order of their biases are told apart by them."""
    config = TinyNerfConfig(width=16, depth=1, frequencies=2)
    field = build_field("tiny_nerf", config, BOX)
    with torch.no_grad():
        field.layers[0].weight.fill_(0.1)
        field.head.weight.fill_(0.1)
        field.layers[0].bias.copy_(torch.linspace(-1, 1, 16))
    symmetry = find_symmetry(field)
    planted = {"layers.0": torch.randperm(16, generator=torch.Generator().manual_seed(1))}
    other = permute(field.state_dict(), symmetry, planted)
    found = match_params(symmetry, dict(field.state_dict()), other).perms["layers.0"]
    assert torch.equal(planted["layers.0"][found], torch.arange(16))


def test_weight_matching_never_ends_below_where_it_began(kind: str) -> None:
    a, b = small_field(kind, 1), small_field(kind, 2)
    symmetry = find_symmetry(a)
    params = [dict(field.state_dict()) for field in (a, b)]
    match = match_params(symmetry, *params)
    assert match.objective > match.initial
    permuted = permute(params[1], symmetry, match.perms)
    identity = symmetry.identity()
    assert objective(symmetry, params[0], permuted, identity) == pytest.approx(match.objective)


def test_best_permutation_by_hand() -> None:
    similarity = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    assert best_permutation(similarity).tolist() == [1, 2, 0]
    with pytest.raises(InputError, match="expected finite"):
        best_permutation(torch.full((2, 2), float("nan")))
    with pytest.raises(InputError, match="expected"):
        best_permutation(torch.zeros(2, 3))


def test_dead_units_do_not_break_activation_matching() -> None:
    fields = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    for field in fields:
        with torch.no_grad():
            field.layers[1].weight[:5] = 0
            field.layers[1].bias[:5] = -1.0
    merge(fields, "activation_matching_repair", points=POINTS)


@pytest.mark.parametrize("kind_", ["tiny_nerf", "tiny_nerf_skip", "nerf"])
def test_repair_reaches_its_targets(kind_: str) -> None:
    """After REPAIR every pre-activation has the averaged mean and standard deviation."""
    parents = Parents([small_field(kind_, seed) for seed in (1, 2)])
    problem = MergeProblem(parents, (0.7, 0.3), seed=0)
    positions = problem.positions(POINTS, 0.25, use_knowledge=True)
    aligned = list(align_by_weights(problem))
    merged = problem.field_with(repair(problem, aligned, positions))
    names = set(problem.symmetry.pre_activations.values())
    assert len(names) >= 3

    def statistics(field, trust):
        return statistics_of(problem.symmetry, field, positions.inputs, names, trust)

    reached = statistics(merged, torch.tensor([0.7, 0.3]) @ positions.trust)
    targets = [
        statistics(problem.field_with(params), trust)
        for params, trust in zip(aligned, positions.trust, strict=True)
    ]
    for name in names:
        for kind_of in (0, 1):
            expected = 0.7 * targets[0][name][kind_of] + 0.3 * targets[1][name][kind_of]
            torch.testing.assert_close(reached[name][kind_of], expected, rtol=1e-4, atol=1e-4)


def test_repair_reestimates_batch_norm() -> None:
    parents = [small_field("tiny_nerf_batch_norm", seed) for seed in (1, 2)]
    plain = merge(parents, "weight_matching").field.state_dict()
    repaired = merge(parents, "weight_matching_repair", points=POINTS).field.state_dict()
    for name in plain:
        statistics = "running" in name or name.endswith("num_batches_tracked")
        assert torch.equal(plain[name], repaired[name]) != statistics, name


def test_parents_that_do_not_fit_are_refused_by_name() -> None:
    field = small_field("tiny_nerf")
    with pytest.raises(MergeError, match="two or more parents, received 1"):
        merge([field], "average")
    with pytest.raises(MergeError, match="architecture `nerf`, parent 1 is `tiny_nerf`"):
        merge([field, small_field("nerf")], "average")
    with pytest.raises(MergeError, match="`batch_norm` is True, parent 1 has False"):
        merge([field, small_field("tiny_nerf_batch_norm")], "average")
    wide = build_field("tiny_nerf", TinyNerfConfig(width=25, depth=3, frequencies=4), BOX)
    with pytest.raises(MergeError, match="`width` is 25, parent 1 has 24"):
        merge([field, wide], "average")
    boxed = copy.deepcopy(field)
    boxed.aabb *= 2
    with pytest.raises(MergeError, match="the encodings differ with the box"):
        merge([field, boxed], "average")
    broken = copy.deepcopy(field)
    broken.head.bias.data[0] = float("nan")
    with pytest.raises(MergeError, match=r"parent 2: `head.bias` holds NaN"):
        merge([field, broken], "average")


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ([0.5], "expected 2, one a parent, received 1"),
        ([0.7, 0.7], "sum of 1, received 1.4"),
        ([-0.5, 1.5], r"numbers in \[0, 1\]"),
        ([float("nan"), 1.0], r"numbers in \[0, 1\]"),
    ],
)
def test_coefficients_that_weigh_nothing_are_refused(coefficients, message: str) -> None:
    fields = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    with pytest.raises(InputError, match=message):
        merge(fields, "average", coefficients=coefficients)


def test_unknown_names_get_the_nearest() -> None:
    fields = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    with pytest.raises(InputError, match="did you mean `weight_matching`"):
        merge(fields, "wieght_matching")
    with pytest.raises(InputError, match="unknown setting `pionts`; did you mean `points`"):
        merge(fields, "activation_matching", pionts=3)
    with pytest.raises(InputError, match="setting `points`"):
        merge(fields, "activation_matching", points=1)


def test_parents_that_know_nothing_are_refused() -> None:
    fields = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    with torch.no_grad():
        fields[1].head.weight.zero_()
        fields[1].head.bias.fill_(-50.0)
    with pytest.raises(MergeError, match="parent 2 knows nothing"):
        merge_checked(fields, "distill", steps=1)


def test_distilling_beats_its_start(robot) -> None:
    """A short distillation from images never seen is better than the merge it starts from."""
    from memonf.evaluation import evaluate
    from memonf.training import TrainSettings, train

    config = TinyNerfConfig(width=48, depth=3)
    parents = [
        train(
            robot, group=group, config=config,
            settings=TrainSettings(steps=150, rays=1024, seed=seed, grid=48),
        )
        for seed, group in enumerate(("front", "rear"))
    ]  # fmt: skip
    start = merge(parents, "activation_matching_repair", points=4096).field
    distilled = merge(parents, "distill", steps=80).field
    before, after = (evaluate(f, robot, most_views=6).psnr for f in (start, distilled))
    assert after > before + 1


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from conftest import small_field
from memonf.checkpoint import content_hash
from memonf.merging import merge
parents = [small_field("nerf", seed) for seed in (1, 2)]
print(content_hash(merge(parents, "activation_matching_repair", points=512).field))
"""


def test_results_do_not_depend_on_the_hash_seed() -> None:
    script = SCRIPT.format(tests=str(__import__("pathlib").Path(__file__).parents[1]))
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(hashes) == 1
