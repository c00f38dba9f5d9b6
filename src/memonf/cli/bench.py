"""``memonf bench``; the harness stands in the repository, beside what it is compared with."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError

__all__ = ["run"]

#: Of a checkout; an installed package has nothing there.
FOLDER = Path(__file__).parents[3] / "bench"


def run(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        InputError: The package does not run from a checkout.
    """
    if not (FOLDER / "harness").is_dir():
        raise InputError(
            "memonf bench: the benchmark is not part of the installed package; clone the "
            "repository and run `make bench` there"
        )
    sys.path.insert(0, str(FOLDER))
    importlib.import_module("harness.verb").run(args)
