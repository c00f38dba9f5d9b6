"""The examples run as a reader would run them, on little work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import knowing_pair
from PIL import Image

import memonf

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two fields that nearly agree, and know what they saw."""
    files = [tmp_path / "front.safetensors", tmp_path / "rear.safetensors"]
    field = knowing_pair()[0]
    memonf.save(field, files[0])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in field.parameters():
            param += 0.03 * torch.randn(param.shape, generator=generator)
    memonf.save(field, files[1])
    return files


def test_merge_two_fields(tmp_path: Path, little_scene: Path) -> None:
    said = run(
        "01_merge_two_fields.py", "--steps", "20", "--views", "1", "--frames", "2", "--size",
        "32", "--method", "average", "--out", "made", "--data", little_scene, folder=tmp_path,
    )  # fmt: skip
    assert said.count("dB on 1 held-out views") == 3
    merged = memonf.load(tmp_path / "made" / "merged.safetensors")
    assert len(merged.record.lineage["parents"]) == 2
    with Image.open(tmp_path / "made" / "merged.gif") as film:
        assert (film.size, film.n_frames) == ((32, 32), 2)


def test_slide_between_parents(tmp_path: Path, pair: list[Path]) -> None:
    said = run(
        "02_slide_between_parents.py", *pair, "--shares", "2", "--size", "32", folder=tmp_path
    )
    assert [line.partition(":")[0] for line in said.splitlines()[:3]] == [
        "average", "weight_matching", "activation_matching_repair",
    ]  # fmt: skip
    with Image.open(tmp_path / "slide.png") as sheet:
        assert sheet.width > 2 * 160


def test_a_method_of_your_own(tmp_path: Path, pair: list[Path]) -> None:
    said = run("03_a_method_of_your_own.py", *pair, folder=tmp_path).splitlines()
    assert len(said) == 3
    assert len({line.rpartition(":")[2] for line in said}) == 3  # its setting makes a difference


def test_five_phones(tmp_path: Path, little_scene: Path) -> None:
    said = run(
        "04_five_phones.py", "--phones", "3", "--steps", "12", "--method", "average",
        "--data", little_scene, folder=tmp_path,
    )  # fmt: skip
    assert said.startswith("all at once:")
    merged = memonf.load(tmp_path / "phones" / "all.safetensors")
    assert len(merged.record.lineage["parents"]) == 3


def test_every_example_is_tested_and_listed() -> None:
    tests = Path(__file__).read_text("utf-8")
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text("utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert example.name in tests
        assert example.name in page
