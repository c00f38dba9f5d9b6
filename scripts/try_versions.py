"""Try other Pythons, and the lowest version of each dependency that pyproject.toml states.

    python scripts/try_versions.py [--python 3.11 3.12 3.13 3.14] [--keep torch==2.13.0]
        [--only lowest|pythons] [--out docs/research/versions.md]

Each trial is a fresh virtual environment in a temporary folder: memonf is installed there, trains a
field on each half of the embedded robot for a few steps, and merges them by two methods. The table
is printed and, with --out, written between the markers of that page. An interpreter that is not on
this machine is named as such. `--keep` pins packages whose lowest version cannot be had, or is too
large to fetch; the table says so.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from update_tables import replaced

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

TRIAL = """
import memonf, torch
scene = memonf.load_scene("embedded:robot")
settings = memonf.TrainSettings(steps=20, rays=256)
parents = [memonf.train(scene, group=group, settings=settings) for group in ("front", "rear")]
for method, chosen in (("weight_matching", {}), ("distill", {"steps": 5})):
    field = memonf.merge(parents, method, force=True, **chosen).field
memonf.save(field, "merged.safetensors")
score = memonf.evaluate(memonf.load("merged.safetensors"), scene, most_views=1).psnr
assert 5 < score < 60, score
print("torch", torch.__version__)
"""


@dataclass(frozen=True)
class Outcome:
    """A row of the table.

    Attributes:
        trial: What was tried.
        worked: Whether training and merging went through.
        remark: Versions, or what went wrong.
    """

    trial: str
    worked: bool
    remark: str


def lowest_requirements(keep: list[str]) -> list[str]:
    """Each runtime dependency at its lowest stated version, those in `keep` as given."""
    kept = {Requirement(text).name for text in keep}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lowest = []
    for text in project["dependencies"]:
        requirement = Requirement(text)
        if requirement.name in kept:
            continue
        floors = [spec.version for spec in requirement.specifier if spec.operator == ">="]
        lowest.append(f"{requirement.name}=={floors[0]}")
    return [*keep, *lowest]


def try_environment(trial: str, python: str, requirements: list[str]) -> Outcome:
    """Install into a fresh environment, train and merge there."""
    with tempfile.TemporaryDirectory(prefix="memonf-versions-") as folder:
        environment = Path(folder) / "venv"
        binary = environment / "bin" / "python"
        steps = (
            [python, "-m", "venv", str(environment)],
            [str(binary), "-m", "pip", "install", "-q", "--disable-pip-version-check",
             *requirements, str(ROOT)],
            [str(binary), "-c", TRIAL],
        )  # fmt: skip
        for step in steps:
            done = subprocess.run(step, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = (done.stderr or done.stdout).strip().splitlines()
                return Outcome(trial, False, lines[-1][:160] if lines else "no output")
        return Outcome(trial, True, done.stdout.strip().splitlines()[-1])


def find_python(version: str) -> str | None:
    """An interpreter of this version: on the path, or among those of pyenv."""
    found = shutil.which(f"python{version}")
    works = (
        found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode
    )
    if works:
        return found
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(installed[-1]) if installed else None


def trials(options: argparse.Namespace) -> list[Outcome]:
    """All that was asked for, one after the other."""
    rows = []
    if options.only != "pythons":
        requirements = lowest_requirements(options.keep)
        label = "lowest stated versions" + "".join(f", {pin}" for pin in options.keep)
        rows.append(try_environment(f"{label}; Python {sys.version.split()[0]}", sys.executable,
                                    requirements))  # fmt: skip
    if options.only != "lowest":
        for version in options.python:
            python = find_python(version)
            if python is None:
                rows.append(Outcome(f"Python {version}", False, "no such interpreter at hand"))
                continue
            pins = options.keep if version == f"{sys.version_info[0]}.{sys.version_info[1]}" else []
            rows.append(try_environment(f"Python {version}", python, pins))
    return rows


def main() -> int:
    """Run the trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", default=list(PYTHONS))
    parser.add_argument("--keep", nargs="*", default=[])
    parser.add_argument("--only", choices=["lowest", "pythons"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = trials(options)
    table = "\n".join(
        ["| tried | works | |", "|---|---|---|"]
        + [f"| {row.trial} | {'yes' if row.worked else 'no'} | {row.remark} |" for row in rows]
    )
    print(table)
    if options.out is not None:
        text = options.out.read_text("utf-8")
        options.out.write_text(replaced(text, "versions", table), "utf-8")
    missing = [
        row for row in rows if not row.worked and row.remark != "no such interpreter at hand"
    ]
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
