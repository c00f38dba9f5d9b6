"""Runs a function in a fresh process: nothing is warm but what the operating system keeps.

    run = FreshProcesses(folder, threads=2)
    run(train, data="embedded:robot", seconds=2)     # what `train(data=…, seconds=2)` returns

The function stands at the top of a module; what it takes and returns are plain values of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from memonf.errors import MemonfError

from .machine import BENCH, SOURCE

__all__ = ["FreshProcesses", "Run", "since_launch"]

LAUNCHED = "MEMONF_BENCH_LAUNCHED"


class Run(Protocol):
    """How the sides of a case run their jobs."""

    folder: Path

    def __call__(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Run `function(**arguments)` in a fresh process and give back what it returns."""


class FreshProcesses:
    """See the module.

    Args:
        folder: Where jobs may keep fields for one another.
        threads: Threads of torch in each process.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder = folder
        self.threads = threads

    def __call__(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Run `function(**arguments)` in a fresh process and give back what it returns.

        Raises:
            MemonfError: It failed; the last line of its error is in the message.
        """
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "result.json"
            name = f"{function.__module__}:{function.__qualname__}"
            job = json.dumps([name, arguments, self.threads, str(out)])
            done = subprocess.run(
                [sys.executable, "-m", "harness.processes", job],
                env=self.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
                raise MemonfError(f"{name} failed: {last}")
            return json.loads(out.read_text())

    def environment(self) -> dict[str, str]:
        """Variables of the process: its threads, where it imports from, when it was launched."""
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        path = os.pathsep.join(map(str, (BENCH, SOURCE)))
        return os.environ | threads | {"PYTHONPATH": path, LAUNCHED: str(time.time())}


def since_launch() -> float:
    """Seconds since this process was asked for: the interpreter's start and all imports count."""
    return time.time() - float(os.environ[LAUNCHED])


def main() -> None:
    """The fresh process: one job, as it stands on the command line."""
    name, arguments, threads, out = json.loads(sys.argv[1])
    module, _, function = name.partition(":")
    import torch

    from memonf.utils.malloc import keep_freed_memory

    torch.set_num_threads(threads)
    keep_freed_memory()  # as the command line does; for all sides alike
    result = getattr(importlib.import_module(module), function)(**arguments)
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
