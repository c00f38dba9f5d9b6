"""Where text meets the terminal: what files say is escaped, and any terminal will do."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import small_field
from PIL import Image

import memonf
from memonf.cli import main
from memonf.cli.progress import counting_progress, jobs_progress
from memonf.cli.terminal import console, guarded, say, say_text
from memonf.data.storage import CACHE, cache_folder
from memonf.errors import DataError, InputError, OutputError, shown
from memonf.fields import Field
from memonf.io.checkpoint import save
from memonf.report.page import Page, write_page
from memonf.viewer.panel import as_markdown
from memonf.visualization.images import drawn_text, labelled_sheet

SOURCES = Path(memonf.__file__).parent
FORGED = "memonf: error: forged"
#: Title of the window, colour, cursor, C1, a line of its own, right to left, zero width, a half of
#: a surrogate pair, the separators of lines, and markup of rich.
HOSTILE = (
    "\x1b]0;title\x07\x1b[31mred\x1b[2J\x9b1m\n" + FORGED + "\n\r\u202eesrever\u2066\u200b\ufeff"
    "\ud800\u2028\u2029\x7f[bold]b[/bold][link=file:///]l[/link]</script><b>$x^$|`"
)


def harmless(text: str) -> bool:
    """Whether every character of a print is seen, and no line of it was made up by a file."""
    lines = text.split("\n")
    return all(shown(line) == line for line in lines) and FORGED not in lines


def hostile_field(kind: str = "tiny_nerf", seed: int = 0) -> Field:
    """A small field whose record says what terminals obey."""
    field = small_field(kind, seed)
    field.record = dataclasses.replace(
        field.record, group=HOSTILE, scene=HOSTILE, training={HOSTILE: HOSTILE, "steps": 1},
        lineage={HOSTILE: [HOSTILE]} if seed == 0 else {},
    )  # fmt: skip
    return field


def called(*args: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the command in this process: status, and all that it prints."""
    try:
        status = main([str(arg) for arg in args])
    except SystemExit as error:  # tyro's own mistakes
        status = int(str(error.code))
    printed = capsys.readouterr()
    return status, printed.out + printed.err


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain, naïve, 数据, ½ dB", "plain, naïve, 数据, ½ dB"),
        ("ideographic\u3000and no-break\u00a0space", "ideographic\u3000and no-break\u00a0space"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31m \x9b \x00 \x7f", r"\x1b[31m \x9b \x00 \x7f"),
        ("\u202e\u2066\u200b\u200d\ufeff\u00ad", r"\u202e\u2066\u200b\u200d\ufeff\xad"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("\u3164\ufe0f\U000e0041", r"\u3164\ufe0f\U000e0041"),
    ],
)
def test_text_is_shown_on_one_line_and_does_nothing(text: str, seen: str) -> None:
    assert shown(text) == seen
    assert shown(seen) == seen


def test_errors_are_one_printable_line() -> None:
    assert str(InputError(f"a.json: unknown key `{HOSTILE}`")).isprintable()
    long = str(DataError("begin " + "x" * 10_000 + " end"))
    assert long.startswith("begin")
    assert long.endswith("end")
    assert "characters left out" in long
    assert len(long) < 4000


def test_a_field_file_cannot_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], little_scene: Path
) -> None:
    hostile = tmp_path / f"\x1b[31m{FORGED}\n\u202e[bold].safetensors"
    broken = tmp_path / "latin-1 \udce9.safetensors"
    plain = tmp_path / "b.safetensors"
    save(hostile_field(), hostile)
    save(hostile_field(seed=1), plain)
    merged = tmp_path / f"\n{FORGED}\n.safetensors"
    settings = ["--quiet", "--force", "--method", "average", "--without-evidence"]
    calls: list[tuple[int, list[str | Path]]] = [
        (0, ["inspect", hostile]),
        (0, ["inspect", hostile, "--json"]),
        (0, ["merge", hostile, plain, *settings, "--out", merged]),
        (2, ["merge", hostile, hostile, "--out", merged]),
        (0, ["inspect", merged, "--recipe", tmp_path / "merge.yaml"]),
        (0, ["eval", hostile, "--data", little_scene, "--most-views", "1", "--quiet"]),
        (0, ["render", hostile, "--size", "8", "--out", tmp_path / "\x1b[2Ja.png"]),
        (0, ["export", hostile, "--out", tmp_path / "\x1b[2Jcameras.json"]),
        (2, ["score", hostile, "--truth", hostile]),
        (2, ["train", "--data", little_scene, "--start", hostile, "--out", merged]),
        (0, ["data", "inspect", little_scene, "--place", hostile]),
        (2, ["import", hostile, "--out", merged, "--data", little_scene]),
        (2, ["fit", hostile, "--out", merged]),
        (2, ["inspect", plain, hostile]),
        (2, ["inspect", broken]),
        (1, ["merge", plain, hostile, *settings, "--out", broken]),
        (2, ["inspect", tmp_path / HOSTILE]),
        (2, [HOSTILE]),
        (2, ["train", f"--{HOSTILE}", "1"]),
        (2, ["merge", plain, hostile, "--method", HOSTILE, "--out", merged]),
    ]
    for status, args in calls:
        said = called(*args, capsys=capsys)
        assert said[0] == status, said
        assert harmless(said[1]), (args, said)


