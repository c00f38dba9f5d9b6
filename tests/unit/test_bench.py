"""The benchmark's harness on fake sides with fixed figures, and that its references learn."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import small_field

import memonf
from memonf.cameras.cameras import turntable
from memonf.cli import main
from memonf.errors import MemonfError
from memonf.evaluation.metrics import psnr

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from cases.time_to_quality import learn, tiny_nerf_times  # noqa: E402
from harness import verb  # noqa: E402
from harness.case import CASES, Case, Options  # noqa: E402
from harness.figures import Claim, Figure, Measured, claimed, is_met, reaching  # noqa: E402
from harness.measuring import identity, measure  # noqa: E402
from harness.processes import FreshProcesses  # noqa: E402
from harness.scenes import area_mean, smaller  # noqa: E402
from harness.summary import case_summary, case_table  # noqa: E402
from reference import dense, tiny_nerf, usual_script  # noqa: E402


class Fake(Case):
    """Two sides whose figures are known: 2, 4, 3 seconds and 20, 60, 30 seconds."""

    name = "fake"
    title = "A fake"

    def __init__(self) -> None:
        self.ran: list[str] = []

    def settings(self, options: Options) -> dict[str, Any]:
        return {"data": "/somewhere/lego_100", "seed": options.seed}

    def sides(self, settings: dict[str, Any]) -> dict[str, Callable[..., Measured]]:
        def side(name: str, seconds: list[float]) -> Callable[..., Measured]:
            def run_side(run: object) -> Measured:
                self.ran.append(name)
                value = seconds[self.ran.count(name) - 1]
                curve = [{"seconds": value, "whole": value, "steps": 1, "psnr": 20.0}]
                return Measured({"time": Figure(value)}, curve, ["a note"])

            return run_side

        return {"ours": side("ours", [2, 4, 3]), "theirs": side("theirs", [20, 60, 30])}

    def claims(self) -> list[Claim]:
        return [Claim("time", "ours", "theirs", goal=8)]


def measured(case: Case, folder: Path, repeats: int, **options: Any) -> list[Any]:
    settings = case.settings(Options(Path("lego_100"), **options))
    run = FreshProcesses(folder, 1)
    return measure(case, settings, run, folder / "log.json", threads=1, repeats=repeats)


#: A module with one job: which process it is, and how it was set up.
WHO_RAN = """
import os, torch
from harness.processes import since_launch

def who_ran(number):
    return {"process": os.getpid(), "threads": torch.get_num_threads(), "number": number,
            "since": since_launch()}
