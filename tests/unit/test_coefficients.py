"""Coefficients by layer, by hand-computed values."""

from __future__ import annotations

import copy
import dataclasses
import functools

import pytest
import torch
from conftest import outputs, relative_difference, small_field

from memonf.errors import InputError
from memonf.fields import Field, known
from memonf.io.checkpoint import content_hash, load, save
from memonf.merging import METHODS, combine_params
from memonf.merging import merge as merge_checked
from memonf.merging.coefficients import Coefficients, check_coefficients, read_coefficients

#: Random fields are of no common scene, and would be refused.
merge = functools.partial(merge_checked, force=True)
LAYERWISE = [name for name in METHODS if METHODS[name].layerwise]
TENSORS = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "head.weight"]


@functools.cache
def knowing(kind: str, seed: int) -> Field:
    """A small field with its knowledge, which takes most of a merge's time; merges change none."""
    field = small_field(kind, seed)
    field.record = dataclasses.replace(field.record, knowledge=known(field))
    return field


def two(kind: str = "tiny_nerf") -> list[Field]:
    return [knowing(kind, seed) for seed in (1, 2)]


def settings(method: str) -> dict[str, int]:
    return {"points": 512} if METHODS[method].needs_positions else {}


def test_the_first_pattern_that_matches_wins() -> None:
    shares = read_coefficients(
        {"*.bias": [1.0, 0.0], "layers.0.*": [0.7, 0.3], "layers.*": [0.2, 0.8]}, 2
    )
    assert shares.overall == (0.5, 0.5)
    assert [shares.of(name) for name in TENSORS] == [(0.7, 0.3), (1, 0), (0.2, 0.8), (0.5, 0.5)]


def test_the_default_is_for_the_rest() -> None:
    shares = read_coefficients({"head.*": [1.0, 0.0], "default": [0.25, 0.75]}, 2)
    assert (shares.of("head.weight"), shares.of("layers.0.bias")) == ((1, 0), (0.25, 0.75))
    assert read_coefficients({"default": [0.25, 0.75]}, 2) == Coefficients((0.25, 0.75))
    assert read_coefficients({}, 4) == Coefficients((0.25,) * 4)


def test_each_tensor_is_combined_by_its_own() -> None:
    params = [{"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([4.0])},
              {"a": torch.tensor([3.0, 6.0]), "b": torch.tensor([8.0])}]  # fmt: skip
    out = combine_params(params, Coefficients((0.5, 0.5), (("a", (0.25, 0.75)),)))
    assert out["a"].tolist() == [2.5, 5.0]
    assert out["b"].tolist() == [6.0]
    assert combine_params(params, [0.5, 0.5])["a"].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"head.*": [0.5]}, "`head.\\*`: expected 2 numbers .one per parent., received 1"),
        ({"head.*": [0.5, 0.7]}, "`head.\\*`: expected a sum of 1, received 1.2"),
        ({"default": [float("nan"), 1.0]}, "`default`: expected numbers in"),
        ({"head.*": [-0.5, 1.5]}, "`head.\\*`: expected numbers in"),
        ({"layer.0.*": [0.5, 0.5]}, "`layer.0.\\*` matches no tensor; did you mean `layers.0."),
        ({"defualt": [0.5, 0.5]}, "did you mean `default`"),
        ({"aabb": [0.5, 0.5]}, "`aabb` matches no tensor"),
        (
            {"layers.*": [1.0, 0.0], "layers.0.*": [0.0, 1.0]},
            "`layers.0.\\*` .* by an earlier pattern",
        ),
    ],
)
def test_lists_and_patterns_that_decide_nothing_are_refused(given, message: str) -> None:
    with pytest.raises(InputError, match=message):
        merge(two(), "average", coefficients=given)


@pytest.mark.parametrize("given", [["a", "b"], [None, 1.0], 0.5])
def test_what_is_no_list_of_numbers_is_refused(given) -> None:
    with pytest.raises(InputError, match="here: expected numbers, received"):
        check_coefficients(given, 2, "here")


def test_methods_that_do_not_average_refuse_layers_and_name_those_that_do() -> None:
    assert set(LAYERWISE) >= {"average", "weight_matching", "activation_matching_repair"}
    for name in METHODS:
        if name not in LAYERWISE:
            with pytest.raises(InputError, match=f"`{name}` takes one .* by layer: .*average, "):
                merge(two(), name, coefficients={"head.*": [0.2, 0.8]})
    shares = {"default": [0.2, 0.8]}  # no layer has its own
    merged = merge(two(), "least_squares", coefficients=shares, points=64)
    assert merged.report["coefficients"] == [0.2, 0.8]


