"""Every merge method is held to what it claims."""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import math
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, BOX, descendant, outputs, relative_difference, small_field

import memonf
from memonf.errors import FieldFileError, InputError, MergeError
from memonf.fields import FIELDS, Field, build_field, known
from memonf.fields.nerf import NerfConfig
from memonf.fields.tiny_nerf import TinyNerf, TinyNerfConfig
from memonf.io.checkpoint import content_hash, load
from memonf.matching import Matcher, best_permutation, similarities
from memonf.matching.activations import cross_moments
from memonf.matching.agreement import Agreement
from memonf.merging import METHODS, MergeProblem, Merger
from memonf.merging import merge as merge_checked
from memonf.merging.aligning import ByWeights, Sampling
from memonf.merging.coefficients import Coefficients
from memonf.merging.correcting.repair import Repaired
from memonf.merging.parents import Parents
from memonf.merging.parts import Parts
from memonf.merging.unit_statistics import statistics_of
from memonf.rendering.knowledge import Knowledge, union
from memonf.symmetry import find_symmetry, permute

#: Random fields are of no common scene, and would be refused.
merge = functools.partial(merge_checked, force=True)
#: Few points keep the tests fast.
POINTS = 1024


@functools.cache
def with_knowledge(needs_ancestor: bool, kind: str, seed: int) -> Field:
    field = descendant(kind, seed) if needs_ancestor else small_field(kind, seed)
    field.record = dataclasses.replace(field.record, knowledge=known(field))
    return field


def knowing(
    kind: str = "tiny_nerf", seed: int = 1, method: str = "distill", **record: Any
) -> Field:
    """A small field that has its knowledge recorded, as trained fields have."""
    field = copy.deepcopy(with_knowledge(METHODS[method].needs_ancestor, kind, seed))
    field.record = dataclasses.replace(field.record, **record)
    return field


def parent_for(method: str, kind: str, seed: int = 0) -> Field:
    """A small field of the kind that the method takes."""
    return knowing(kind, seed, method)


def half_known(field: Field, side: int) -> Field:
    """The same field, for which only one half of the box was ever seen."""
    seen = field.record.knowledge
    views = seen.views.clone()
    half = len(views) // 2
    views[half * (1 - side) : half * (2 - side)] = 0
    knowledge = Knowledge(seen.aabb, views, seen.sides * (views > 0), seen.solid)
    field.record = dataclasses.replace(field.record, knowledge=knowledge)
    return field


def settings(method: str) -> dict[str, int]:
    if method == "distill":
        return {"steps": 3, "rays": 128}
    if method == "gauss_newton":
        return {"rays": 512, "iterations": 2}
    if method == "straight_through":
        return {"rays": 128, "steps": 3, "points": POINTS}
    if method == "sinkhorn_rebasin":
        return {"rays": 128, "steps": 5, "points": POINTS}
    return {"points": POINTS} if METHODS[method].needs_positions else {}


#: Methods that measure the running statistics of the merged field anew.
MEASURED = (
    "average_repair", "weight_matching_repair", "activation_matching_repair", "least_squares",
    "combined_matching_repair", "regmean", "fisher", "zipit", "straight_through",
    "sinkhorn_rebasin",
)  # fmt: skip


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
    field = parent_for(method, kind)
    merged = merge([field, copy.deepcopy(field)], method, **settings(method)).field
    measured = method in MEASURED
    repaired = method.endswith("_repair") or measured
    if measured and "batch_norm" in kind:
        pytest.skip("re-estimated running statistics are those of the points, not of training")
    limit = 1e-3 if repaired else 1e-6
    assert relative_difference(outputs(field), outputs(merged)) < limit


def test_endpoints_are_the_parents_exactly(method: str, kind: str) -> None:
    parents = [parent_for(method, kind, seed) for seed in (1, 2)]
    for index, coefficients in enumerate(([1.0, 0.0], [0.0, 1.0])):
        merged = merge(parents, method, coefficients=coefficients, **settings(method)).field
        assert content_hash(merged) == content_hash(parents[index])


