"""What the fields say of a merge has to hold against the images that they never saw."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from statistics import fmean

import pytest
import torch
from conftest import small_field
from scipy.stats import spearmanr

import memonf
from memonf.evaluation.evaluate import evaluate
from memonf.evaluation.image_free import assess, predict
from memonf.fields import Field
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.merging import merge
from memonf.training import TrainSettings, train

WEIGHT_SPACE = (
    "average", "average_repair", "weight_matching", "weight_matching_repair",
    "activation_matching", "activation_matching_repair", "least_squares",
)  # fmt: skip


@pytest.fixture(scope="module")
def robot(little_scene: Path) -> memonf.Scene:
    """Learnt and scored often here: the little one."""
    return memonf.load_scene(little_scene)


@pytest.fixture(scope="module")
def halves(robot) -> list[Field]:
    config = TinyNerfConfig(width=48, depth=3)
    return [
        train(
            robot, group=group, config=config,
            settings=TrainSettings(steps=150, rays=1024, seed=seed, grid=48),
        )
        for seed, group in enumerate(("front", "rear"))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def merges(halves) -> dict[str, Field]:
    """More than 20 merges of one pair, from fog to nearly as good as the parents."""
    made = {}
    for method in WEIGHT_SPACE:
        for share in (0.5, 0.2):
            points = {} if method in ("average", "weight_matching") else {"points": 2048}
            result = merge(halves, method, coefficients=[share, 1 - share], **points)
            made[f"{method} {share}"] = result.field
    made["gauss_newton"] = merge(halves, "gauss_newton", rays=2048, iterations=4).field
    for steps in (5, 20, 60):
        for start in ("best", "scratch"):
            result = merge(halves, "distill", steps=steps, start=start, rays=1024)
            made[f"distill {steps} {start}"] = result.field
    return made


def test_the_predicted_loss_orders_merges_as_the_images_do(robot, halves, merges) -> None:
    assert len(merges) >= 20
    predicted, true = [], []
    for merged in merges.values():
        each = predict(merged, halves, rays=1024)
        predicted.append(fmean(parent.predicted_psnr for parent in each))
        true.append(evaluate(merged, robot, most_views=6).psnr)
    correlation = spearmanr(predicted, true).statistic
    assert correlation >= 0.8, dict(zip(merges, zip(predicted, true, strict=True), strict=True))
    assert max(true) - min(true) > 5  # the merges do differ
    # Negative control: against other truths the order says nothing.
    shuffled = torch.tensor(true)[torch.randperm(len(true), generator=torch.Generator())]
    assert abs(spearmanr(predicted, shuffled.tolist()).statistic) < 0.8


def test_a_parent_is_faithful_to_itself_and_not_to_the_other(halves) -> None:
    found = assess(halves[0], halves, rays=1024)
    assert found.parents[0].fidelity > 60
    assert found.parents[0].predicted_loss < 0.01
    assert found.parents[1].fidelity < 35
    assert [parent.group for parent in found.parents] == ["front", "rear"]
    json.dumps(found.as_dict())


def test_halves_of_one_scene_agree_and_of_two_do_not(halves) -> None:
    assert assess(halves[0], halves, rays=64).disagreement < 0.1
    fields = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    assert assess(fields[0], fields, rays=64).disagreement > 0.2


def test_what_nobody_saw_is_counted(halves) -> None:
    """With the cameras of one half gone, their side of the matter counts as unseen."""
    alone = assess(halves[0], [halves[0], halves[0]], rays=64)
    both = assess(halves[0], halves, rays=64)
    assert alone.unseen_matter > both.unseen_matter + 0.05
    assert 0 <= both.unseen_space <= alone.unseen_space <= 1


def test_a_seam_is_seen(halves) -> None:
    """A merge that is wrong only where the better informed parent changes has a seam."""
    merged = copy.deepcopy(halves[0])
    found = assess(merged, halves, rays=64)
    assert found.seam is not None
    assert found.seam > 0
    one = dataclasses.replace(halves[0].record, knowledge=None)
    alike = copy.deepcopy(halves[0])
    alike.record = one
    assert assess(merged, [halves[0], alike], rays=64).seam is None  # nobody is better informed
