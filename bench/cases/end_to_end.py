"""Whole commands, from a start to their page; long, and run only where they are asked for."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from typing import Any

from harness.case import CASES, Case, Options, Side
from harness.figures import Figure, Measured
from harness.processes import Run, since_launch

from memonf.cli import main
from memonf.errors import MemonfError


def command(arguments: list[str], out: str) -> dict[str, float]:
    """Job: a command of ``memonf`` that writes a folder, which is new."""
    shutil.rmtree(out, ignore_errors=True)
    if status := main([*arguments, "--out", out, "--quiet"]):
        raise MemonfError(f"memonf {arguments[0]} ended with status {status}")
    return {"whole": since_launch()}


class Command(Case):
    """One command, whole."""

    optional = True

    @abstractmethod
    def arguments(self, settings: dict[str, Any]) -> list[str]:
        """The command line without its --out."""

    def sides(self, settings: dict[str, Any]) -> dict[str, Side]:
        """See `Case.sides`."""

        def side(run: Run) -> Measured:
            out = str(run.folder / self.name)
            found = run(command, arguments=self.arguments(settings), out=out)
            return Measured({"whole process": Figure(found["whole"])})

        return {f"memonf {self.name}": side}


@CASES.register("demo")
class Demo(Command):
    """What `make demo` runs."""

    title = "`memonf demo`"

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        return {"seed": options.seed, "quick": options.quick}

    def arguments(self, settings: dict[str, Any]) -> list[str]:
        """See `Command.arguments`."""
        short = ["--steps", "60"] if settings["quick"] else []
        return ["demo", "--seed", str(settings["seed"]), *short]


@CASES.register("compare")
class Compare(Command):
    """All methods on lego."""

    title = "`memonf compare` on lego"
    needs_data = True

    def settings(self, options: Options) -> dict[str, Any]:
        """See `Case.settings`."""
        return {"data": str(options.data), "quick": options.quick}

    def arguments(self, settings: dict[str, Any]) -> list[str]:
        """See `Command.arguments`."""
        short = ["--quick"] if settings["quick"] else []
        return ["compare", "--data", settings["data"], *short]