@pytest.mark.parametrize("kind", ["tiny_nerf_skip", "nerf_batch_norm", "siren"])
def test_parents_stay_untouched_and_runs_agree(method: str, kind: str) -> None:
    parents = [parent_for(method, kind, seed) for seed in (1, 2)]
    before = [content_hash(parent) for parent in parents]
    first = merge(parents, method, seed=5, **settings(method))
    second = merge(parents, method, seed=5, **settings(method))
    assert content_hash(first.field) == content_hash(second.field)
    assert [content_hash(parent) for parent in parents] == before
    assert first.field.parameter_count() == parents[0].parameter_count()
    assert first.report["parents"] == before


@pytest.mark.parametrize("kind", ["tiny_nerf", "nerf", "siren"])
def test_symmetry_claim(method: str, kind: str) -> None:
    if not METHODS[method].symmetric:
        pytest.skip(f"{method} does not claim it")
    parents = [parent_for(method, kind, seed) for seed in (1, 2)]
    one = outputs(merge(parents, method, **settings(method)).field)
    other = outputs(merge(parents[::-1], method, **settings(method)).field)
    assert relative_difference(one, other) < 1e-3


def test_three_parents_merge(method: str) -> None:
    parents = [parent_for(method, "tiny_nerf", seed) for seed in (1, 2, 3)]
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
        found = Matcher().match(symmetry, field.state_dict(), shuffled.state_dict()).perms
    else:
        x = torch.rand(2048, 3) * 2 - 1
        d = torch.nn.functional.normalize(torch.randn(2048, 3), dim=-1)
        alike = similarities(symmetry, field, shuffled, [x, d])
        matcher = Matcher(solver="descent", activations=1.0)
        found = matcher.match(symmetry, field.state_dict(), shuffled.state_dict(), alike).perms
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
    found = Matcher().match(symmetry, field.state_dict(), other).perms["layers.0"]
    assert torch.equal(planted["layers.0"][found], torch.arange(16))


def test_weight_matching_never_ends_below_where_it_began(kind: str) -> None:
    a, b = (small_field(kind, seed).state_dict() for seed in (1, 2))
    symmetry = find_symmetry(small_field(kind))
    matcher = Matcher(scales=False)
    match = matcher.match(symmetry, a, b)
    assert match.solution.objective > match.solution.initial
    if kind == "siren":
        return  # half turns change the norm of the biases, which the objective takes into account
    # What it says it reached is what its params agree by, measured anew.
    agreement = Agreement.of_params(symmetry, a, match.apply(b), equal_tensors=True)
    assert agreement.value(agreement.identity()) == pytest.approx(
        match.solution.objective, rel=1e-5
    )


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
    problem = MergeProblem(parents)
    prepared = Parts(ByWeights(), correct=Repaired(), sampling=Sampling(POINTS)).prepare(problem)
    positions, aligned = prepared.aligned.sampled, list(prepared.aligned.params)
    merged = problem.field_with(prepared.merge(Coefficients((0.7, 0.3)))[0])
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
        ([0.5], "expected 2 numbers .one per parent., received 1"),
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
    with pytest.raises(MergeError, match="parent 2 has empty knowledge"):
        merge_checked(fields, "distill", steps=1)


def test_distilling_beats_its_start(robot) -> None:
    """A short distillation from images never seen is better than the merge it starts from."""
    from memonf.evaluation.evaluate import evaluate
    from memonf.training import TrainSettings, train

    config = TinyNerfConfig(width=48, depth=3)
    gains = []
    for pair in (0, 10):  # trainings this short are a matter of luck: two pairs
        parents = [
            train(
                robot, group=group, config=config,
                settings=TrainSettings(steps=150, rays=1024, seed=seed, grid=48),
            )
            for seed, group in enumerate(("front", "rear"), pair)
        ]  # fmt: skip
        start = merge(parents, "activation_matching_repair", points=4096).field
        distilled = merge(parents, "distill", steps=80).field
        before, after = (evaluate(f, robot, most_views=6).psnr for f in (start, distilled))
        gains.append(after - before)
    assert min(gains) > 0
    assert sum(gains) / len(gains) > 1


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from conftest import small_field
from memonf.io.checkpoint import content_hash
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


