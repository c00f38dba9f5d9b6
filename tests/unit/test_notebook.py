"""The notebook runs from top to bottom, and what it shows is what is committed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "model_merge.ipynb"


def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs memonf[notebook]")
    pytest.importorskip("nbclient", reason="needs memonf[notebook]")
    out, began = tmp_path / "run.ipynb", time.monotonic()
    done = subprocess.run(
        [sys.executable, "scripts/run_notebook.py", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Five minutes on two cores of its own; here another worker shares them.
    assert time.monotonic() - began < 600
    run, kept = (nbformat.read(path, as_version=4) for path in (out, NOTEBOOK))
    assert pictures(run) == pictures(kept)
    assert sum(pictures(run)) >= 12
    scores = {
        line[:30].strip(): float(line.split()[-1])
        for cell in run.cells
        for output in cell.get("outputs", [])
        for line in output.get("text", "").splitlines()
        if len(line) == 54 and line.split()[-1].replace(".", "").isdigit()
    }
    assert scores["average"] < scores["average_repair"] < scores["distill"]
    assert scores["distill"] > max(scores["front parent"], scores["rear parent"]) + 1


def pictures(notebook) -> list[int]:
    """Number of pictures that each cell of code shows."""
    return [
        sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
