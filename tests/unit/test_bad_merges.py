"""Bad input to a merge, on the command line and in Python: each is refused in a line, or right."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import signal
import weakref
from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES, small_field

from memonf.cli import main
from memonf.errors import InputError, MergeError
from memonf.fields import Field, known
from memonf.fields.nerf import NerfConfig
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import content_hash, load, save
from memonf.merging import merge
from memonf.merging.parents import RESIDENT

AVERAGE = ("--method", "average")


def called(*args: str | Path, capsys) -> tuple[int, str]:
    """Run the command in this process: status, and what `memonf` returns."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        status = main([str(arg) for arg in args])
    except SystemExit as error:  # tyro's own mistakes
        status = int(error.code or 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr()
    return status, said.out if status == 0 else said.err


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Files of two small fields."""
    files = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(files, 1):
        save(small_field("tiny_nerf", seed), path)
    return files


def refused(message: str, *args: str | Path, capsys, out: Path) -> None:
    """The command refuses in one line, with status 2, and writes nothing."""
    status, said = called(*args, "--out", out, "--quiet", capsys=capsys)
    assert status == 2, said
    assert said.startswith("memonf: error: ")
    assert said.count("\n") == 1
    assert message in said
    assert not out.exists()


TINY = {"width": 24, "depth": 3, "frequencies": 4}
NERF = {"width": 24, "depth": 2, "frequencies": 4, "view_width": 12}
#: What differs from the first parent, and its message.
UNLIKE = {
    "depth": (TINY, TINY | {"depth": 2}, "`depth` is 2, parent 1 has 3"),
    "width": (TINY, TINY | {"width": 16}, "`width` is 16, parent 1 has 24"),
    "activation": (TINY, TINY | {"activation": "tanh"}, "`activation` is 'tanh', parent 1 has"),
    "encoding": (TINY, TINY | {"frequencies": 5}, "`frequencies` is 5, parent 1 has 4"),
    "skips": (TINY, TINY | {"skips": (2,)}, "`skips` is (2,), parent 1 has ()"),
    "norm": (TINY, TINY | {"batch_norm": True}, "`batch_norm` is True, parent 1 has False"),
    "input": (NERF, NERF | {"include_input": True}, "`include_input` is True, parent 1 has"),
    "directions": (NERF, NERF | {"direction_frequencies": 1}, "`direction_frequencies` is 1, "),
    "architecture": (TINY, NERF, "architecture `nerf`, parent 1 is `tiny_nerf`"),
}


def made(config: dict[str, object], seed: int, monkeypatch) -> Field:
    name, cls = ("nerf", NerfConfig) if "view_width" in config else ("tiny_nerf", TinyNerfConfig)
    monkeypatch.setitem(ARCHITECTURES, "made", (name, cls(**config)))
    return small_field("made", seed)


@pytest.mark.parametrize("what", list(UNLIKE))
def test_parents_that_are_not_alike(what: str, tmp_path: Path, capsys, monkeypatch) -> None:
    ours, theirs, message = UNLIKE[what]
    fields = [made(ours, 1, monkeypatch), made(theirs, 2, monkeypatch)]
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for field, path in zip(fields, files, strict=True):
        save(field, path)
    for method in ("average", "weight_matching"):
        refused(message, "merge", *files, "--method", method, capsys=capsys, out=tmp_path / "o")
        with pytest.raises(MergeError) as caught:
            merge(fields, method)
        assert message in str(caught.value)
        assert "`distill`, which takes parents of any kind" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["0.7", "0.7"], "coefficients: expected a sum of 1, received 1.4"),
        (["0", "0"], "coefficients: expected a sum of 1, received 0"),
        (["nan", "1"], "coefficients: expected numbers in [0, 1], received [nan, 1.0]"),
        (["inf", "0"], "coefficients: expected numbers in [0, 1], received [inf, 0.0]"),
        (["-0.5", "1.5"], "coefficients: expected numbers in [0, 1], received [-0.5, 1.5]"),
        (["1"], "coefficients: expected 2 numbers (one per parent), received 1"),
        (["0.5", "0.25", "0.25"], "coefficients: expected 2 numbers (one per parent), received 3"),
    ],
)
def test_coefficients_that_weigh_nothing(given, message: str, paths, tmp_path, capsys) -> None:
    refused(
        message, "merge", *paths, *AVERAGE, "--coefficients", *given,
        capsys=capsys, out=tmp_path / "out",
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        merge(paths, "average", coefficients=[float(share) for share in given])
    assert message in str(caught.value)


def test_fewer_than_two_parents(paths, tmp_path: Path, capsys) -> None:
    message = "a merge needs two or more parents, received"
    refused(f"{message} 1", "merge", paths[0], *AVERAGE, capsys=capsys, out=tmp_path / "out")
    refused(f"{message} 0", "merge", *AVERAGE, capsys=capsys, out=tmp_path / "out")
    for parents in ([], paths[:1]):
        with pytest.raises(MergeError, match=message):
            merge(parents, "average")


def test_one_file_given_twice_needs_force(paths, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out.safetensors"
    (tmp_path / "link.safetensors").symlink_to(paths[0])
    for again in (paths[0], Path("1.safetensors"), tmp_path / "link.safetensors"):
        message = f"parents 1 and 3 are the same file, {again}; name each once, or force"
        refused(message, "merge", *paths, again, *AVERAGE, capsys=capsys, out=out)
    status, said = called(
        "merge", paths[0], paths[0], *AVERAGE, "--force", "--out", out, "--without-evidence",
        capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    assert content_hash(load(out)) == content_hash(load(paths[0]))


def test_equal_parents_are_legal(paths, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.safetensors"
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(paths[0].read_bytes())
    status, said = called(
        "merge", paths[0], copied, *AVERAGE, "--out", out, "--without-evidence", capsys=capsys
    )
    assert status == 0, said
    field = load(paths[0])
    for parents in ([field, field], [field, copy.deepcopy(field)], [paths[0], paths[0]]):
        for method in ("average", "weight_matching"):
            merged = merge(parents, method).field
            assert content_hash(merged) == content_hash(field)
    assert content_hash(load(out)) == content_hash(field)


@pytest.mark.parametrize("method", ["average", "weight_matching"])
def test_fifty_parents(method: str, tmp_path: Path, capsys, monkeypatch) -> None:
    fields = [
        made({"width": 8, "depth": 2, "frequencies": 2}, seed, monkeypatch) for seed in range(50)
    ]
    files = [tmp_path / f"{number}.safetensors" for number in range(50)]
    for field, path in zip(fields, files, strict=True):
        save(field, path)
    alive: list[weakref.ref[Field]] = []
    most = 0

    def counting_load(path: Path, device: str = "cpu") -> Field:
        nonlocal most
        field = load(path, device)
        alive.append(weakref.ref(field))
        if sum(one() is not None for one in alive) > RESIDENT:
            gc.collect()  # a network in a reference cycle is let go of, but not gone
        most = max(most, sum(one() is not None for one in alive))
        return field

    monkeypatch.setattr("memonf.merging.parents.load", counting_load)
    out = tmp_path / "out.safetensors"
    status, said = called(
        "merge", *files, "--method", method, "--out", out, "--without-evidence", "--json",
        capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    report = json.loads(said)
    assert report["coefficients"] == [0.02] * 50
    assert report["seconds"] < 60  # a hang, not a speed
    assert most == RESIDENT
    merged = load(out)
    assert len(merged.record.cameras) == 200
    assert len(merged.record.lineage["recipe"]["parents"]) == 50
    if method == "average":
        mean = torch.stack([field.head.weight.detach().double() for field in fields]).mean(0)
        assert torch.allclose(merged.head.weight.double(), mean, atol=1e-6)
    assert merged.parameter_count() == fields[0].parameter_count()


def test_files_that_are_no_parents(paths, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    for bad, message in (
        (tmp_path / "gone.safetensors", "gone.safetensors: there is no such file"),
        (tmp_path, f"{tmp_path}: cannot be read: Is a directory"),
        (text, "notes.txt: not a whole safetensors file"),
        (Path(), ".: cannot be read: Is a directory"),
    ):
        for parents in ([paths[0], bad], [bad, paths[0]]):
            refused(message, "merge", *parents, *AVERAGE, capsys=capsys, out=out)
            with pytest.raises(InputError) as caught:
                merge(parents, "average")
            assert message in str(caught.value)


def test_a_missing_folder_is_made_and_a_bad_one_is_named(paths, tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "deep" / "out.safetensors"
    status, said = called(
        "merge", *paths, *AVERAGE, "--out", out, "--without-evidence", capsys=capsys
    )
    assert status == 0, said
    assert load(out).record.lineage["method"] == "average"
    for bad, message in (
        (tmp_path, "is a folder; name a file in it"),
        (paths[0] / "out.safetensors", "cannot be written"),
    ):
        status, said = called("merge", *paths, *AVERAGE, "--out", bad, "--quiet", capsys=capsys)
        assert (status, said.count("\n")) == (1, 1)
        assert message in said
    before = paths[1].read_bytes()
    status, said = called("merge", *paths, *AVERAGE, "--out", paths[1], "--quiet", capsys=capsys)
    assert status == 2
    assert "is the file of `parents` as well" in said
    assert paths[1].read_bytes() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--method", "averag"], "unknown merge method `averag`: did you mean `average`"),
        (["--method", "least_squares", "--points", "1"], "--points: Input should be greater than"),
        (["--method", "least_squares", "--free-share", "2"], "--free-share: Input should be less"),
        (
            ["--method", "least_squares", "--ridge", "nan"],
            "--ridge: Input should be a finite number",
        ),
        (["--method", "average", "--seed", str(1 << 64)], "--seed: expected at least -46"),
    ],
)
def test_methods_and_settings_that_are_none(args, message: str, paths, tmp_path, capsys) -> None:
    refused(message, "merge", *paths, *args, capsys=capsys, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("averag", {}, "did you mean `average`"),
        ("average", {"points": 3}, "`average`: unknown setting `points`; it has no settings"),
        ("least_squares", {"rigde": 1.0}, "unknown setting `rigde`; did you mean `ridge`"),
        ("least_squares", {"points": 1}, "setting `points`: .* equal to 2, received 1"),
        ("average", {"seed": 1 << 64}, "seed: expected a whole number of 64 bits"),
    ],
)
def test_the_same_in_python(method: str, settings, message: str, paths) -> None:
    with pytest.raises(InputError, match=message):
        merge(paths, method, **settings)


def test_contradicting_parents_in_python_need_force() -> None:
    fields = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    for field in fields:
        field.record = dataclasses.replace(field.record, knowledge=known(field))
    with pytest.raises(MergeError, match="parents 1 and 2 contradict each other"):
        merge(fields, "average")
    merge(fields, "average", force=True)
