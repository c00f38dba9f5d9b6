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
    args += ["--methods", "average", "weight_matching_repair", "--workers", "1"]
    memonf(*args)
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
        "--methods",
        "average",
    ]
    memonf(*args, *less)
    assert (out / "fields" / "pair0" / "left.safetensors").stat().st_mtime_ns == stamp
