"""What a newcomer's mistakes are answered with, word for word.

Every answer is one line: where, expected, received, what to type next. After a change on purpose:
``MEMONF_UPDATE_GOLDEN=1 pytest tests/golden``, and read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import small_field

from memonf.cli import main
from memonf.io.checkpoint import save

GOLDEN = Path(__file__).with_name("errors.txt")
OUT = ["--out", "out.safetensors"]
MISTAKES = [
    ["trian"],
    ["train", "--data", "nowhere", *OUT],
    ["train", "--data", "embedded:robt", *OUT],
    ["train", "--data", "pictures", *OUT],
    ["train", "--data", "embedded:robot", "--group", "above", *OUT],
    ["train", "--data", "embedded:robot", "--field", "nerv", *OUT],
    ["train", "--data", "embedded:robot", "--steps", "0", *OUT],
    ["train", "--data", "embedded:robot", "--device", "gpu9", *OUT],
    ["merge", "a.safetensors", "nofile.safetensors", *OUT],
    ["merge", "a.safetensors", "a.safetensors", *OUT],
    ["merge", "a.safetensors", *OUT],
    ["merge", "a.safetensors", "b.safetensors"],
    ["merge", "a.safetensors", "b.safetensors", "--method", "weigth_matching", *OUT],
    ["eval", "nofile.safetensors", "--data", "embedded:robot"],
    ["render", "damaged.safetensors", "--out", "picture.png"],
    ["render", "a.safetensors", "--out", "picture.jpg"],
    ["render", "a.safetensors", "--out", "film.gif"],
    ["demo", "--scene", "robt"],
]


def answers(capsys: pytest.CaptureFixture[str]) -> str:
    """Every mistake and its answer."""
    lines = []
    for args in MISTAKES:
        assert main([*args, "--quiet"]) != 0
        printed = capsys.readouterr()
        # What torch says of a device differs between its versions.
        error = re.sub(r"\(.*\); leave --device", "(…); leave --device", printed.err)
        lines.append(f"$ memonf {' '.join(args)}\n{error}")
    return "\n".join(lines)


def test_errors_suggest_what_to_type_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        save(small_field("tiny_nerf", seed), tmp_path / f"{name}.safetensors")
    (tmp_path / "damaged.safetensors").write_text("no field")
    (tmp_path / "pictures").mkdir()
    found = answers(capsys)
    if os.environ.get("MEMONF_UPDATE_GOLDEN"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8")


def test_a_newcomer_is_shown_what_lies_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    nothing = capsys.readouterr().out
    assert "memonf render first.safetensors --out first.png" in nothing
    assert "In this folder" not in nothing
    (tmp_path / "a b.safetensors").touch()
    assert main([]) == 0
    assert "memonf render 'a b.safetensors' --out" in capsys.readouterr().out
    (tmp_path / "c.safetensors").touch()
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "memonf merge 'a b.safetensors' c.safetensors --out merged.safetensors" in shown
    assert max(map(len, (nothing + shown).splitlines())) <= 80