def test_a_damaged_header_cannot_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    save(small_field("tiny_nerf"), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as archive:
        header = json.loads(archive.metadata()["memonf"])
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    for change in (
        {HOSTILE: 1}, {"architecture": HOSTILE}, {"format_version": HOSTILE},
        {"config": {HOSTILE: 1}}, {"config": {"activation": HOSTILE}}, {"background": HOSTILE},
    ):  # fmt: skip
        text = json.dumps({**header, **change})
        save_file(tensors, tmp_path / "bad.safetensors", {"memonf": text})
        status, said = called("inspect", tmp_path / "bad.safetensors", capsys=capsys)
        assert status == 2
        assert harmless(said)


def test_a_data_set_cannot_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / f"[red]\x1b[31m\n{FORGED}"
    folder.mkdir()
    pose = [[1, 0, 0, 0], [0, 0, -1, -4], [0, 1, 0, 0], [0, 0, 0, 1]]
    frames = [{"file_path": f"{HOSTILE}{number}.png".replace("/", ""), "transform_matrix": pose}
              for number in range(3)]  # fmt: skip
    content = {"camera_angle_x": 0.7, "w": 8, "h": 8, HOSTILE: HOSTILE, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))
    for args in (["data", "inspect", folder], ["train", "--data", folder, "--out", tmp_path / "o"]):
        _, said = called(*args, capsys=capsys)
        assert said
        assert harmless(said)


def test_names_stay_text_in_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(drawn, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "300")
    with contextlib.redirect_stderr(drawn), guarded():
        with counting_progress("[bold]\x1b]0;title\x07\n", show=True) as on_count:
            on_count(1, 1)
        with jobs_progress(show=True) as observe:
            observe("[red]job\x1b]0;title\x07", 1.0, "[blue]\x9bfigures")
    seen = drawn.getvalue()
    for text in (r"[bold]\x1b]0;title\x07\n", r"[red]job\x1b]0;title\x07", r"[blue]\x9bfigures"):
        assert text in seen
    assert "\x1b]" not in seen
    assert "\x9b" not in seen
    assert "\x07" not in seen


def test_all_prints_go_through_one_place() -> None:
    for file in SOURCES.rglob("*.py"):
        if file.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("print", "Console", "rich.print"), f"{file}:{node.lineno}"
                assert not name.endswith(("stdout.write", "stderr.write")), f"{file}:{node.lineno}"


def test_what_others_print_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded():
        sys.stderr.write(f"a warning of {HOSTILE}")
        say_text("two\nlines")
    printed = capsys.readouterr()
    assert shown(printed.err.replace("\n", "")) == printed.err.replace("\n", "")
    assert printed.out == "two\nlines\n"


def test_a_defect_is_reported_without_the_names_obeyed() -> None:
    """Tracebacks are printed when `main` has long been left."""
    code = (
        "import sys; from memonf.cli import main; main(['--version']); raise OSError(sys.argv[1])"
    )
    done = in_a_process(code, "\x1b[2J\nforged")
    assert done.returncode == 1
    assert r"OSError: \x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr


