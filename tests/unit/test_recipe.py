"""Recipes: what is read, what is refused, and that a merged file tells how it was made."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import time
from pathlib import Path

import pytest
import yaml
from conftest import small_field

import memonf
from memonf.cli import main
from memonf.errors import InputError
from memonf.io.checkpoint import load, save
from memonf.merging import METHODS
from memonf.merging.recipe import Recipe, read_recipe, recorded_recipe

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two parents."""
    for seed, name in ((1, "front"), (2, "rear")):
        save(small_field("tiny_nerf", seed), tmp_path / f"{name}.safetensors")
    return tmp_path


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "merge.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


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


PARENTS = "parents: [front.safetensors, rear.safetensors]\n"
FULL = (
    PARENTS
    + """\
method: activation_matching_repair
coefficients:
  layers.0.*: [0.7, 0.3]
  head.*: [2e-1, 8e-1]
  default: [0.5, 0.5]
settings: {points: 256, free_share: 5e-1}
seed: 3
force: true
out: results/merged.safetensors
"""
)


def test_a_recipe_is_read_and_its_paths_are_those_of_its_folder(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, FULL))
    assert recipe == Recipe(
        parents=(tmp_path / "front.safetensors", tmp_path / "rear.safetensors"),
        method="activation_matching_repair",
        coefficients={"layers.0.*": (0.7, 0.3), "head.*": (0.2, 0.8), "default": (0.5, 0.5)},
        settings={"points": 256, "free_share": 0.5},
        seed=3,
        force=True,
        out=tmp_path / "results" / "merged.safetensors",
    )
    assert list(recipe.coefficients) == ["layers.0.*", "head.*", "default"]
    assert read_recipe(written(tmp_path, PARENTS)) == Recipe(recipe.parents)


