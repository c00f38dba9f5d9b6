"""The command line from training to pictures on an embedded scene, and every user's mistake."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import SCENE, called, content_of, memonf
from conftest import ARCHITECTURES, small_field, write_little_scene
from PIL import Image

from memonf.cli import main
from memonf.fields import known
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import content_hash, load, save

VERBS = (
    "train", "merge", "eval", "render", "compare", "demo", "view", "scenes", "inspect", "doctor",
    "completion", "bench",
)  # fmt: skip
STEPS = ["--steps", "120", "--rays", "1024"]


def score(path: Path, capsys, group: str = "all") -> float:
    status, said = called(
        "eval", path, "--data", SCENE, "--group", group, "--most-views", "6", "--json", "--quiet",
        capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    return float(json.loads(said)["psnr"])


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("parents")
    paths = {}
    for seed, group in enumerate(("front", "rear"), 1):
        paths[group] = folder / f"{group}.safetensors"
        out = memonf(
            "train", "--data", SCENE, "--group", group, "--seed", str(seed), *STEPS,
            "--out", str(paths[group]), "--quiet", "--json",
        )  # fmt: skip
        assert json.loads(out)["steps_done"] == 120
    return paths


def test_parents_know_their_own_half_best(parents, capsys) -> None:
    front = score(parents["front"], capsys, "front")
    assert front > 19
    assert score(parents["rear"], capsys, "rear") > 19
    assert front > score(parents["rear"], capsys, "front") + 1


def test_merge_is_better_than_the_average(parents, tmp_path: Path, capsys) -> None:
    scores = {}
    for method in ("average", "weight_matching_repair", "activation_matching_repair"):
        out = tmp_path / f"{method}.safetensors"
        status, said = called(
            "merge", *parents.values(), "--method", method, "--seed", "0", "--out", out, "--json",
            capsys=capsys,
        )  # fmt: skip
        assert status == 0, said
        assert json.loads(said)["method"] == method
        scores[method] = score(out, capsys)
    assert max(scores.values()) > scores["average"] + 0.5
    assert max(scores.values()) > 15


def test_coefficients_and_three_parents(parents, tmp_path: Path, capsys) -> None:
    third = tmp_path / "third.safetensors"
    third.write_bytes(parents["front"].read_bytes())
    out = tmp_path / "three.safetensors"
    status, said = called(
        "merge", parents["front"], parents["rear"], third, "--method", "weight_matching",
        "--coefficients", "0.5", "0.25", "0.25", "--out", out, capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    status, said = called("inspect", out, "--json", capsys=capsys)
    assert status == 0, said
    lineage = json.loads(said)["lineage"]
    assert lineage["coefficients"] == [0.5, 0.25, 0.25]
    assert len(lineage["parents"]) == 3


@pytest.fixture(scope="module")
def orphans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Parents whose pictures are gone: a little scene, then removed."""
    folder = tmp_path_factory.mktemp("orphans")
    data = write_little_scene(folder / "scene.npz")
    before = signal.getsignal(signal.SIGTERM)
    paths = {group: folder / f"{group}.safetensors" for group in ("front", "rear")}
    for group, path in paths.items():
        args = ["train", "--data", str(data), "--group", group, "--steps", "60", "--rays", "512"]
        args += ["--width", "24", "--depth", "2", "--out", str(path), "--quiet"]
        assert main(args) == 0
    signal.signal(signal.SIGTERM, before)
    data.unlink()
    return paths


