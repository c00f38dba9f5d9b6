"""Methods that mix units rather than only reorder them, each held to what it alone claims."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from conftest import BOX, outputs, relative_difference, small_field

from memonf.errors import MergeError
from memonf.fields import Field, build_field
from memonf.fields.nerf import NerfConfig
from memonf.fields.siren import SirenConfig
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.merging import MergeProblem
from memonf.merging import merge as merge_checked
from memonf.merging.combining.transport import linear_program, transport_plan
from memonf.merging.combining.zipit import slot_maps, zip_units
from memonf.merging.distillation.targets import Questions
from memonf.merging.midpoint.sinkhorn import sinkhorn
from memonf.merging.parents import Parents
from memonf.merging.unit_maps import map_units
from memonf.symmetry import find_symmetry, permute

#: Random fields are of no common scene, and would be refused.
merge = functools.partial(merge_checked, force=True)
#: Few points keep the tests fast.
POINTS = 1024


def shuffled(field: Field, seed: int = 7) -> Field:
    """The same function in another order of its units."""
    other = copy.deepcopy(field)
    symmetry = find_symmetry(field)
    planted = symmetry.random(torch.Generator().manual_seed(seed))
    other.load_state_dict(permute(field.state_dict(), symmetry, planted))
    return other


def doubled(field: Field, **widths: int) -> Field:
    """The same function with every hidden unit twice, what reads it halved."""
    config = type(field.config).from_dict({**field.config.as_dict(), **widths}, "test")
    wide = build_field(field.name, config, BOX)
    symmetry = find_symmetry(field)
    twice = {g.name: torch.eye(g.size).double().repeat_interleave(2, 0) for g in symmetry.groups}
    halved = {name: 0.5 * matrix.mT for name, matrix in twice.items()}
    state = map_units(field.state_dict(), symmetry, twice, halved)
    wide.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    wide.record = field.record
    return wide.eval()


def raw(field: Field) -> torch.Tensor:
    """What the network says before any activation: (points, 4)."""
    x = torch.rand(512, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        density, rgb = field.raw(x, None)
    return torch.cat([density[:, None], rgb], 1)


def test_maps_of_a_permutation_permute(kind: str) -> None:
    field = small_field(kind)
    symmetry = find_symmetry(field)
    perms = symmetry.random(torch.Generator().manual_seed(1))
    made = {name: torch.eye(len(perm)).double()[perm] for name, perm in perms.items()}
    read = {name: matrix.mT for name, matrix in made.items()}
    mapped = map_units(field.state_dict(), symmetry, made, read)
    for name, tensor in permute(field.state_dict(), symmetry, perms).items():
        torch.testing.assert_close(mapped[name].to(tensor), tensor, rtol=0, atol=0)


def test_zipping_by_hand() -> None:
    # Units 0, 1 of the first parent act alike, and so do unit 1 of the first and 0 of the second.
    alike = torch.eye(4)
    for (one, other), value in {(0, 1): 0.9, (1, 2): 0.8, (0, 2): 0.7, (2, 3): 0.1}.items():
        alike[one, other] = alike[other, one] = value
    assert zip_units(alike, 2, within=1.0).tolist() == [[0, 0], [0, 1]]
    assert zip_units(alike, 2, within=0.0).tolist() == [[0, 1], [1, 0]]
    maps = slot_maps(torch.tensor([[0, 0], [0, 1]]), (0.75, 0.25))
    torch.testing.assert_close(maps[0][0], torch.tensor([3 / 7, 3 / 7]).double())
    torch.testing.assert_close(maps[1], torch.tensor([[1 / 7, 0], [0, 1]]).double())


def test_zipping_keeps_parents_whole_where_both_have_room() -> None:
    """Two parents with every unit twice fit into one: it says the mean of what both say."""
    narrow = [
        build_field("tiny_nerf", TinyNerfConfig(width=8, depth=2, frequencies=3), BOX, seed=seed)
        for seed in (1, 2)
    ]
    parents = [doubled(field, width=16) for field in narrow]
    expected = 0.7 * raw(parents[0]) + 0.3 * raw(parents[1])
    chosen = {"within": 1.0, "repair": False, "points": POINTS, "coefficients": [0.7, 0.3]}
    zipped = merge(parents, "zipit", zip_layers=None, **chosen).field
    assert relative_difference(expected, raw(zipped)) < 1e-4
    matched = merge(parents, "zipit", zip_layers=0, **chosen).field
    assert relative_difference(expected, raw(matched)) > 0.01


@pytest.mark.parametrize("layers", [0, 1, None])
def test_zipping_recovers_shuffled_selves(layers: int | None) -> None:
    field = small_field("tiny_nerf_skip")
    parents = [field, shuffled(field, 1), shuffled(field, 2)]
    chosen = {"zip_layers": layers, "repair": False, "points": POINTS}
    merged = merge(parents, "zipit", **chosen).field
    assert relative_difference(outputs(field), outputs(merged)) < 1e-5


@pytest.mark.parametrize("ground", ["activations", "params"])
@pytest.mark.parametrize("kind_", ["tiny_nerf_skip", "tiny_nerf_batch_norm", "nerf", "siren"])
def test_a_wider_self_is_transported_back(kind_: str, ground: str) -> None:
    field = small_field(kind_)
    widths = {"width": 48} | ({"view_width": 24} if kind_ == "nerf" else {})
    wide = shuffled(doubled(field, **widths))
    chosen = {"ground": ground, "points": POINTS}
    merged = merge([field, wide], "optimal_transport", **chosen).field
    assert merged.config == field.config
    assert relative_difference(outputs(field), outputs(merged)) < 1e-4
    # The other way round nothing is lost either: both hold the same units.
    merged = merge([wide, field], "optimal_transport", **chosen).field
    assert merged.config == wide.config
    assert relative_difference(outputs(wide), outputs(merged)) < 1e-4


def test_transport_between_equal_widths_is_matching() -> None:
    parents = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    one, other = (
        merge(parents, name, points=POINTS).field
        for name in ("optimal_transport", "activation_matching")
    )
    assert relative_difference(outputs(one), outputs(other)) < 1e-5


def test_plans_are_exact() -> None:
    cost = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    copies, program = transport_plan(cost), torch.from_numpy(linear_program(cost.numpy()))
    for plan in (copies, program):
        torch.testing.assert_close(plan.sum(1), torch.full((6,), 1 / 6).double())
        torch.testing.assert_close(plan.sum(0), torch.full((4,), 1 / 4).double())
        assert (plan >= 0).all()
    assert float((copies * cost).sum()) == pytest.approx(float((program * cost).sum()), abs=1e-12)
    assert transport_plan(torch.rand(37, 23)).shape == (37, 23)


@pytest.mark.parametrize(
    ("name", "one", "other", "key"),
    [
        ("siren", SirenConfig(width=16, depth=2), SirenConfig(16, 2, omega=20.0), "omega"),
        (
            "nerf",
            NerfConfig(width=16, depth=3, skips=(1,), view_width=8),
            NerfConfig(width=12, depth=3, skips=(2,), view_width=4),
            "skips",
        ),
    ],
)
def test_only_widths_may_differ(name: str, one, other, key: str) -> None:
    parents = [build_field(name, config, BOX) for config in (one, other)]
    with pytest.raises(MergeError, match=f"`{key}` is"):
        merge(parents, "optimal_transport")


def test_the_midpoint_is_judged_by_what_parents_say() -> None:
    """A parent answers its own questions without error, and the gradient points there."""
    field = small_field("tiny_nerf")
    problem = MergeProblem(Parents([field, copy.deepcopy(field)]))
    questions = Questions.of(problem, (0.5, 0.5), rays=64)
    state = dict(field.state_dict())
    with torch.no_grad():
        assert float(questions.error(state)) < 1e-10
    moved = state | {"head.bias": (state["head.bias"] + 0.1).requires_grad_()}
    with torch.enable_grad():
        error = questions.error(moved)
        (gradient,) = torch.autograd.grad(error, moved["head.bias"])
    assert float(error.detach()) > 1e-6
    back = moved | {"head.bias": (moved["head.bias"] - 0.01 * gradient / gradient.norm()).detach()}
    with torch.no_grad():
        assert float(questions.error(back)) < float(error)


def test_straight_through_starts_at_matching_and_never_ends_above() -> None:
    chosen = {"start": "reference", "rays": 128, "points": POINTS, "repair": False}
    # Strangers have many alignments that are equally good; relatives have one.
    relatives = [small_field("tiny_nerf", 1), small_field("tiny_nerf", 1)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in relatives[1].parameters():
            param += 0.1 * param.std() * torch.randn(param.shape, generator=generator)
    one = merge(relatives, "straight_through", steps=1, **chosen)
    matched = merge(relatives, "weight_matching").field
    assert relative_difference(outputs(matched), outputs(one.field)) < 1e-5
    parents = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    one = merge(parents, "straight_through", steps=1, **chosen)
    many = merge(parents, "straight_through", steps=12, rate=0.05, **chosen)
    first, last = (result.report["alignment"][0] for result in (one, many))
    assert last["error_at_start"] == first["error"]
    assert last["error"] < first["error"]
    assert last["step"] > 0


def test_sinkhorn_makes_soft_permutations() -> None:
    scores = torch.randn(9, 9, generator=torch.Generator().manual_seed(0)).double()
    soft = sinkhorn(scores, 50)
    torch.testing.assert_close(soft.sum(0), torch.ones(9).double())
    torch.testing.assert_close(soft.sum(1), torch.ones(9).double())
    perm = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    hard = torch.eye(9).double()[perm]
    torch.testing.assert_close(sinkhorn(300 * hard, 20), hard)


@pytest.mark.parametrize("cost", ["params", "midpoint"])
def test_sinkhorn_lowers_its_cost(cost: str) -> None:
    parents = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    chosen = {"cost": cost, "start": "uniform", "rays": 64, "points": POINTS, "steps": 30}
    found = merge(parents, "sinkhorn_rebasin", **chosen).report["alignment"][0]
    assert found["error"] < found["error_at_start"]
    assert found["step"] > 0


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("straight_through", {"steps": 2, "start": "reference"}),
        ("straight_through", {"steps": 2}),
        ("sinkhorn_rebasin", {"steps": 60, "start": "uniform", "cost": "params"}),
        ("sinkhorn_rebasin", {"steps": 2}),
    ],
)
def test_shuffled_selves_are_recovered(name: str, chosen) -> None:
    field = small_field("tiny_nerf_skip")
    merged = merge(
        [field, shuffled(field)], name, rays=64, points=POINTS, repair=False, **chosen
    ).field
    assert relative_difference(outputs(field), outputs(merged)) < 1e-5
