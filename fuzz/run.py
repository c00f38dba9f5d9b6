"""Fuzz one reader with atheris, guided by coverage; new inputs are kept in ``fuzz/corpus/*.zip``.

Usage: python fuzz/run.py TARGET [--seconds 600]      (pip install "memonf[fuzz]")
       python fuzz/run.py all --seconds 600           one after the other
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
#: Seconds for one input, and MiB for the process: more is a bug.
TIMEOUT, MEMORY = 20, 4096
#: Larger inputs find little and cost much.
LONGEST = 20_000


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Run libFuzzer on one target; ends the process.

    Args:
        name: Of the target.
        seconds: How long.
        folder: Empty; ``corpus`` in it is what is kept afterwards.
    """
    import atheris

    with atheris.instrument_imports(include=["memonf", "zipfile", "json", "yaml", "safetensors"]):
        sys.path.insert(0, str(HERE))
        from targets import TARGETS
    target = TARGETS[name]
    target.prepare(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate([*target.seeds(folder), *kept(name)]):
        (corpus / f"{number}").write_bytes(content)

    def one(content: bytes) -> None:
        target.look(content, folder)

    atheris.Setup(
        [sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-timeout={TIMEOUT}",
         f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}", "-print_final_stats=1", "-verbosity=0",
         f"-artifact_prefix={folder}/"],
        one,
    )  # fmt: skip
    atheris.Fuzz()


def fuzz_and_keep(name: str, seconds: int) -> int:
    """Fuzz one target in a process of its own, which libFuzzer ends; its exit status."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz_{name}_"))
    command = [sys.executable, __file__, name, "--seconds", str(seconds), "--within", str(folder)]
    status = subprocess.run(command, check=False).returncode
    keep(name, folder / "corpus")
    print(f"{name}: {'held' if status == 0 else f'a bug, see {folder}'}", flush=True)
    return status


def kept(name: str) -> list[bytes]:
    """The corpus of a target: inputs that each reached something new."""
    file = HERE / "corpus" / f"{name}.zip"
    if not file.is_file():
        return []
    with zipfile.ZipFile(file) as archive:
        return [archive.read(entry) for entry in sorted(archive.namelist())]


def keep(name: str, corpus: Path) -> None:
    """Pack what a run has found; the same inputs give the same bytes."""
    contents = {hashlib.sha1(file.read_bytes()).hexdigest(): file for file in corpus.iterdir()}
    (HERE / "corpus").mkdir(exist_ok=True)
    with zipfile.ZipFile(HERE / "corpus" / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for digest in sorted(contents):
            archive.writestr(zipfile.ZipInfo(digest), contents[digest].read_bytes())


def main() -> None:
    """Fuzz what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.within is not None:
        fuzz(options.target, options.seconds, options.within)
        return
    names = [options.target]
    if options.target == "all":
        sys.path.insert(0, str(HERE))
        from targets import TARGETS

        names = list(TARGETS)
    sys.exit(max(fuzz_and_keep(name, options.seconds) for name in names) != 0)


if __name__ == "__main__":
    main()
