"""Running the command: in a process of its own, as a user does, or in this one, quicker."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

from memonf.cli import main

__all__ = ["SCENE", "called", "content_of", "memonf"]

SCENE = "embedded:robot"


def memonf(*args: str, status: int = 0) -> str:
    """Run the command; returns standard output, or standard error for failures."""
    done = subprocess.run(
        [sys.executable, "-m", "memonf", *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def called(*args: str | Path, capsys) -> tuple[int, str]:
    """Run the command in this process, which is quicker: status, and what `memonf` returns."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        status = main([str(arg) for arg in args])
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr()
    return status, said.out if status == 0 else said.err


def content_of(path: Path) -> str:
    """SHA-256 of a file: the same command writes the same bytes, however long it took."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
