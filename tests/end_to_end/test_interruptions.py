"""Trainings that are torn off go on to the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import SCENE, content_of, memonf

#: A training that is long enough to be interrupted.
LONG = [
    "train", "--data", SCENE, "--group", "rear", "--seed", "1", "--rays", "128", "--width", "32",
    "--steps", "120", "--quiet", "--out",
]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    memonf(*LONG, str(out))
    return content_of(out)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_training_resumes_to_the_same_result(
    tmp_path: Path, how, uninterrupted: str
) -> None:
    broken = tmp_path / "broken.safetensors"
    running = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *LONG, str(broken)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    state = broken.with_suffix(".training")
    deadline = time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(how)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (-9 if how == signal.SIGKILL else 130), said
    assert not broken.exists()
    if how != signal.SIGKILL:
        assert "--resume" in said
    memonf(*LONG, str(broken), "--resume")
    assert content_of(broken) == uninterrupted
    assert not state.exists()


#: Saves its state every step, so that an interruption always falls inside the training.
INTERRUPTIBLE = """
import sys
import memonf.training.resume
memonf.training.resume.INTERVAL = 0.05
from memonf.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    out = tmp_path / "field.safetensors"
    common = ["train", "--data", SCENE, "--rays", "64", "--out", str(out), "--quiet"]
    running = subprocess.Popen([sys.executable, "-c", INTERRUPTIBLE, *common, "--steps", "9999"])
    while not out.with_suffix(".training").exists():
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    said = memonf(*common, "--steps", "50", "--resume", status=2)
    assert "begun with `steps` = 9999, now it is 50" in said
