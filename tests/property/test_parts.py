"""Two phases, three parts: presets are products, products need no name, methods are objects too."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path

import pytest
import torch
from conftest import descendant, outputs, relative_difference, small_field

import memonf
from memonf.cli import main
from memonf.errors import InputError
from memonf.fields import Field, known
from memonf.io.checkpoint import content_hash
from memonf.merging import METHODS, Merger, merge
from memonf.merging.methods.composed import ALIGN, COMBINE, CORRECT
from memonf.merging.methods.distill import Distill
from memonf.utils.registry import Registry

POINTS = 768
ROOT = Path(__file__).parents[2]

#: Preset -> the parts that it is made of, by the names that `composed` gives them.
PRESETS = {
    "average": ("none", "average", "none"),
    "average_repair": ("none", "average", "repair"),
    "weight_matching": ("weights", "average", "none"),
    "weight_matching_repair": ("weights", "average", "repair"),
    "activation_matching": ("activations", "average", "none"),
    "activation_matching_repair": ("activations", "average", "repair"),
    "activation_matching_closed_repair": ("activations", "average", "closed_repair"),
    "combined_matching": ("both", "average", "none"),
    "combined_matching_repair": ("both", "average", "repair"),
    "least_squares": ("both", "least_squares", "none"),
    "fisher": ("activations", "fisher", "none"),
    "zipit": ("activations", "zipit", "repair"),
    "optimal_transport": ("none", "transport", "none"),
    "task_arithmetic": ("none", "task_arithmetic", "none"),
    "ties": ("none", "ties", "none"),
    "dare": ("none", "dare", "none"),
}


@functools.cache
def relatives() -> tuple[Field, ...]:
    """Two small fields of one ancestor that have recorded what they saw; not to be changed."""
    fields = []
    for seed in (1, 2):
        field = descendant("tiny_nerf", seed)
        field.record = dataclasses.replace(field.record, knowledge=known(field))
        fields.append(field)
    return tuple(fields)


def small_settings(method: str) -> dict[str, int]:
    chosen = {
        "distill": {"steps": 8, "rays": 256},
        "gauss_newton": {"rays": 512, "iterations": 4},
        "straight_through": {"steps": 4, "rays": 128, "points": 512},
        "sinkhorn_rebasin": {"steps": 6, "rays": 128, "points": 512},
    }.get(method, {})
    names = {entry.name for entry in dataclasses.fields(METHODS[method])}
    return {"points": POINTS, **chosen} if "points" in names else chosen


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].listed])
def test_methods_give_what_they_gave_before_they_were_made_of_parts(name: str) -> None:
    """Outputs of a merge at three points, from before the methods were written as parts."""
    expected = json.loads((ROOT / "tests/golden/merges.json").read_text())[name]
    merged = merge(
        relatives(), name, coefficients=[0.7, 0.3], seed=3, force=True, **small_settings(name)
    ).field
    received = outputs(merged, 64)[[0, 7, 19]]
    torch.testing.assert_close(received, torch.tensor(expected), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_product_of_its_parts(name: str) -> None:
    align, combine_by, correct = PRESETS[name]
    shares = [0.6, 0.4]
    preset = merge(relatives(), name, coefficients=shares, force=True, **small_settings(name))
    points = {"points": POINTS}
    product = merge(
        relatives(), "composed", coefficients=shares, force=True, align=align,
        combine_by=combine_by, correct=correct, **points,
    )  # fmt: skip
    assert content_hash(preset.field) == content_hash(product.field)


@pytest.mark.parametrize("align", ["weights", "both"])
@pytest.mark.parametrize("combine_by", list(COMBINE))
@pytest.mark.parametrize("correct", list(CORRECT))
def test_products_without_a_name_merge(align: str, combine_by: str, correct: str) -> None:
    merged = merge(
        relatives(), "composed", force=True, align=align, combine_by=combine_by, correct=correct,
        points=64,
    ).field  # fmt: skip
    assert outputs(merged).isfinite().all()
    assert set(ALIGN) >= {align}


def test_parts_are_named_on_the_command_line(tmp_path: Path, capsys) -> None:
    files = []
    for number, field in enumerate(relatives()):
        memonf.save(field, tmp_path / f"{number}.safetensors")
        files.append(str(tmp_path / f"{number}.safetensors"))
    out = tmp_path / "merged.safetensors"
    flags = ["--align", "weights", "--combine-by", "fisher", "--correct", "repair"]
    main(["merge", *files, *flags, "--points", "64", "--force", "--quiet", "--out", str(out)])
    assert "by composed" in capsys.readouterr().out
    lineage = memonf.load(out).record.lineage
    assert lineage["settings"]["combine_by"] == "fisher"
    assert lineage["recipe"]["method"] == "composed"


def test_a_method_can_be_an_object() -> None:
    settings = {"steps": 3, "rays": 128}
    by_object = memonf.merge(relatives(), Distill(**settings), force=True)
    by_name = memonf.merge(relatives(), "distill", force=True, **settings)
    assert content_hash(by_object.field) == content_hash(by_name.field)
    assert by_object.report["settings"] == by_name.report["settings"]
    with pytest.raises(InputError, match=r"settings steps: .* `Distill\(\.\.\.\)`"):
        memonf.merge(relatives(), Distill(), steps=3)


def test_a_merger_drops_and_takes_up_parents_as_the_coefficients_say() -> None:
    parents = [small_field("tiny_nerf", seed) for seed in (1, 2, 3)]
    merger = Merger(parents, "weight_matching", force=True)
    for shares in ([0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]):
        fresh = merge(parents, "weight_matching", coefficients=shares, force=True)
        assert content_hash(merger.at(shares).field) == content_hash(fresh.field)


def test_the_method_of_the_docs_is_one_short_file_and_merges(monkeypatch) -> None:
    text = (ROOT / "docs/adding.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    assert len(code.splitlines()) <= 40
    METHODS["average"]  # the project's own are found before another joins
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
    namespace: dict[str, object] = {"__name__": "a_package.median"}
    exec(compile(code, "docs/adding.md", "exec"), namespace)
    parents = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    merged = merge(parents, "median", force=True).field
    assert relative_difference(outputs(parents[0]), outputs(merged)) > 1e-3
    same = merge([parents[0]] * 3, "median", force=True).field
    assert relative_difference(outputs(parents[0]), outputs(same)) < 1e-6


def test_methods_of_other_packages_join_through_their_entry_point_group(monkeypatch) -> None:
    registry: Registry = Registry("thing", package="memonf.merging.methods", group="memonf.things")

    class EntryPoint:
        def load(self) -> None:
            registry.register("from_elsewhere")(type("Elsewhere", (), {}))

    asked = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint()]

    monkeypatch.setattr("memonf.utils.registry.entry_points", entry_points)
    assert list(registry) == ["from_elsewhere"]
    assert asked == ["memonf.things"]
