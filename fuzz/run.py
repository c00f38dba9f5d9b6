"""Fuzz one reader with atheris, guided by coverage; new inputs are kept in ``fuzz/corpus/*.zip``.

Usage: python fuzz/run.py TARGET [--seconds 600]      (pip install "memonf[fuzz]")
       python fuzz/run.py all --seconds 600           one after the other
"""

from __future__ import annotations

import argparse
import atexit
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


def fuzz(name: str, seconds: int) -> None:
    """Run libFuzzer on one target; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["memonf", "zipfile", "json", "yaml", "safetensors"]):
        sys.path.insert(0, str(HERE))
        from targets import TARGETS
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz_{name}_"))
    target.prepare(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate([*target.seeds(folder), *kept(name)]):
        (corpus / f"{number}").write_bytes(content)
    atexit.register(keep, name, corpus)

    def one(content: bytes) -> None:
        target.look(content, folder)

    atheris.Setup(
        [sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-timeout={TIMEOUT}",
         f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}", "-print_final_stats=1", "-verbosity=0",
         f"-artifact_prefix={folder}/"],
        one,
    )  # fmt: skip
    print(f"{name}: artifacts in {folder}", flush=True)
    atheris.Fuzz()


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
    options = parser.parse_args()
    if options.target != "all":
        fuzz(options.target, options.seconds)
        return
    sys.path.insert(0, str(HERE))
    from targets import TARGETS

    failed = []
    for name in TARGETS:
        command = [sys.executable, __file__, name, "--seconds", str(options.seconds)]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print("all readers held" if not failed else f"bugs in: {', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