"""


def test_sides_take_turns(tmp_path: Path) -> None:
    case = Fake()
    turns = measured(case, tmp_path, 3)
    assert case.ran == ["ours", "theirs"] * 3
    assert [(turn.round, turn.side) for turn in turns] == [
        (number, side) for number in range(3) for side in ("ours", "theirs")
    ]


def test_what_is_measured_is_kept_under_the_same_settings_only(tmp_path: Path) -> None:
    measured(Fake(), tmp_path, 2)
    again = Fake()
    assert len(measured(again, tmp_path, 2)) == 4
    assert again.ran == []
    further = Fake()
    assert len(measured(further, tmp_path, 3)) == 6
    assert further.ran == ["ours", "theirs"]
    other = Fake()
    measured(other, tmp_path, 2, seed=1)
    assert other.ran == ["ours", "theirs"] * 2


def test_a_run_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    class Broken(Fake):
        def sides(self, settings: dict[str, Any]) -> dict[str, Callable[..., Measured]]:
            def fail(run: object) -> Measured:
                raise KeyboardInterrupt

            return super().sides(settings) | {"theirs": fail}

    with pytest.raises(KeyboardInterrupt):
        measured(Broken(), tmp_path, 1)
    case = Fake()
    measured(case, tmp_path, 1)
    assert case.ran == ["theirs"]


def test_each_job_has_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs_of_a_test.py").write_text(WHO_RAN)
    monkeypatch.syspath_prepend(tmp_path)
    job = importlib.import_module("jobs_of_a_test").who_ran
    run = FreshProcesses(tmp_path, 1)
    plain = run.environment()
    monkeypatch.setattr(
        run, "environment",
        lambda: plain | {"PYTHONPATH": os.pathsep.join([plain["PYTHONPATH"], str(tmp_path)])},
    )  # fmt: skip
    first, second = (run(job, number=number) for number in (5, 6))
    assert len({first["process"], second["process"], os.getpid()}) == 3
    assert (first["number"], second["number"], first["threads"]) == (5, 6, 1)
    assert 0 < first["since"] < 600
    with pytest.raises(MemonfError, match=r"who_ran failed: TypeError.*number"):
        run(job)


def test_medians_ranges_and_ratios(tmp_path: Path) -> None:
    case = Fake()
    turns = measured(case, tmp_path, 3)
    same = identity(case, case.settings(Options(Path("lego_100"))), 1)
    summary = json.loads(json.dumps(case_summary(case, same, turns)))
    own = summary["sides"]["ours"]["time"]
    assert (own["median"], own["least"], own["most"], own["values"]) == (3, 2, 4, [2, 4, 3])
    (claim,) = summary["claims"]
    assert claim["reached"]["median"] == 10
    assert claim["reached"]["values"] == [10, 15, 10]
    assert claim["met"] is True
    assert set(summary) == {
        "case", "title", "settings", "threads", "code", "rounds", "load", "sides", "claims",
        "curves", "notes",
    }  # fmt: skip
    assert summary["settings"]["data"] == "lego_100"  # no folder of this machine
    assert len(summary["curves"]["theirs"]) == 3
    text = case_table(summary)
    assert text.startswith(
        "### A fake\n\n| | time, s |\n|---|---:|\n| ours | 3.00 (2.00 to 4.00) |"
    )
    assert "| time: theirs / ours | 10.0 × | 10.0 to 15.0 | ≥ 8 | met |" in text
    assert "\na note" in text


def test_bounds_stay_bounds() -> None:
    ratio, goal = Claim("time", "ours", "theirs"), 8.0
    bound = claimed(ratio, [Figure(2)], [Figure(20, kind="at least")])
    assert (bound.median, bound.kind) == (10, "at least")
    assert is_met(goal, bound) is True
    assert is_met(20.0, bound) is None
    bound = claimed(ratio, [Figure(2, kind="at least")], [Figure(20)])
    assert bound.kind == "at most"
    assert is_met(goal, bound) is None
    assert is_met(20.0, bound) is False
    both = claimed(ratio, [Figure(2, kind="at least")], [Figure(20, kind="at least")])
    assert both.kind == "unknown"
    loss = Claim("PSNR", "ours", "theirs", by="difference")
    assert claimed(loss, [Figure(20, "dB")], [Figure(21, "dB")]).median == -1
    assert claimed(loss, [Figure(20)], [Figure(21, kind="at least")]).kind == "at most"


def test_time_to_a_quality_is_interpolated_in_the_logarithm() -> None:
    curve = [(1.0, 10.0), (4.0, 20.0), (16.0, 22.0)]
    assert reaching(curve, 15.0) == Figure(2.0)
    assert reaching(curve, 21.0) == Figure(8.0)
    assert reaching(curve, 9.0) == Figure(1.0, kind="at most")
    assert reaching(curve, 23.0) == Figure(16.0, kind="at least")


def test_tiny_nerf_is_extrapolated_until_its_own_curve_says_more() -> None:
    figures = tiny_nerf_times(10.0, []).figures
    assert figures["to 22.7 dB"] == Figure(10_000.0, kind="extrapolated")
    assert figures["to 25 dB"] == Figure(10_000.0, kind="at least")

    def points(*scores: float) -> list[dict[str, float]]:
        return [
            {"seconds": 1000.0 * 2**n, "whole": 1000.0 * 2**n, "steps": 100 * 2**n, "psnr": score}
            for n, score in enumerate(scores)
        ]

    assert tiny_nerf_times(10.0, points(15.0, 16.0)).figures["to 22.7 dB"].kind == "extrapolated"
    reached = tiny_nerf_times(10.0, points(22.0, 23.4)).figures
    assert reached["to 22.7 dB"] == Figure(pytest.approx(1000 * 2**0.5))
    assert reached["to 25 dB"] == Figure(2000.0, kind="at least")


def test_every_case_says_what_it_is(tmp_path: Path) -> None:
    assert {"time_to_quality_lego", "rendering", "merging"} <= set(CASES)
    for quick in (True, False):
        options = Options(tmp_path, quick=quick)
        for name in CASES:
            case = CASES[name]()
            sides = case.sides(case.settings(options))
            assert case.title
            assert sides
            for claim in case.claims():
                assert {claim.ours, claim.theirs or claim.ours} <= set(sides)


def test_the_verb_writes_json_tables_and_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "picked_cases", lambda options, tell: [Fake()])
    assert main(["bench", "--out", str(tmp_path), "--repeats", "3", "--threads", "1"]) == 0
    document = json.loads((tmp_path / "speed.json").read_text())
    assert set(document) == {"command", "machine", "versions", "cases"}
    assert {"cpu", "cores", "memory"} <= set(document["machine"])
    assert document["versions"]["memonf"] == memonf.__version__
    assert str(tmp_path) not in (tmp_path / "speed.md").read_text()
    assert (tmp_path / "speed.png").exists()
    assert "met          fake: time: theirs / ours: 10.0 ×, goal 8" in capsys.readouterr().out


def test_tables_and_curves_go_to_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Extrapolated(Fake):
        def sides(self, settings: dict[str, Any]) -> dict[str, Callable[..., Measured]]:
            points = [{"seconds": 50.0, "whole": 60.0, "steps": 5, "psnr": 15.0}]
            return super().sides(settings) | {"tiny": lambda run: tiny_nerf_times(10.0, points)}

    page = tmp_path / "docs/research/speed.md"
    page.parent.mkdir(parents=True)
    page.write_text("above\n<!-- speed: begin -->\nold\n<!-- speed: end -->\nbelow\n")
    monkeypatch.setattr(verb, "BENCH", tmp_path / "bench")
    monkeypatch.setattr(verb, "picked_cases", lambda options, tell: [Extrapolated()])
    monkeypatch.syspath_prepend(ROOT / "scripts")
    out = str(tmp_path / "out")
    assert main(["bench", "--out", out, "--repeats", "1", "--threads", "1", "--docs"]) == 0
    text = page.read_text()
    assert text.startswith("above\n<!-- speed: begin -->\n### A fake\n")
    assert text.endswith("\n<!-- speed: end -->\nbelow\n")
    assert "| tiny |  | ≈ 10000 | ≥ 10000 | 10.0 |" in text
    assert "old" not in text
    curves = json.loads((tmp_path / "docs/images/speed.json").read_text())
    assert curves["fake"]["tiny"][0][0]["psnr"] == 15.0
    assert (tmp_path / "docs/images/speed.png").exists()


def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path)]
    for args, words in (
        (["--cases", "renderin"], "did you mean `rendering`"),
        (["--repeats", "0"], "--repeats: expected at least 1"),
        (["--data", str(tmp_path / "lego")], "there is no such folder"),
        (["--quick", "--docs"], "mean nothing"),
    ):
        assert main(["bench", *out, *args]) == 2
        assert words in capsys.readouterr().err


def test_outside_a_checkout_the_verb_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("memonf.cli.bench.FOLDER", tmp_path)
    assert main(["bench", "--quick"]) == 2
    assert "clone the repository" in capsys.readouterr().err


def test_smaller_pictures_are_area_means(robot: memonf.Scene) -> None:
    pixels = torch.tensor([[[[200, 0, 0, 255], [99, 99, 99, 0]]] * 2], dtype=torch.uint8)
    assert area_mean(pixels, 1).flatten().tolist() == [200, 0, 0, 128]
    small = smaller(robot, 10).split("test")
    assert small.images.shape[1:] == (10, 10, 4)
    assert small.cameras.distinct_sizes == [(10, 10)]


@pytest.mark.parametrize(("script", "steps"), [(tiny_nerf, 40), (usual_script, 40)])
def test_the_references_learn(
    script: Any, steps: int, robot: memonf.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "WIDTH", 64)
    monkeypatch.setattr(script, "RATE", 5e-3)
    monkeypatch.setattr(script, "RAYS", 64, raising=False)
    scene = smaller(robot, 8)
    learner, twin = script.build(scene, 0), script.build(scene, 0)
    losses = [learner.step() for _ in range(steps)]
    assert twin.step() == losses[0]
    assert sum(losses[-8:]) < 0.5 * sum(losses[:8])
    picture = learner.render(scene.split("test").cameras, 0)
    assert picture.shape == (8, 8, 3)
    assert picture.isfinite().all()
    assert float(picture.min()) >= 0
    assert float(picture.max()) <= 1 + 1e-5


def test_a_script_is_scored_on_its_way_with_the_clock_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usual_script, "WIDTH", 16)
    monkeypatch.setattr(usual_script, "RAYS", 16)
    monkeypatch.setenv("MEMONF_BENCH_LAUNCHED", str(time.time()))
    found = learn(
        "usual_script", "embedded:robot", 8, seed=0, views=2, seconds=None, steps=8, scored=True
    )
    assert [point["steps"] for point in found["curve"]] == [1, 2, 4, 8]
    seconds = [point["seconds"] for point in found["curve"]]
    assert seconds == sorted(seconds)
    assert all(point["whole"] > point["seconds"] for point in found["curve"])
    assert 0 < found["step"] <= seconds[-1]


def test_tiny_nerf_has_the_shape_of_the_notebook() -> None:
    network = tiny_nerf.Network()
    columns = [layer.in_features for layer in network.layers]
    assert columns == [39, 256, 256, 256, 256, 256 + 39, 256, 256]
    assert all(layer.out_features == 256 for layer in network.layers)


def test_dense_pictures_are_those_of_the_renderer() -> None:
    field = small_field("nerf")
    cameras = turntable(4, 12, 4.0, torch.zeros(3))
    ours = memonf.Renderer.of(field).view(cameras, 0).rgb
    many = dense.render(field, cameras, 0, samples=512)
    blank = torch.ones_like(many)
    assert psnr(ours, many) > psnr(blank, many) + 10