@pytest.mark.parametrize("method", LAYERWISE)
def test_layers_take_their_own_and_the_lineage_says_so(method: str) -> None:
    parents = two()
    given = {"head.*": [1.0, 0.0], "layers.2.*": [0.3, 0.7], "default": [0.6, 0.4]}
    merged = merge(parents, method, coefficients=given, **settings(method)).field
    first = dict(parents[0].state_dict())
    for name in ("head.weight", "head.bias"):
        assert torch.equal(merged.state_dict()[name], first[name])
    uniform = merge(parents, method, coefficients=[0.6, 0.4], **settings(method)).field
    for number, same in enumerate((True, True, False)):
        for part in ("weight", "bias"):
            name = f"layers.{number}.{part}"
            ours, theirs = merged.state_dict()[name], uniform.state_dict()[name]
            assert torch.equal(ours, theirs) is same, name
    lineage = merged.record.lineage
    assert lineage["coefficients"] == [0.6, 0.4]
    assert lineage["layers"] == [["head.*", [1.0, 0.0]], ["layers.2.*", [0.3, 0.7]]]
    assert "layers" not in uniform.record.lineage


@pytest.mark.parametrize("method", LAYERWISE)
def test_layers_that_all_say_the_same_are_one_list(method: str, kind: str) -> None:
    parents = two(kind)
    given = {"layers.0.*": [0.3, 0.7], "*": [0.3, 0.7]}
    by_layer = merge(parents, method, coefficients=given, **settings(method)).field
    plain = merge(parents, method, coefficients=[0.3, 0.7], **settings(method)).field
    assert content_hash(by_layer) == content_hash(plain)


@pytest.mark.parametrize("method", LAYERWISE)
def test_merging_a_field_with_itself_by_layers_gives_the_field(method: str) -> None:
    field = knowing("tiny_nerf", 0)
    given = {"layers.0.*": [0.3, 0.7], "layers.1.*": [1.0, 0.0], "head.*": [0.1, 0.9]}
    merged = merge(
        [field, copy.deepcopy(field)], method, coefficients=given, **settings(method)
    ).field
    limit = 1e-3 if method.endswith("_repair") else 1e-6
    assert relative_difference(outputs(field), outputs(merged)) < limit


@pytest.mark.parametrize("method", LAYERWISE)
def test_a_parent_with_one_everywhere_is_given_back_exactly(method: str, kind: str) -> None:
    parents = two(kind)
    for index, shares in enumerate(([1.0, 0.0], [0.0, 1.0])):
        # All tensors are taken by patterns; the default, equal, decides about none.
        given = {"*.weight": shares, "*": shares}
        merged = merge(parents, method, coefficients=given, **settings(method)).field
        assert content_hash(merged) == content_hash(parents[index])


def test_a_parent_is_dropped_only_if_it_is_zero_everywhere() -> None:
    parents = [knowing("tiny_nerf", seed) for seed in (1, 2, 3)]
    given = {"default": [1.0, 0.0, 0.0], "head.*": [0.5, 0.5, 0.0]}
    merged = merge(parents, "average", coefficients=given).field
    expected = (parents[0].head.weight + parents[1].head.weight) / 2
    assert torch.allclose(merged.head.weight, expected, atol=1e-7)
    assert torch.equal(merged.layers[0].weight, parents[0].layers[0].weight)
    assert len(merged.record.cameras) == 8  # of two parents
    assert len(merged.record.lineage["parents"]) == 3


@pytest.mark.parametrize("method", LAYERWISE)
def test_dropping_a_parent_leaves_the_box_and_the_rest_as_they_are(method: str) -> None:
    parents = [knowing("tiny_nerf", seed) for seed in (1, 2, 3)]
    # The default is equal, and no tensor takes it.
    given = {"layers.*": [0.25, 0.75, 0.0], "head.*": [0.25, 0.75, 0.0]}
    merged = merge(parents, method, coefficients=given, **settings(method)).field
    without = merge(parents[:2], method, coefficients=[0.25, 0.75], **settings(method)).field
    assert content_hash(merged) == content_hash(without)


def test_files_merge_by_layer_and_keep_the_order_of_patterns(tmp_path) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for path, field in zip(paths, two(), strict=True):
        save(field, path)
    given = {"layers.1.*": [0.9, 0.1], "layers.*": [0.2, 0.8]}
    result = merge(paths, "weight_matching", coefficients=given)
    in_memory = merge(two(), "weight_matching", coefficients=given)
    assert content_hash(result.field) == content_hash(in_memory.field)
    save(result.field, tmp_path / "merged.safetensors")
    lineage = load(tmp_path / "merged.safetensors").record.lineage
    assert [pattern for pattern, _ in lineage["layers"]] == list(given)