def test_numbers_are_read_as_in_json(tmp_path: Path) -> None:
    for spelling in ("1e-3", "1E-3", "0.001", ".001", "+1.0e-3"):
        recipe = read_recipe(
            written(tmp_path, f"method: least_squares\nsettings: {{ridge: {spelling}}}")
        )
        assert recipe.settings["ridge"] == 0.001
        assert isinstance(recipe.settings["ridge"], float)
    for octal in ("010", "0x10", "1:30", "1_000"):  # as YAML 1.1 has it, or older
        text = f"method: least_squares\nsettings: {{points: {octal}}}"
        with pytest.raises(InputError, match=f"setting `points`: .*, received '{octal}'"):
            read_recipe(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a recipe with keys parents, method"),
        ("# nothing\n", "is empty"),
        ("- a\n- b\n", r"expected a mapping with keys .*, received \['a', 'b'\]"),
        ("front.safetensors", "expected a mapping"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "not a text in UTF-8"),
        (b"abc: \x00\x01", "not a text: special characters"),
        ("a" * (1 << 18) + "aa", "longer than 262144 bytes"),
        ("[" * 20_000, "nested too deeply"),
        ("seed: " + "9" * 5000, "numbers too long"),
        ("seed: 1\nmethod: [average\n", "line 3: not a recipe: expected ',' or"),
        ("seed: 1\n---\nseed: 2\n", "line 2: not a recipe: .*another document"),
        ("a: &x [1]\nb: *x\n", r"line 1: not a recipe: anchors and aliases"),
        ("seed: 1\nb: *x\n", r"line 2: not a recipe: anchors and aliases"),
        ("seed: !!python/object/apply:os.system [ls]", "line 1: not a recipe: tags"),
        ("seed: 1\nseed: 2\n", "line 2: not a recipe: key `seed` is given twice"),
        ("coefficients:\n  a: [1]\n  a: [1]\n", "line 3: not a recipe: key `a` is given twice"),
        ("seed: 1\n1: 2\n", "line 2: not a recipe: expected a text as key, received 1"),
        ("? [a]\n: 2\n", "expected a text as key, received a list"),
        ("seed: 1\nparnets: []\n", "line 2: unknown key `parnets`; did you mean `parents`"),
        ("<<: {seed: 1}\n", "unknown key `<<`"),
        ("parents: front.safetensors\n", "line 1: `parents`: expected a list of field files, rec"),
        ("parents: [1, 2]\n", "`parents`: expected a list of field files"),
        ('parents: ["a\\0b", c]\n', "`parents`: expected a list of field files"),
        ("seed: 1.5\n", "`seed`: expected a whole number, received 1.5"),
        ("seed: '1'\n", "`seed`: expected a whole number, received '1'"),
        ("seed: true\n", "`seed`: expected a whole number, received True"),
        ("seed:\n", "`seed`: expected a whole number, received None"),
        ("force: yes\n", "`force`: expected true or false, received 'yes'"),
        ("force: 1\n", "`force`: expected true or false, received 1"),
        ("out: [a]\n", "`out`: expected the name of a field file"),
        ("method: 3\n", "`method`: expected the name of a merge method"),
        ("seed: 1\nmethod: averag\n", "line 2: unknown merge method `averag`: did you mean `aver"),
        ("settings: [a]\n", "`settings`: expected a mapping"),
        ("method: average\nsettings: {points: 3}\n", "line 2: `average`: unknown setting `points`"),
        ("method: least_squares\nsettings:\n  rigde: 1\n", "line 2: .*did you mean `ridge`"),
        ("method: least_squares\nsettings: {points: 1}\n", "line 2: .*`points`: .*equal to 2"),
        ("method: least_squares\nsettings: {points: many}\n", "setting `points`"),
        ("method: least_squares\nsettings: {points: '64'}\n", "setting `points`: .*received '64'"),
        ("method: least_squares\nsettings: {points: true}\n", "setting `points`: "),
        ("settings: {budget: .inf}\n", "line 1: `distill`: setting `budget`: .* a finite number"),
        ("coefficients: 0.5\n", "line 1: `coefficients`: expected a list of numbers, or a mapping"),
        ("coefficients: [a, b]\n", "`coefficients`: expected a list of numbers"),
        ("coefficients: ['0.5', '0.5']\n", "`coefficients`: expected a list of numbers"),
        ("coefficients: [true, false]\n", "`coefficients`: expected a list of numbers"),
        ("coefficients: {head.*: 1}\n", "`coefficients`: expected a list of numbers"),
        (PARENTS + "coefficients: [.nan, 1]\n", r"line 2: coefficients: expected numbers in \[0"),
        (PARENTS + "coefficients: [.inf, 1]\n", r"line 2: coefficients: expected numbers in \[0"),
        (PARENTS + "coefficients: [1e999, 1]\n", r"line 2: coefficients: expected numbers in"),
        (PARENTS + "coefficients: {head.*: [.nan, 1]}\n", r"coefficients `head.\*`: expected num"),
        (PARENTS + "coefficients: [1]\n", "expected 2 numbers .one per parent., received 1"),
        (PARENTS + "coefficients: [0.7, 0.7]\n", "expected a sum of 1, received 1.4"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_gets_one_line(text, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.yaml: cannot be read: No such file"):
        read_recipe(tmp_path / "gone.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_recipe(tmp_path)


def test_the_longest_recipe_does_not_take_forever(tmp_path: Path) -> None:
    text = "coefficients:\n" + "".join(f"  a{n}: [0.5, 0.5]\n" for n in range(12_000))
    started = time.monotonic()
    read_recipe(written(tmp_path, text))
    assert time.monotonic() - started < 60  # a hang, not a speed


def test_as_yaml_is_read_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    recipes = [
        Recipe(),
        read_recipe(written(tmp_path, FULL)),
        Recipe(
            # Names that YAML could take for something else.
            parents=tuple(map(Path, ("1e-3", "010", "true", "null", "é: #", "*a", "yes", "<<"))),
            method="distill",
            coefficients=(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3),
            settings={"steps": 7, "budget": None, "student_config": {"width": 96}},
            seed=-(2**40),
        ),
        Recipe(coefficients=(1e-5, 1 - 1e-5), parents=(Path("a"), Path("b" * 300))),
    ]
    for recipe in recipes:
        text = recipe.as_yaml()
        back = read_recipe(written(tmp_path, text))
        assert dataclasses.replace(back, parents=(), out=None) == dataclasses.replace(
            recipe, parents=(), out=None
        )
        assert back.parents == tuple(tmp_path / parent for parent in recipe.parents)
        if isinstance(recipe.coefficients, dict):
            assert list(back.coefficients) == list(recipe.coefficients)
        assert recipe.as_yaml() == text


def test_recipes_are_frozen_and_refuse_unknown_keys() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="sede"):
        Recipe(sede=3)  # type: ignore[call-arg]


def test_a_recipe_runs_in_python(folder: Path) -> None:
    recipe = memonf.read_recipe(written(folder, FULL))
    result = recipe.run()
    by_hand = memonf.merge(
        recipe.parents, "activation_matching_repair", coefficients=recipe.coefficients, seed=3,
        force=True, points=256, free_share=0.5,
    )  # fmt: skip
    assert result.report["parents"] == by_hand.report["parents"]
    for name, tensor in by_hand.field.state_dict().items():
        assert (result.field.state_dict()[name] == tensor).all()
    assert load(recipe.out).record.lineage == result.field.record.lineage
    assert not (folder / "other").exists()
    dataclasses.replace(recipe, out=None, method="average", settings={}).run()


@pytest.mark.parametrize(
    "text",
    [
        FULL,
        PARENTS + "method: weight_matching\nout: merged.safetensors\n",
        PARENTS + "settings: {steps: 2, rays: 64, student_config: {width: 12}}\nforce: true\n"
        "out: merged.safetensors\n",
    ],
)
def test_a_merged_file_tells_its_recipe_and_running_it_gives_the_same_bytes(
    text: str, folder: Path, capsys
) -> None:
    path = written(folder, text)
    quick = ("--quiet", "--without-evidence")
    status, said = called("merge", "--recipe", path, *quick, capsys=capsys)
    assert status == 0, said
    merged = read_recipe(path).out
    kept = load(merged).record.lineage["recipe"]
    assert set(kept) == {"parents", "method", "coefficients", "settings", "seed", "force"}
    assert kept["parents"] == ["front.safetensors", "rear.safetensors"]
    assert str(folder) not in json.dumps(kept)
    status, said = called("inspect", merged, "--json", capsys=capsys)
    assert json.loads(said)["lineage"]["recipe"] == kept

    again = folder / "again.yaml"
    status, said = called("inspect", merged, "--recipe", again, capsys=capsys)
    assert status == 0, said
    assert read_recipe(again).out == folder / merged.name
    first = merged.read_bytes()
    merged.unlink()
    status, said = called("merge", "--recipe", again, *quick, capsys=capsys)
    assert status == 0, said
    assert (folder / merged.name).read_bytes() == first


def test_the_kept_recipe_holds_all_settings(folder: Path) -> None:
    recipe = read_recipe(written(folder, PARENTS + "method: least_squares\nforce: true\n"))
    done = dataclasses.replace(recipe, settings={"points": 64}).run()
    kept = recorded_recipe(done.field.record.lineage, "merged")
    assert kept.settings == METHODS["least_squares"](points=64).settings()
    assert kept.settings["ridge"] == 1e-4


def test_fields_without_a_recipe_say_so(folder: Path, capsys) -> None:
    out = folder / "out.yaml"
    status, said = called("inspect", folder / "front.safetensors", "--recipe", out, capsys=capsys)
    assert (status, said.count("\n")) == (2, 1)
    assert "front.safetensors: holds no recipe" in said
    assert not out.exists()
    status, said = called(
        "inspect", folder / "front.safetensors", "--recipe", folder / "rear.safetensors",
        capsys=capsys,
    )  # fmt: skip
    assert status == 2
    assert "expected a name that ends in .yaml" in said
    load(folder / "rear.safetensors")


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("average", "holds no recipe"),
        ({"method": "averag"}, "merged: recipe: unknown merge method `averag`"),
        ({"metod": "average"}, "merged: recipe: unknown key `metod`"),
        ({"parents": 3}, "`parents`: expected a list of field files"),
        ({"coefficients": [["head.*"]]}, "expected pairs of a name and a list"),
        ({"coefficients": [["head.*", "a"]]}, "`coefficients`: expected"),
        ({"coefficients": [[["a"], [1.0]]]}, "expected pairs"),
    ],
)
def test_damaged_lineage_is_refused(kept, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recorded_recipe({"recipe": kept}, "merged")


def test_flags_win_over_the_recipe(folder: Path, capsys) -> None:
    save(small_field("tiny_nerf", 3), folder / "third.safetensors")
    path = written(folder, FULL)
    out = folder / "flags.safetensors"
    common = ("merge", "--recipe", path, "--quiet", "--without-evidence", "--json")
    status, said = called(
        *common, "--out", out, "--seed", "9", "--points", "128", "--no-knowledge",
        "--coefficients", "0.25", "0.75", capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    report = json.loads(said)
    assert (report["out"], report["seed"], report["coefficients"]) == (str(out), 9, [0.25, 0.75])
    expected = {"points": 128, "free_share": 0.5, "knowledge": False}
    assert report["settings"] == expected
    assert "layers" not in report
    assert not (folder / "results").exists()

    # Another method has its own settings; other parents go with coefficients of their own.
    status, said = called(
        *common, folder / "rear.safetensors", folder / "third.safetensors", "--out", out,
        "--method", "average", capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    report = json.loads(said)
    assert (report["method"], report["settings"], report["seed"]) == ("average", {}, 3)
    assert report["layers"] == [["layers.0.*", [0.7, 0.3]], ["head.*", [0.2, 0.8]]]
    kept = load(out).record.lineage["recipe"]
    assert kept["parents"] == ["rear.safetensors", "third.safetensors"]


def test_a_merge_by_flags_keeps_a_recipe_too(folder: Path, capsys) -> None:
    out = folder / "merged.safetensors"
    files = (folder / "front.safetensors", folder / "rear.safetensors")
    status, said = called(
        "merge", *files, "--out", out, "--method", "average", "--coefficients", "0.25", "0.75",
        "--without-evidence", capsys=capsys,
    )  # fmt: skip
    assert status == 0, said
    assert recorded_recipe(load(out).record.lineage, "merged") == Recipe(
        (Path("front.safetensors"), Path("rear.safetensors")), "average", (0.25, 0.75)
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--method", "average"], "--out: expected the field file to write, received none"),
        (["--method", "average", "--out", "x.safetensors"], "two or more parents, received 0"),
        (["--recipe", "gone.yaml"], "gone.yaml: cannot be read: No such file"),
        (["--recipe", "merge.yaml"], "--out: expected the field file to write"),
    ],
)
def test_what_is_missing_is_named(args, message: str, folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    written(folder, PARENTS)
    status, said = called("merge", *args, "--quiet", capsys=capsys)
    assert (status, said.count("\n")) == (2, 1), said
    assert message in said


def test_the_example_of_the_docs_is_a_recipe_and_runs(folder: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        recipe = read_recipe(written(folder, block))
        assert yaml.safe_load(block).keys() <= {entry.name for entry in dataclasses.fields(Recipe)}
        dataclasses.replace(recipe, force=True, settings={**recipe.settings, "points": 64}).run()
        assert load(recipe.out).record.lineage["method"] == recipe.method