def test_pages_and_pictures_show_names_as_they_are(tmp_path: Path) -> None:
    page = Page(
        title=HOSTILE, verdict=HOSTILE, note=HOSTILE, command=HOSTILE, headings=(HOSTILE,),
        rows=((HOSTILE, (HOSTILE,), False),), settings=((HOSTILE, HOSTILE),),
    )  # fmt: skip
    write_page(page, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert harmless(html)
    assert "<b>" not in html
    assert "esrever" in html
    sheet = labelled_sheet([("row", [small_picture()])], [HOSTILE])
    assert sheet.shape[2] == 3
    assert drawn_text("a $x^$ b") == r"a \$x^\$ b"
    assert as_markdown("<script>\n*a*") == r"\<script\>\\n\*a\*"


def small_picture():  # type: ignore[no-untyped-def]
    import numpy as np

    return np.asarray(Image.new("RGB", (8, 8)))


def in_a_process(code: str, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own, as a user's terminal would."""
    environment = {**os.environ, **settings}
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, errors="replace",
        check=False,
        env={name: value for name, value in environment.items() if value != "unset"},
    )  # fmt: skip


VERB = "import sys; from memonf.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_encoding_and_width_will_do(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setenv("COLUMNS", "1")  # in which the help would be laid out without an end
    monkeypatch.setenv("TERM", "dumb")
    assert main(["data", "inspect", "数据\udce9"]) == 2
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    printed = {}
    for name, stream in streams.items():
        stream.flush()
        printed[name] = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "there is no such file or folder" in printed["stderr"]
    assert "--data" in printed["stdout"]
    assert os.environ["COLUMNS"] == "1"


def test_a_plain_locale_will_do() -> None:
    code = (
        "import sys; from memonf.cli import main\n"
        "sys.exit(main(['data', 'inspect', '\\u6570\\u636e']))"
    )
    done = in_a_process(code, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", TERM="unset")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(r"memonf: error: \u6570\u636e: there is no such file or folder")


def test_a_reader_who_leaves_and_a_full_disk(tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{VERB}'"
    verb = "--help"
    shell = ["sh", "-c", f"{command} {verb} | true; {command} {verb} 2>&1 >&- | cat"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    full = subprocess.run(
        ["sh", "-c", f"{command} {verb} > /dev/full"], capture_output=True, text=True, check=False
    )
    assert full.returncode == 1
    assert full.stderr.startswith("memonf: error: standard output: cannot be written: No space")
    assert full.stderr.count("\n") == 1


def test_work_goes_on_when_nobody_reads_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    with guarded():
        with counting_progress("work", show=True) as on_count:
            on_count(1, 1)
        say("also this", error=True)
        console(error=True).print("and this")


def test_a_full_disk_is_an_error_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with guarded(), pytest.raises(OutputError, match="standard output"):
        say("a result")


def test_no_home_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in (CACHE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert cache_folder() == tmp_path / f"memonf-{os.getuid()}"

    def full() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", full)
    with pytest.raises(DataError, match=CACHE):
        cache_folder()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["train", "--data", "x", "--field", "nerf", "--field", "siren", "--out", "o"], "--field"),
        (["train", "--data", "x", "--field=nerf", "--field", "siren", "--out", "o"], "--field"),
        (["train", "--data", "x", "--log", "--no-log", "--out", "o"], "--log and --no-log"),
        (["train", "--data", "x", "--half-side", "1", "--half_side", "2"], "--half_side"),
        (["merge", "a", "b", "--recipe", "a.yaml", "--recipe", "b.yaml"], "--recipe"),
        (["merge", "a", "b", "--coefficients", "1", "--coefficients", "0"], "--coefficients"),
        (["compare", "--data", "x", "--out", "o", "--field", "nerf", "--field", "a"], "--field"),
        (["demo", "--out", "a", "--out", "a"], "--out"),
        (["data", "split", "x", "--groups", "a", "--groups", "b"], "--groups"),
        (["inspect", "x", "--json", "--json"], "--json"),
    ],
)
def test_a_flag_stands_there_once(
    args: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = called(*args, capsys=capsys)
    assert status == 2
    assert f"{named}: expected once, received twice" in said