#: Runs the command and says on standard error which files it opened.
WATCHED = """
import sys
sys.addaudithook(lambda event, args: event == "open" and print("OPENED", args[0], file=sys.stderr))
from memonf.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_merge_looks_at_no_image(orphans, tmp_path: Path) -> None:
    out = tmp_path / "merged.safetensors"
    done = subprocess.run(
        [
            sys.executable, "-c", WATCHED, "merge", *map(str, orphans.values()), "--out", str(out),
            "--steps", "3", "--rays", "128", "--quiet",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    opened = {line.split()[1] for line in done.stderr.splitlines() if line.startswith("OPENED")}
    assert {str(path) for path in orphans.values()} <= opened
    assert not {name for name in opened if Path(name).suffix in (".npz", ".png", ".jpg", ".jpeg")}
    merged = load(out)
    assert merged.record.lineage["method"] == "distill"
    assert merged.record.group == "front + rear"
    assert len(merged.record.cameras) == 20
    assert merged.record.knowledge.seen_share > 0.5


def test_student_and_budget_can_be_chosen(orphans, tmp_path: Path, capsys) -> None:
    out = tmp_path / "merged.safetensors"
    status, said = called(
        "merge", *orphans.values(), "--out", out, "--budget", "1", "--student", "tiny_nerf",
        "--student-config", "width", "16", "frequencies", "3", "--json", "--quiet", capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    report = json.loads(said)
    assert report["seconds"] < 1 + 5
    assert report["distill"]["steps"] >= 1
    config = load(out).config
    assert (config.width, config.frequencies, config.depth) == (16, 3, 2)


def test_fields_trained_on_from_one_field_merge_by_what_they_learnt(tmp_path, capsys) -> None:
    start = tmp_path / "start.safetensors"
    quick = ["--data", SCENE, "--steps", "2", "--rays", "64", "--quiet"]
    status, said = called(
        "train", *quick, "--field", "nerf", "--width", "16", "--depth", "2", "--skips", "1",
        "--out", start, capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    paths = [tmp_path / f"{group}.safetensors" for group in ("front", "rear")]
    for path in paths:
        on = ["train", *quick, "--group", path.stem, "--start", start, "--out", path]
        status, said = called(*on, capsys=capsys)
        assert status == 0, said
        assert load(path).config == load(start).config
        assert load(path).record.training["initial_params"] == content_hash(load(start))
    status, said = called(*on, "--field", "nerf", "--width", "24", capsys=capsys)
    assert status == 2
    assert "`width` is 16, asked for is 24" in said
    out = tmp_path / "merged.safetensors"
    merge = ["merge", *paths, "--force", "--quiet", "--without-evidence", "--out", out]
    status, said = called(*merge, "--method", "task_arithmetic", capsys=capsys)
    assert status == 2
    assert "--ancestor FILE" in said
    step = ["--ancestor", start, "--strength", "0"]
    status, said = called(*merge, "--method", "task_arithmetic", *step, capsys=capsys)
    assert status == 0, said
    assert content_hash(load(out)) == content_hash(load(start))


def test_contradictory_parents_need_force(tmp_path: Path, capsys) -> None:
    paths = []
    for seed in (1, 2):
        field = small_field("tiny_nerf", seed)
        field.record = dataclasses.replace(field.record, knowledge=known(field))
        paths.append(tmp_path / f"{seed}.safetensors")
        save(field, paths[-1])
    out = tmp_path / "merged.safetensors"
    merge = ["merge", *paths, "--out", out, "--steps", "1", "--rays", "64", "--quiet"]
    status, said = called(*merge, capsys=capsys)
    assert status == 2
    assert said.startswith("memonf: error: parents 1 and 2 contradict each other: ")
    assert "--force" in said
    assert said.count("\n") == 1
    assert not out.exists()
    status, said = called(*merge, "--force", capsys=capsys)
    assert status == 0, said
    assert load(out).record.lineage["method"] == "distill"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "weight_matching"], "`width` is 16, parent 1 has 24; .* `distill`"),
        (["--student", "nerv", "--steps", "1", "--rays", "64"], "did you mean `nerf`"),
        (
            ["--student-config", "widht", "3", "--steps", "1", "--rays", "64"],
            "student: unknown config key `widht`; did you mean `width`",
        ),
    ],
)
def test_merges_that_cannot_be_get_one_line_and_status_2(
    options, message: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    narrow = ("tiny_nerf", TinyNerfConfig(width=16, depth=3, frequencies=4))
    monkeypatch.setitem(ARCHITECTURES, "narrow", narrow)
    paths = [tmp_path / "wide.safetensors", tmp_path / "narrow.safetensors"]
    for kind, path in zip(("tiny_nerf", "narrow"), paths, strict=True):
        save(small_field(kind), path)
    out = tmp_path / "merged.safetensors"
    status, said = called(
        "merge", *paths, "--out", out, *options, "--force", "--quiet", capsys=capsys
    )
    assert status == 2
    assert re.search(message, said)
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("suffix", ["gif", "webp", "mp4"])
def test_turntable(parents, tmp_path: Path, suffix: str, capsys) -> None:
    out = tmp_path / f"turn.{suffix}"
    status, said = called(
        "render", parents["front"], "--turntable", "--frames", "4", "--size", "33", "--out", out,
        "--quiet", capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    if suffix == "mp4":
        import av

        with av.open(str(out)) as film:
            frames = list(film.decode(video=0))
        assert (len(frames), frames[0].width, frames[0].height) == (4, 34, 34)
        return
    with Image.open(out) as film:
        assert (film.n_frames, film.size) == (4, (33, 33))
        first = np.asarray(film.convert("RGB")).astype(int)
        film.seek(2)
        assert np.abs(np.asarray(film.convert("RGB")) - first).mean() > 1  # it turns


def test_picture(parents, tmp_path: Path) -> None:
    out = tmp_path / "front.png"
    memonf("render", str(parents["front"]), "--size", "40", "--out", str(out))
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (40, 40, 3)
    assert pixels[:3].mean() > 240  # white background above
    assert pixels.std() > 20


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        memonf(
            "train", "--data", SCENE, "--group", "front", "--seed", "3", "--steps", "15",
            "--width", "32", "--rays", "128",
            "--out", str(tmp_path / f"{name}.safetensors"), "--quiet",
        )  # fmt: skip
    assert content_of(tmp_path / "a.safetensors") == content_of(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "unknown verb `trian`: did you mean `train`"),
        (["train", "--data", "nowhere", "--out", "x.safetensors"], "no such file or folder"),
        (["train", "--data", SCENE, "--group", "above", "--out", "x.safetensors"], "group: expec"),
        (["train", "--data", SCENE, "--out", "x.safetensors", "--steps", "0"], "--steps"),
        (
            ["train", "--data", SCENE, "--out", "x.safetensors", "--steps", "5", "--seconds", "5"],
            "give either steps or seconds",
        ),
        (["train", "--data", SCENE, "--out", "x.safetensors", "--width", "-3"], "--width"),
        (["train", "--data", SCENE, "--field", "nerv", "--out", "x"], "did you mean `nerf`"),
        (
            ["train", "--data", SCENE, "--start", "none.safetensors", "--out", "x.safetensors"],
            "none.safetensors: there is no such file",
        ),
        (
            ["train", "--data", SCENE, "--start", "x.safetensors", "--out", "x.safetensors"],
            "--out x.safetensors: is the file of `start` as well",
        ),
        (["eval", "gone.safetensors", "--data", SCENE], "there is no such file"),
        (["merge", "a.safetensors", "--method", "averag", "--out", "x"], "did you mean `average`"),
        (["render", "a.safetensors", "--out", "x.avi"], "expected .png, .gif"),
        (["compare", "--data", SCENE, "--out", "o", "--seeds", "0"], "--seeds: expected at least"),
        (
            ["compare", "--data", SCENE, "--out", "o", "--groups", "front", "left"],
            "groups: expected",
        ),
        (["eval", "a.safetensors", "--data", SCENE, "--device", "tpu"], "device `tpu`"),
    ],
)
def test_a_users_mistake_gets_one_line_and_status_2(
    args, message: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = called(*args, capsys=capsys)
    assert status == 2
    assert message in said
    assert list(tmp_path.iterdir()) == [] or args[0] == "compare"


def test_unwritable_output_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = memonf(
        "train", "--data", SCENE, "--out", str(tmp_path / "file" / "x.safetensors"), status=1
    )
    assert "cannot be written" in said
    said = memonf("train", "--data", SCENE, "--out", str(tmp_path), status=1)
    assert "is a folder" in said


def test_help_is_quick_and_names_every_verb() -> None:
    started = time.monotonic()
    said = memonf("--help")
    assert time.monotonic() - started < 5  # a hang, not a speed: speeds are benchmarks
    for verb in VERBS:
        assert f"\n  {verb} " in said
    assert "activation_matching_repair" in memonf("merge", "--help")


def test_import_is_light() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import memonf, sys; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert loaded.strip() == "False"
