"""``memonf compare``: everything is written, and nothing is trained twice."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from commands import SCENE, memonf

from memonf.cli import main
from memonf.cli.compare import quickened
from memonf.experiment import CompareSettings
from memonf.experiment.plan import Plan
from memonf.experiment.run import sorted_out
from memonf.utils.workers import Failure


def test_a_quick_experiment_is_short_and_otherwise_the_same() -> None:
    whole = CompareSettings(SCENE, seeds=3, methods=("average",), frames=5)
    quick = quickened(whole)
    assert (quick.train.steps, quick.most_views, quick.size) == (300, 8, 96)
    assert (quick.seeds, quick.methods, quick.frames) == (3, ("average",), 5)
    assert quick.distill_steps < whole.distill_steps


def test_quick_is_what_the_flag_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CompareSettings] = []
    monkeypatch.setattr(
        "memonf.cli.compare.run_compare", lambda settings, out, **_: asked.append(settings)
    )
    arguments = ["compare", "--data", SCENE, "--out", str(tmp_path / "o")]
    assert main(arguments) == 0
    assert main([*arguments, "--quick"]) == 0
    assert quickened(asked[0]) == dataclasses.replace(asked[1], command=asked[0].command)


def test_compare_writes_everything(tmp_path: Path, little_scene: Path) -> None:
    out = tmp_path / "compare"
    args = [
        "compare",
        "--data",
        str(little_scene),
        "--out",
        str(out),
        "--width",
        "24",
        "--depth",
        "2",
    ]
    args += ["--groups", "left", "right", "--steps", "60", "--rays", "512", "--quiet"]
    args += ["--most-views", "4", "--frames", "2", "--size", "24", "--curve-points", "3"]
    args += ["--workers", "1", "--methods", "average"]
    memonf(*args, "weight_matching_repair")
    content = json.loads((out / "scores.json").read_text())
    rows = content["rows"]
    assert set(rows[0]) == {"name", "method", "group", "seed", "psnr", "ssim"}
    timings = json.loads((out / "timings.json").read_text())
    assert {row["name"] for row in timings["rows"]} == {row["name"] for row in rows}
    assert all(row["seconds"] >= 0 for row in timings["rows"])
    names = {row["name"] for row in rows}
    plain = {"left", "right", "average", "weight_matching_repair"}
    yardsticks = {"joint", "oracle", "oracle_batch_norm", "blend", "blend_by_distance"}
    assert names == plain | {f"{name}_batch_norm" for name in plain} | yardsticks
    psnr = {(row["name"], row["group"]): row["psnr"] for row in rows}
    assert psnr["oracle", "left"] == psnr["left", "left"]
    assert psnr["oracle", "right"] == psnr["right", "right"]
    assert {row["group"] for row in rows} == {"left", "right", "all"}
    assert content["settings"]["train"]["seed"] == 0
    curves = json.loads((out / "curves.json").read_text())
    assert [len(curve["psnr"]) for curve in curves] == [3, 3]
    for name in ("scores.md", "curves.png", "reconstructions.png", "turntables.gif", "index.html"):
        assert (out / name).stat().st_size > 500, name
    assert len(list((out / "turntables").glob("*.webp"))) == len(names) - 2  # an oracle is no field
    page = (out / "index.html").read_text()
    assert "Turntable of joint" in page
    led_to = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(address.startswith(("data:", "#")) for address in led_to)  # opens offline
    # Called again, nothing is trained again.
    stamp = (out / "fields" / "pair0" / "left.safetensors").stat().st_mtime_ns
    less = [
        "--without-batch-norm",
        "--without-joint",
        "--without-yardsticks",
    ]
    memonf("compare", *less, *args[1:])
    assert (out / "fields" / "pair0" / "left.safetensors").stat().st_mtime_ns == stamp


def test_a_merge_that_fails_ends_no_other_and_the_next_call_does_what_is_missing(
    tmp_path: Path, little_scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parents without a common start cannot be merged by task arithmetic."""
    out = tmp_path / "compare"
    args = [
        "compare", "--data", str(little_scene), "--out", str(out), "--width", "16", "--depth", "2",
        "--steps", "20", "--rays", "256", "--initialization", "independent", "--frames", "0",
        "--curve-points", "0", "--most-views", "2", "--without-joint", "--without-yardsticks",
        "--without-batch-norm", "--workers", "1", "--quiet", "--methods", "average",
    ]  # fmt: skip
    assert main([*args, "task_arithmetic"]) == 1
    said = capsys.readouterr().err
    assert "failed: task_arithmetic 0: parent 2: trained from params" in said
    assert "1 jobs failed, listed above; what is finished is kept" in said
    content = json.loads((out / "scores.json").read_text())
    assert {row["name"] for row in content["rows"]} == {"front", "rear", "oracle", "average"}
    assert [one["job"] for one in content["failed"]] == ["task_arithmetic 0"]
    assert "FAILED: task_arithmetic 0" in (out / "index.html").read_text()
    fields = out / "fields" / "pair0"
    kept = {path: path.stat().st_mtime_ns for path in fields.iterdir()}
    assert main([*args, "weight_matching"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again = json.loads((out / "scores.json").read_text())
    names = {row["name"] for row in again["rows"]}
    assert names == {"front", "rear", "oracle", "average", "weight_matching"}
    assert [row for row in again["rows"] if row["name"] == "average"] == [
        row for row in content["rows"] if row["name"] == "average"
    ]


def test_a_field_whose_training_failed_is_not_looked_for(tmp_path: Path) -> None:
    """An older file may stand in its place."""
    settings = CompareSettings(SCENE, batch_norm=False, methods=("average",), curve_points=3)
    plan = Plan.of(settings, tmp_path)
    trained = [
        Failure(job.title, "no reason") if job.out.stem == "rear" else job.out
        for job in plan.training
    ]
    ready, stranded = sorted_out(plan, trained)
    assert {job.path.stem for job in ready if hasattr(job, "contender")} == {"front", "joint"}
    assert {one.title for one in stranded} >= {"rear 0", "average 0", "curve average"}
    assert all("needs `rear`" in one.reason for one in stranded)
