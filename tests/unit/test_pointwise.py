"""Fields beyond radiance: learnt on a part, merged by methods that do not know them, scored."""

from __future__ import annotations

import dataclasses
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import memonf
from memonf.cli import main
from memonf.errors import DataError, InputError
from memonf.fields.pointwise import PointConfig, PointField
from memonf.implicit import (
    FitSettings,
    Fitter,
    ImageTruth,
    MeshTruth,
    Truth,
    draw,
    fit,
    open_truth,
    score,
)
from memonf.io.checkpoint import content_hash
from memonf.rendering.knowledge import RESOLUTION
from memonf.training.resume import state_path, train_to_file

RADIUS = 0.85  # of a ball that fills the box as meshes do
SMALL = FitSettings(steps=150, points=1024, overlap=0.1, seed=1)
#: Nothing here knows these methods, and they do not know what they merge.
METHODS = ["average", "weight_matching", "activation_matching_repair", "least_squares", "distill"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball far from the origin, and a picture of two waves."""
    made = tmp_path_factory.mktemp("truths")
    ball = trimesh.creation.icosphere(3, radius=3.0)
    ball.apply_translation([10, -5, 2])
    ball.export(made / "ball.ply")
    x, y = np.meshgrid(np.linspace(0, 6, 60), np.linspace(0, 4, 40))
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1) * 100 + 128
    Image.fromarray(waves.astype(np.uint8)).save(made / "waves.png")
    return made


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of fewer points than users get: enough for bounds as wide as these."""
    monkeypatch.setattr("memonf.implicit.scoring.POINTS", 40_000)
    monkeypatch.setattr("memonf.implicit.scoring.ON_SURFACE", 8_000)
    monkeypatch.setattr("memonf.implicit.scoring.GRID", 64)


def truth_of(kind: str, folder: Path) -> Truth:
    return open_truth(folder / ("waves.png" if kind == "image" else "ball.ply"), kind)


def config(network: str = "relu") -> PointConfig:
    return PointConfig(network=network, width=32, depth=3, frequencies=3, first_omega=6.0)


@pytest.fixture(scope="module")
def parents(folder: Path) -> dict[str, list[PointField]]:
    """Left and right of each kind."""
    return {
        kind: [
            fit(truth_of(kind, folder), group=group, config=config(), settings=SMALL)
            for group in ("left", "right")
        ]
        for kind in ("sdf", "occupancy", "image")
    }


def test_a_mesh_is_centred_and_its_distances_are_true(folder: Path) -> None:
    truth = MeshTruth(folder / "ball.ply")
    places = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = places.norm(dim=-1, keepdim=True) - RADIUS
    torch.testing.assert_close(truth.values(places), expected, rtol=0, atol=0.01)
    inside = MeshTruth(folder / "ball.ply", inside=True)
    assert torch.equal(inside.values(places) > 0.5, truth.values(places) < 0)
    assert truth.placement is not None
    centre = truth.placement.to_world(torch.zeros(1, 3, dtype=torch.float64))
    torch.testing.assert_close(centre, torch.tensor([[10.0, -5, 2]]).double(), rtol=0, atol=1e-4)


def test_held_out_pixels_are_never_learnt(folder: Path) -> None:
    truth = ImageTruth(folder / "waves.png")
    assert float(truth.held_out.float().mean()) == pytest.approx(1 / 8, abs=0.01)
    drawn = truth.draw(60_000, torch.Generator().manual_seed(0))
    kept = {tuple(place) for place in truth.at_pixels()[truth.held_out].tolist()}
    learnt = {tuple(place) for place in drawn.tolist()}
    assert not kept & learnt
    assert len(kept) + len(learnt) == 60 * 40  # and all others are


def test_a_picture_is_read_pixel_by_pixel(folder: Path) -> None:
    truth = ImageTruth(folder / "waves.png")
    places = truth.at_pixels()
    assert torch.equal(truth.values(places), truth.pixels.view(-1, 3))
    top_left, last = places[0], places[-1]
    assert top_left[0] < 0 < top_left[1]
    assert last[1] < 0 < last[0]
    assert float(places[:, 0].max()) == pytest.approx(1 - 1 / 60)


def test_what_a_field_knows_is_the_part_that_it_learnt(
    parents: dict[str, list[PointField]], folder: Path
) -> None:
    for kind, (left, right) in parents.items():
        for field, side in ((left, slice(0, RESOLUTION // 2 - 4)), (right, slice(-16, None))):
            knowledge = field.record.knowledge
            assert knowledge is not None
            assert (knowledge.views[side] == 255).all()
        assert (left.record.knowledge.views[-10:] == 0).all()
        solid = left.record.knowledge.solid
        truth = truth_of(kind, folder)
        if kind == "image":
            assert solid.all()
        else:
            share = float(solid[: len(solid) // 2].float().mean())
            volume = 4 / 3 * math.pi * RADIUS**3 / 8
            assert share == pytest.approx(volume, rel=0.1)
        assert score(left, truth, "left") != score(left, truth, "right")


def quality(scores: dict[str, float]) -> float:
    """Higher is better."""
    return scores["psnr"] if "psnr" in scores else scores["iou"]


@pytest.mark.parametrize("kind", ["sdf", "occupancy", "image"])
def test_parents_know_their_part_best(
    kind: str, parents: dict[str, list[PointField]], folder: Path
) -> None:
    truth = truth_of(kind, folder)
    left, right = parents[kind]
    for part, knows, guesses in (("left", left, right), ("right", right, left)):
        assert quality(score(knows, truth, part)) > quality(score(guesses, truth, part))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["sdf", "occupancy", "image"])
def test_methods_merge_what_they_do_not_know(
    kind: str, method: str, parents: dict[str, list[PointField]], folder: Path
) -> None:
    settings = {"steps": 150, "rays": 1024} if method == "distill" else {}
    result = memonf.merge(parents[kind], method, **settings)
    assert result.field.parameter_count() == parents[kind][0].parameter_count()
    truth = truth_of(kind, folder)
    merged = quality(score(result.field, truth))
    best = max(quality(score(parent, truth)) for parent in parents[kind])
    if method == "distill":
        assert merged > best
    if method == "least_squares":  # solved for what the parents say: better than no look at them
        plain = memonf.merge(parents[kind], "average").field
        assert merged > quality(score(plain, truth))


def test_a_distance_is_one_also_far_away(
    parents: dict[str, list[PointField]], folder: Path
) -> None:
    """A merge of distances, not of insides alone."""
    truth = truth_of("sdf", folder)
    merged = memonf.merge(parents["sdf"], "distill", steps=200, rays=1024).field
    scores = score(merged, truth)
    assert scores["error"] < 0.03
    assert scores["error"] < min(score(parent, truth)["error"] for parent in parents["sdf"])
    assert scores["chamfer"] < 0.03
    assert scores["error_near"] < 0.03


def test_sines_learn_too(folder: Path) -> None:
    truth = truth_of("image", folder)
    field = fit(truth, config=config("siren"), settings=SMALL)
    assert score(field, truth)["psnr"] > 25


def test_the_same_seed_gives_the_same_field(folder: Path) -> None:
    quick = dataclasses.replace(SMALL, steps=3)
    hashes = {
        content_hash(
            fit(truth_of("sdf", folder), config=config(), settings=dataclasses.replace(
                quick, seed=seed))
        )
        for seed in (1, 1, 2)
    }  # fmt: skip
    assert len(hashes) == 2


def test_an_interruption_changes_nothing(folder: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, steps=12)

    def fresh(**changes: int) -> Fitter:
        chosen = dataclasses.replace(settings, **changes)
        return Fitter(truth_of("sdf", folder), group="left", config=config(), settings=chosen)

    def interrupted(done: int) -> None:
        if done == 5:
            signal.raise_signal(signal.SIGINT)

    whole = train_to_file(fresh(), tmp_path / "whole.safetensors")
    out = tmp_path / "broken.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_to_file(fresh(), out, on_step=interrupted)
    assert state_path(out).exists()
    assert not out.exists()
    with pytest.raises(InputError, match="begun with `points` = 1024, now it is 99"):
        train_to_file(fresh(points=99), out, resume=True)
    steps: list[int] = []
    resumed = train_to_file(fresh(), out, resume=True, on_step=steps.append)
    assert steps[0] == 6
    assert content_hash(resumed) == content_hash(whole)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not state_path(out).exists()


def test_scores_are_of_the_right_kind(parents: dict[str, list[PointField]], folder: Path) -> None:
    with pytest.raises(InputError, match="is learnt by `image`, the field is `sdf`"):
        score(parents["sdf"][0], truth_of("image", folder))
    with pytest.raises(InputError, match="expected all, left"):
        score(parents["sdf"][0], truth_of("sdf", folder), "sideways")


@pytest.mark.parametrize("kind", ["sdf", "image"])
def test_pictures_show_them(
    kind: str, parents: dict[str, list[PointField]], folder: Path, tmp_path: Path
) -> None:
    draw(parents[kind][0], truth_of(kind, folder), tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    if kind == "image":
        truth = np.asarray(Image.open(folder / "waves.png")).astype(float)
        left = (picture.astype(float) - truth)[:, :25]
        assert np.sqrt((left**2).mean()) < 20
    else:
        assert (np.abs(picture.astype(int) - (209, 73, 91)).sum(-1) < 30).sum() > 100  # the truth


def test_from_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--steps", "40", "--width", "32", "--depth", "2", "--quiet"]
    ball, out = str(folder / "ball.ply"), str(tmp_path / "m.safetensors")
    files = []
    for group, seed in (("left", "1"), ("right", "2")):
        files.append(str(tmp_path / f"{group}.safetensors"))
        assert (
            main(["fit", ball, "--group", group, "--seed", seed, "--out", files[-1], *short]) == 0
        )
    assert main(["merge", *files, "--steps", "40", "--out", out, "--quiet"]) == 0
    assert "memonf score" in capsys.readouterr().out
    assert main(["score", out, "--truth", ball, "--png", str(tmp_path / "m.png")]) == 0
    said = capsys.readouterr().out
    assert "iou 0." in said
    assert "chamfer 0." in said
    assert (tmp_path / "m.png").exists()
    assert main(["export", out, "--out", str(tmp_path / "m.ply"), "--level", "0.6931",
                 "--resolution", "64"]) == 0  # fmt: skip
    mesh = trimesh.load(tmp_path / "m.ply")
    np.testing.assert_allclose(mesh.centroid, [10, -5, 2], atol=1.0)  # where the ball was
    assert main(["eval", out, "--data", "embedded:robot"]) == 2
    assert main(["train", "--data", "embedded:robot", "--field", "sdf", "--out", "x"]) == 2
    assert "train it with `memonf fit`" in capsys.readouterr().err


def test_broken_truths_are_refused(folder: Path, tmp_path: Path) -> None:
    opened = trimesh.load(folder / "ball.ply")
    opened.faces = opened.faces[:-5]
    opened.export(tmp_path / "open.ply")
    with pytest.raises(DataError, match="not watertight"):
        MeshTruth(tmp_path / "open.ply")
    (tmp_path / "broken.obj").write_text("v 1 2\nf 1 2 900\n")
    with pytest.raises(DataError):
        MeshTruth(tmp_path / "broken.obj")
    with pytest.raises(DataError, match=r"(?i)no such"):
        MeshTruth(tmp_path / "gone.obj")
    with pytest.raises(DataError, match=r"(?i)no such"):
        ImageTruth(tmp_path / "gone.png")
    with pytest.raises(InputError, match="expected sdf, occupancy or image"):
        open_truth(folder / "ball.ply", "nerf")
