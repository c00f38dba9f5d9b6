"""Run a notebook from top to bottom and keep what it shows: ``python scripts/run_notebook.py``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "model_merge.ipynb"


def main() -> int:
    """Run it in its own folder, and write it back only when every cell went through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path, nargs="?", default=NOTEBOOK)
    parser.add_argument("--out", type=Path, help="where the run notebook goes; itself by default")
    arguments = parser.parse_args()
    notebook = nbformat.read(arguments.notebook, as_version=4)
    try:
        NotebookClient(
            notebook, timeout=600, resources={"metadata": {"path": str(arguments.notebook.parent)}}
        ).execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    for cell in notebook.cells:  # when each cell ran is of no use to a reader, and always another
        cell.metadata.pop("execution", None)
    target = arguments.out or arguments.notebook
    beside = target.with_name(f".{target.name}.part")
    nbformat.write(notebook, beside)
    beside.replace(target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
