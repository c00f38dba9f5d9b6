"""What a shell completes, asked of the shell itself."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from memonf.cli import main
from memonf.cli.main import VERBS
from memonf.merging import METHODS

SHELLS = {"bash": ["-n"], "zsh": ["-n"], "fish": ["--no-execute"]}


def script(shell: str, folder: Path) -> Path:
    """The script of a shell in a file."""
    path = folder / f"memonf.{shell}"
    path.write_text(printed(shell))
    return path


def printed(shell: str) -> str:
    """What the verb prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["completion", shell]) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    return script("bash", tmp_path_factory.mktemp("completion"))


def completed(bash_script: Path, line: str, cwd: Path | None = None) -> set[str]:
    """What bash offers at the end of a line."""
    ask = 'source "$1"; COMP_LINE="$2"; COMP_POINT=${#2}; _memonf; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", ask, "bash", str(bash_script), line],
        capture_output=True, text=True, cwd=cwd, timeout=10, check=True,
    )  # fmt: skip
    return set(done.stdout.split("\n")) - {""}


def test_verbs(bash_script: Path) -> None:
    assert completed(bash_script, "memonf ") == set(VERBS)
    assert completed(bash_script, "memonf me") == {"merge"}


def test_flags_of_a_verb_and_of_all_its_methods(bash_script: Path) -> None:
    flags = completed(bash_script, "memonf merge a.safetensors --")
    assert {"--out", "--method", "--coefficients", "--budget"} <= flags
    assert "--group" not in flags
    assert {"--group", "--tensorboard", "--no-log"} <= completed(bash_script, "memonf train --")


def test_values(bash_script: Path) -> None:
    assert completed(bash_script, "memonf merge --method ") == set(METHODS)
    assert completed(bash_script, "memonf train --optimizer ") == {"adam", "muon"}
    assert completed(bash_script, "memonf train --group fr") == {"front"}
    # After a colon bash completes what follows it.
    assert completed(bash_script, "memonf train --data embedded:ro") == {"robot"}


def test_files(bash_script: Path, tmp_path: Path) -> None:
    (tmp_path / "my field.safetensors").touch()
    assert completed(bash_script, "memonf render my", tmp_path) == {"my field.safetensors"}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_its_script(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [shell, *SHELLS[shell], str(script(shell, tmp_path))], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_verb_is_in_every_script(shell: str) -> None:
    text = printed(shell)
    assert all(verb in text for verb in VERBS)
    assert "weight_matching" in text