@pytest.mark.parametrize("name", ["distill", "gauss_newton"])
def test_two_parents_merge_to_the_same_bits_in_both_orders(name: str) -> None:
    a, b = knowing(seed=1), knowing(seed=2)
    one = merge([a, b], name, coefficients=[0.7, 0.3], **settings(name)).field
    other = merge([b, a], name, coefficients=[0.3, 0.7], **settings(name)).field
    swapped = merge([b, a], name, coefficients=[0.7, 0.3], **settings(name)).field
    assert content_hash(one) == content_hash(other)
    assert content_hash(one) != content_hash(swapped)


def test_a_merger_merges_the_same_and_aligns_nothing_twice(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = [parent_for(method, "tiny_nerf", seed) for seed in (1, 2)]
    shares = ([0.5, 0.5], [0.8, 0.2], [1.0, 0.0])
    plain = [merge(parents, method, coefficients=one, **settings(method)) for one in shares]
    merger = Merger(parents, method, force=True, **settings(method))
    found = [merger.at(shares[0])]
    # What was found serves from here on, except that a distillation may start from a merge.
    if not METHODS[method].function_space:
        monkeypatch.setattr(METHODS[method], "prepare", None)
        monkeypatch.setattr("memonf.merging.aligning.similarity.match_many", None)
    found += [merger.at(one) for one in shares[1:]]
    for kept, fresh in zip(found, plain, strict=True):
        assert content_hash(kept.field) == content_hash(fresh.field)
        assert kept.report.get("matching") == fresh.report.get("matching")


def test_the_parent_a_distillation_says_it_started_from_is_the_one() -> None:
    """From the best start, or told to start from that parent: the same bits, and no other's."""
    parents = [knowing(seed=1), knowing(seed=2)]
    best = merge(parents, "distill", **settings("distill"))
    chosen = best.report["distill"]["start_parent"]
    assert chosen in (0, 1)
    first = [parents[chosen], parents[1 - chosen]]
    told = merge(first, "distill", start="parent", **settings("distill"))
    other = merge(first[::-1], "distill", start="parent", **settings("distill"))
    assert told.report["distill"]["start_parent"] == 0
    assert content_hash(told.field) == content_hash(best.field)
    assert content_hash(other.field) != content_hash(best.field)


@pytest.mark.parametrize("name", ["distill", "gauss_newton"])
def test_three_parents_merge_to_the_same_bits_in_any_order(name: str) -> None:
    a, b, c = (knowing(seed=seed) for seed in (1, 2, 3))
    merged = {
        content_hash(merge(order, name, **settings(name)).field)
        for order in ([a, b, c], [c, a, b], [b, c, a], [c, b, a])
    }
    assert len(merged) == 1


def test_files_merge_like_fields_and_two_at_most_are_in_memory(
    method: str, tmp_path: Path, monkeypatch
) -> None:
    parents = [knowing(seed=seed, method=method) for seed in (1, 2, 3)]
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for parent, path in zip(parents, paths, strict=True):
        memonf.save(parent, path)
    loaded: list[weakref.ref[Field]] = []
    alive: list[int] = []

    def counting_load(path, device="cpu") -> Field:
        field = load(path, device)
        loaded.append(weakref.ref(field))
        if sum(one() is not None for one in loaded) > 2:
            gc.collect()  # a network in a reference cycle is let go of, but not gone
        alive.append(sum(one() is not None for one in loaded))
        return field

    monkeypatch.setattr("memonf.merging.parents.load", counting_load)
    from_files = merge(paths, method, **settings(method))
    assert len(loaded) > 3
    assert max(alive) == 2
    in_memory = merge(parents, method, **settings(method))
    assert content_hash(from_files.field) == content_hash(in_memory.field)
    assert from_files.report["parents"] == in_memory.report["parents"]
    assert torch.equal(
        from_files.field.record.knowledge.views, in_memory.field.record.knowledge.views
    )


#: Parents that no weight-space method can lay side by side, and the key that it complains of.
UNLIKE = {
    "width": ("tiny_nerf", ("tiny_nerf", TinyNerfConfig(width=16, depth=3, frequencies=4))),
    "depth": ("tiny_nerf", ("tiny_nerf", TinyNerfConfig(width=24, depth=2, frequencies=4))),
    "frequencies": ("tiny_nerf", ("tiny_nerf", TinyNerfConfig(width=24, depth=3, frequencies=2))),
    "batch_norm": ("tiny_nerf", ARCHITECTURES["tiny_nerf_batch_norm"]),
    "architecture": (
        "tiny_nerf", ("nerf", NerfConfig(width=24, depth=2, frequencies=4, view_width=12)),
    ),
}  # fmt: skip


@pytest.fixture(params=list(UNLIKE))
def unlike(request: pytest.FixtureRequest, monkeypatch) -> tuple[str, list[Field]]:
    kind, other = UNLIKE[request.param]
    monkeypatch.setitem(ARCHITECTURES, "other", other)
    stranger = small_field("other", seed=2)
    stranger.record = dataclasses.replace(stranger.record, knowledge=known(stranger))
    return request.param, [knowing(kind, seed=1), stranger]


def test_distill_takes_parents_of_any_kind_and_weight_space_names_it(unlike) -> None:
    key, parents = unlike
    for order in (parents, parents[::-1]):
        for name in METHODS:
            if METHODS[name].any_width and key == "width":
                merged = merge(order, name, **settings(name)).field
                assert merged.config == order[0].config
            elif not METHODS[name].any_architecture:
                with pytest.raises(MergeError, match=f"{key}.* merge them with `distill`"):
                    merge(order, name, **settings(name))
    before = [content_hash(parent) for parent in parents]
    like_the_largest = merge(parents, **settings("distill")).field
    largest = max(parents, key=lambda parent: parent.parameter_count())
    assert (like_the_largest.name, like_the_largest.config) == (largest.name, largest.config)
    chosen = {"width": 12, "depth": 2, "frequencies": 3, "view_width": 6, "batch_norm": True}
    student = merge(parents, student="nerf", student_config=chosen, **settings("distill")).field
    assert student.name == "nerf"
    assert student.config.as_dict() | chosen == student.config.as_dict()
    assert outputs(student).isfinite().all()
    assert [content_hash(parent) for parent in parents] == before


def test_a_student_of_another_kind_learns() -> None:
    parents = [knowing("tiny_nerf", 1), knowing("nerf", 1)]
    quality = [
        merge(
            parents, student="nerf", student_config={"width": 32, "depth": 3}, rays=256, steps=steps
        ).report["distill"]["psnr_against_parents"]
        for steps in (2, 50)
    ]  # fmt: skip
    assert quality[1] > quality[0] + 1


def test_parents_in_different_boxes_merge_into_the_box_of_both() -> None:
    a, b = small_field("tiny_nerf", 1), small_field("tiny_nerf", 2)
    b.aabb += torch.tensor([0.5, 0.0, -0.25])
    for field in (a, b):
        field.record = dataclasses.replace(field.record, knowledge=known(field))
    merged = merge([a, b], **settings("distill")).field
    expected = torch.tensor([[-1.0, -1.0, -1.25], [1.5, 1.0, 1.0]])
    assert torch.equal(merged.aabb, expected)
    together = union([a.record.knowledge, b.record.knowledge], expected)
    assert torch.equal(merged.record.knowledge.views, together.views)
    assert torch.equal(merged.record.knowledge.aabb, expected)
    corner = torch.tensor([[1.4, 0.9, -1.2]])  # in no parent's reach but b's
    assert merged.density(corner) > 0
    assert a.density(corner) == 0
    for name in METHODS:
        if not METHODS[name].any_architecture:
            with pytest.raises(MergeError, match=r"box .* merge them with `distill`"):
                merge([a, b], name, **settings(name))


def test_backgrounds_may_differ_where_only_what_is_in_front_is_taught(method: str) -> None:
    parents = [knowing(seed=1), knowing(seed=2, background=(0.0, 0.0, 0.0))]
    if METHODS[method].any_architecture:
        merged = merge(parents, method, **settings(method)).field
        assert merged.record.background == (1.0, 1.0, 1.0)
    else:
        with pytest.raises(MergeError, match=r"background \(0.0, 0.0, 0.0\).*`distill`"):
            merge(parents, method, **settings(method))


def test_a_parent_without_cameras_is_asked_from_all_round(monkeypatch) -> None:
    from memonf.merging.distillation import asking

    asked = []

    def noting(parent, cameras, *args):
        asked.append(len(cameras))
        return draw_lesson(parent, cameras, *args)

    draw_lesson = asking.draw_lesson
    monkeypatch.setattr(asking, "draw_lesson", noting)
    parents = [knowing(seed=1), knowing(seed=2, cameras=None, knowledge=None)]
    merged = merge(parents, **settings("distill")).field
    assert sorted(asked) == [4, 48]
    assert merged.record.cameras is None
    # What was never recorded was found, and is part of what the merge knows.
    together = union([known(parent) for parent in parents], merged.aabb)
    assert torch.equal(merged.record.knowledge.views, together.views)


def test_parents_that_contradict_each_other_are_refused_unless_forced() -> None:
    alike = knowing(seed=1)
    with torch.no_grad():
        alike.head.bias += 0.01
    parents = [knowing(seed=1), alike, knowing(seed=2)]
    for name in ("distill", "average"):
        with pytest.raises(MergeError, match=r"parents 1 and 3 contradict each other: [4-9]\d %"):
            merge_checked(parents, name, **settings(name))
        merge_checked(parents[:2], name, **settings(name))
        merge_checked(parents, name, force=True, **settings(name))
    # Methods that use no knowledge look only at what is recorded.
    merge_checked([small_field("tiny_nerf", seed) for seed in (1, 2)], "average")


def test_params_that_are_not_finite_are_refused_in_fields_and_files(tmp_path: Path) -> None:
    broken = knowing(seed=2)
    broken.layers[1].weight.data[0, 0] = float("inf")
    with pytest.raises(MergeError, match=r"parent 2: `layers.1.weight` holds NaN or infinity"):
        merge([knowing(seed=1), broken], "distill", **settings("distill"))
    memonf.save(broken, tmp_path / "broken.safetensors")
    with pytest.raises(FieldFileError, match=r"broken.safetensors: `layers.1.weight` holds NaN"):
        merge([knowing(seed=1), tmp_path / "broken.safetensors"], "distill")


def test_knowledge_places_the_points_and_gives_the_trust() -> None:
    parents = [half_known(knowing(seed=1), 0), half_known(knowing(seed=2), 1)]
    problem = MergeProblem(Parents(parents))
    told = problem.positions(POINTS, 0.0, use_knowledge=True)
    x = told.inputs[0][:, 0]
    first = torch.arange(POINTS) < POINTS // 2
    assert (x[first] < 0).all()  # each parent places its own half of the points
    assert (x[~first] > 0).all()
    for parent, trust in zip(parents, told.trust, strict=True):
        views = parent.record.knowledge.views_at(told.inputs[0])
        torch.testing.assert_close(trust, views / (views + 2))
    assert (told.trust[0] > 0)[first].all()
    assert (told.trust[0] == 0)[~first].all()
    blind = problem.positions(POINTS, 0.0, use_knowledge=False)
    assert (blind.trust == 1).all()
    assert 0.2 < float((blind.inputs[0][first, 0] < 0).float().mean()) < 0.8


#: Methods that can be told to use no knowledge.
TELLABLE = [
    name for name in METHODS
    if "knowledge" in {entry.name for entry in dataclasses.fields(METHODS[name])}
]  # fmt: skip


@pytest.mark.parametrize("name", TELLABLE)
def test_methods_listen_to_knowledge_and_can_be_told_not_to(name: str) -> None:
    whole = [knowing(seed=1), knowing(seed=2)]
    half = [half_known(knowing(seed=1), 0), knowing(seed=2)]

    def merged(parents: list[Field], knowledge: bool) -> str:
        # No point is placed by knowledge: all that is left of it is how much each one counts.
        told = {"knowledge": knowledge, "points": POINTS, "free_share": 1.0}
        return content_hash(merge(parents, name, **told).field)

    assert merged(half, True) != merged(half, False)
    assert merged(half, True) != merged(whole, True)
    assert merged(half, False) == merged(whole, False)


def test_least_squares_answers_as_the_parent_that_saw() -> None:
    """Where only one parent saw, what the other says there does not count."""
    a, b = knowing(seed=1), knowing(seed=2)
    nowhere = Knowledge(
        b.record.knowledge.aabb, torch.zeros_like(b.record.knowledge.views),
        torch.zeros_like(b.record.knowledge.sides), b.record.knowledge.solid,
    )  # fmt: skip
    b.record = dataclasses.replace(b.record, knowledge=nowhere)
    told, blind = (
        merge([a, b], "least_squares", knowledge=knowledge, points=4 * POINTS).field
        for knowledge in (True, False)
    )
    errors = [relative_difference(outputs(a), outputs(merged)) for merged in (told, blind)]
    assert errors[0] < 0.5 * errors[1]


def test_the_merged_record_is_that_of_all_parents(method: str) -> None:
    a = knowing(seed=1, method=method, group="front", near=1.0, far=5.0, scene="one")
    b = knowing(seed=2, method=method, group="rear", near=2.0, far=7.0, scene="one")
    b.record = dataclasses.replace(b.record, cameras=b.record.cameras[[1, 2]])
    record = merge([a, b], method, **settings(method)).field.record
    together = union([a.record.knowledge, b.record.knowledge], BOX)
    for name in ("aabb", "views", "sides", "solid"):
        assert torch.equal(getattr(record.knowledge, name), getattr(together, name)), name
    assert not torch.equal(record.knowledge.views, a.record.knowledge.views)
    poses = torch.cat([a.record.cameras.camera_to_world, b.record.cameras.camera_to_world])
    assert torch.equal(record.cameras.camera_to_world, poses)
    assert (record.near, record.far, record.group, record.scene) == (
        1.0,
        7.0,
        "front + rear",
        "one",
    )


def test_a_merged_field_merges_with_a_new_one() -> None:
    a, b, c = (knowing(seed=seed) for seed in (1, 2, 3))
    first = merge([a, b], **settings("distill")).field
    second = merge([first, c], **settings("distill"))
    merged = second.field
    assert merged.record.lineage["parents"] == [content_hash(first), content_hash(c)]
    together = union([first.record.knowledge, c.record.knowledge], BOX)
    assert torch.equal(merged.record.knowledge.solid, together.solid)
    views = sum(field.record.knowledge.views.int() for field in (a, b, c))
    assert torch.equal(merged.record.knowledge.views.int(), views)
    assert len(merged.record.cameras) == 12


@pytest.mark.parametrize("budget", [1e-6, 1.0])
def test_a_budget_is_kept_and_something_is_learnt_all_the_same(budget: float) -> None:
    report = merge([knowing(seed=1), knowing(seed=2)], budget=budget, rays=256).report
    assert report["seconds"] < budget + 3
    assert report["distill"]["steps"] >= 1
    assert math.isfinite(report["distill"]["psnr_against_parents"])
    assert report["distill"]["steps"] > 3 or budget < 1


@pytest.mark.parametrize(
    ("student", "config", "message"),
    [
        ("nerv", {}, "unknown field `nerv`: did you mean `nerf`"),
        ("", {"widht": 3}, "student: unknown config key `widht`; did you mean `width`"),
        ("", {"width": "wide"}, "student: config `width`: .* received 'wide'"),
        ("", {"width": 0}, "student: config `width`: .* greater than or equal to 1, received 0"),
        ("tiny_nerf", {"view_width": 3}, "student: unknown config key `view_width`"),
        ("nerf", {"activation": "sine"}, "student: config `activation`: .* received 'sine'"),
    ],
)
def test_students_that_cannot_be_built_are_refused_by_name(student, config, message: str) -> None:
    with pytest.raises(InputError, match=message):
        merge(
            [knowing(seed=1), knowing(seed=2)], student=student, student_config=config,
            **settings("distill"),
        )  # fmt: skip


def test_the_students_config_may_come_as_words_of_a_command_line() -> None:
    said = {"width": "20", "depth": "2", "batch_norm": "True", "activation": "tanh"}
    parents = [knowing(seed=1), knowing(seed=2)]
    config = merge(parents, student_config=said, **settings("distill")).field.config
    assert config == TinyNerfConfig(
        width=20, depth=2, frequencies=4, batch_norm=True, activation="tanh"
    )


def test_a_start_that_does_not_fit_the_student_is_refused() -> None:
    parents = [knowing(seed=1), knowing(seed=2)]
    with pytest.raises(InputError, match="start `merge`"):
        merge(parents, start="merge", student_config={"width": 16}, **settings("distill"))


def test_parents_in_training_mode_stay_untouched() -> None:
    parents = [small_field("tiny_nerf_batch_norm", seed).train() for seed in (1, 2)]
    before = [content_hash(parent) for parent in parents]
    merge(parents, **settings("distill"))
    assert [content_hash(parent) for parent in parents] == before


class Branching(TinyNerf):
    """A field whose forward pass branches on values: it cannot be traced."""

    def raw(self, positions, directions):
        density, colour = super().raw(positions, directions)
        return (density, colour) if positions.sum() < 1e9 else (-density, colour)


def test_a_field_that_cannot_be_read_is_named_and_can_be_distilled(monkeypatch) -> None:
    monkeypatch.setattr(Branching, "name", "branching")
    monkeypatch.setitem(FIELDS._classes, "branching", Branching)
    parents = []
    for seed in (1, 2):
        known_field = knowing("tiny_nerf", seed)
        field = Branching(known_field.config, known_field.aabb)
        field.load_state_dict(known_field.state_dict())
        field.record = known_field.record
        parents.append(field.eval())
    with pytest.raises(InputError, match=r"field `branching`.*cannot be traced.*`distill`"):
        merge(parents, "weight_matching")
    merged = merge(parents, "distill", **settings("distill")).field
    assert isinstance(merged, Branching)
    assert outputs(merged).isfinite().all()


def test_an_invalid_symmetry_is_refused(monkeypatch) -> None:
    def misread(network):
        """As if the columns that read the first group had been overlooked."""
        found = find_symmetry(network)
        first = found.groups[0]
        slices = tuple(part for part in first.slices if part.axis == 0)
        groups = (dataclasses.replace(first, slices=slices), *found.groups[1:])
        return dataclasses.replace(found, groups=groups)

    monkeypatch.setattr("memonf.merging.problem.find_symmetry", misread)
    parents = [knowing("tiny_nerf", seed) for seed in (1, 2)]
    with pytest.raises(MergeError, match=r"`tiny_nerf`: the symmetry .* is invalid.*`distill`"):
        merge(parents, "weight_matching")
