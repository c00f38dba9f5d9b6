"""How much of the parents' variation a merge keeps."""

from __future__ import annotations

import pytest
from conftest import knowing_pair

import memonf
from memonf.errors import MergeError
from memonf.merging import layer_variation


def test_a_field_keeps_its_own_variation() -> None:
    field = knowing_pair()[0]
    for layer in layer_variation(field, [field, field]):
        assert layer.kept == pytest.approx(1)


def test_averaging_like_with_unlike_loses_it_and_repair_brings_it_back() -> None:
    pair = knowing_pair(shuffled=True)  # one function in two orders
    kept = {
        method: [layer.kept for layer in layer_variation(memonf.merge(pair, method).field, pair)]
        for method in ("average", "average_repair", "weight_matching")
    }
    assert all(share < 0.95 for share in kept["average"])
    assert kept["average_repair"] == pytest.approx([1] * 3, abs=0.02)
    assert kept["weight_matching"] == pytest.approx([1] * 3, abs=1e-4)


def test_parents_that_are_unlike_are_refused() -> None:
    pair = knowing_pair()
    other = memonf.build_field("siren", None, pair[0].aabb)
    with pytest.raises(MergeError):
        layer_variation(pair[0], [pair[0], other])
