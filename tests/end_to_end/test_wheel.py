"""The wheel, installed into a fresh environment, trains and merges there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_trains_and_merges_in_a_fresh_environment(tmp_path: Path) -> None:
    """Dependencies are those of this environment; memonf is the wheel's, not the checkout's."""
    pytest.importorskip("build", reason="needs memonf[dev]")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-q", "--outdir", tmp_path,
        folder=ROOT)  # fmt: skip
    (wheel,) = tmp_path.glob("memonf-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith("tests")]
    fresh = tmp_path / "fresh"
    run(sys.executable, "-m", "venv", "--without-pip", fresh, folder=tmp_path)
    python = fresh / "bin" / "python"
    (packages,) = fresh.glob("lib/python*/site-packages")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target",
        packages, wheel, folder=tmp_path)  # fmt: skip
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import memonf; print(memonf.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(fresh)
    memonf = (python, "-m", "memonf")
    for group, seconds in (("front", "3"), ("rear", "2")):
        run(*memonf, "train", "--data", "embedded:robot", "--group", group, "--seconds", seconds,
            "--quiet", "--out", f"{group}.safetensors", folder=tmp_path)  # fmt: skip
    said = run(
        *memonf, "merge", "front.safetensors", "rear.safetensors", "--method", "weight_matching",
        "--without-evidence", "--quiet", "--out", "merged.safetensors", folder=tmp_path,
    )  # fmt: skip
    assert "merged.safetensors: 2 parents by weight_matching" in said
