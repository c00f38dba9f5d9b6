"""Where results go: only regular files are replaced, links followed, nothing is half-written."""

from __future__ import annotations

import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import knowing_pair, small_field

from memonf.cli.main import VERBS, main
from memonf.cli.options import described, outputs_of
from memonf.errors import InputError, OutputError
from memonf.io.checkpoint import load, save
from memonf.io.export.onnx import write_onnx
from memonf.training.resume import check_outputs
from memonf.utils.files import (
    check_folder,
    check_fresh_folder,
    check_room,
    check_writable,
    current_umask,
    replacing,
    replacing_folder,
    write_json,
    write_text,
)
from memonf.visualization.images import write_png
from memonf.visualization.video import write_frames


def pipe(place: Path) -> None:
    os.mkfifo(place)


def device(place: Path) -> None:
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 7))  # as /dev/full is
    except OSError:
        pytest.skip("devices cannot be made here")


def listening(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))


def link_to_a_pipe(place: Path) -> None:
    os.mkfifo(place.with_name("pipe"))
    place.symlink_to("pipe")


def ring(place: Path) -> None:
    place.with_name("ring").symlink_to(place.name)
    place.symlink_to("ring")


#: What is never replaced, and what is said of it.
SPECIAL: dict[Callable[[Path], None], str] = {
    pipe: "is a named pipe", device: "is a device", listening: "is a socket",
    link_to_a_pipe: "pipe\\): is a named pipe", ring: "symbolic links",
}  # fmt: skip


def kind_of(place: Path) -> tuple[int, str]:
    """Kind of what is there, and where it leads if it is a link."""
    state = place.lstat()
    return stat.S_IFMT(state.st_mode), os.readlink(place) if place.is_symlink() else ""


@pytest.fixture
def in_short_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, whose files have names that are short enough for sockets."""
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.mark.parametrize("special", SPECIAL, ids=lambda special: special.__name__)
def test_only_regular_files_are_replaced(special, in_short_folder: Path) -> None:
    place = Path("out.json")
    special(place)
    before = kind_of(place)
    for write in (check_writable, check_folder, check_fresh_folder, lambda p: write_text(p, "x")):
        with pytest.raises(OutputError, match=SPECIAL[special]):
            write(place)
    with pytest.raises(OutputError, match=SPECIAL[special]), replacing_folder(place):
        pass
    assert kind_of(place) == before
    assert {path.name for path in Path().iterdir()} <= {"out.json", "pipe", "ring"}


def test_links_stay_and_their_targets_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to("far/target.txt")
    check_writable(link)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    with pytest.raises(UnicodeEncodeError):
        write_text(link, "half\ud800")
    with replacing(link) as temporary:
        assert temporary.parent.parent == target.parent  # the rename is one within a folder
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["target.txt"]


def test_what_a_broken_link_names_is_made(tmp_path: Path) -> None:
    for name in ("file", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "missing" / name)
    check_writable(tmp_path / "file")
    assert not (tmp_path / "missing").exists()  # a check makes nothing
    write_text(tmp_path / "file", "new")
    check_fresh_folder(tmp_path / "folder")
    with replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "a").touch()
    assert (tmp_path / "missing" / "file").read_text() == "new"
    assert (tmp_path / "missing" / "folder" / "a").exists()
    assert (tmp_path / "file").is_symlink()


def test_an_empty_folder_behind_a_link_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("empty")
    check_fresh_folder(tmp_path / "link")
    with replacing_folder(tmp_path / "link") as temporary:
        (temporary / "a").touch()
    assert (tmp_path / "empty" / "a").exists()
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o750


def test_permissions_of_a_replaced_file_are_kept(tmp_path: Path) -> None:
    place = tmp_path / "secret.json"
    write_json(place, 1)
    assert stat.S_IMODE(place.stat().st_mode) == 0o666 & ~current_umask()
    place.chmod(0o600)
    write_json(place, 2)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    if os.geteuid() == 0:
        os.chown(place, 1234, 1234)
        write_json(place, 3)
        assert (place.stat().st_uid, place.stat().st_gid) == (1234, 1234)


def test_another_hard_link_keeps_the_old_content(tmp_path: Path) -> None:
    place, other = tmp_path / "a.json", tmp_path / "b.json"
    write_json(place, 1)
    os.link(place, other)
    write_json(place, 2)
    assert (place.read_text(), other.read_text()) == ("2\n", "1\n")


def test_protected_files_are_refused_before_work(tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "kept.json"
    place.touch(mode=0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputError, match="is protected from being written"):
        check_writable(place)


def test_files_that_another_user_keeps_in_a_shared_folder(tmp_path: Path, monkeypatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    place = shared / "theirs.json"
    place.touch(mode=0o666)
    check_writable(place)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(OutputError, match="belongs to another user"):
        check_writable(place)


def test_mounted_files_are_refused(tmp_path: Path) -> None:
    mounted = Path("/proc")
    if not mounted.is_mount():
        pytest.skip("nothing is known to be mounted here")
    with pytest.raises((OutputError, InputError), match=r"is there already|is mounted"):
        check_fresh_folder(mounted)
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(mounted / "out.json")


@pytest.mark.parametrize(
    "name", ["n" * 243 + ".safetensors", "ä" * 120 + ".json", "a." + "b" * 250, "n" * 255]
)
def test_names_as_long_as_the_system_takes(name: str, tmp_path: Path) -> None:
    check_writable(tmp_path / name)
    write_text(tmp_path / name, "whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / ("n" * 256))


def test_files_of_many_threads_have_the_permissions_of_one(tmp_path: Path) -> None:
    """The process's mask is read by setting it: two at once could leave it open for all."""
    mask = current_umask()
    threads = [
        threading.Thread(target=lambda: [current_umask() for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert current_umask() == mask


def test_the_name_of_an_unfinished_training_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are those of unfinished"):
        check_outputs(tmp_path / "front.training")
    (tmp_path / "front.training").mkdir()
    with pytest.raises(OutputError, match=r"front\.training: is a folder"):
        check_outputs(tmp_path / "front.safetensors")


def test_a_disk_without_room_is_told_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"takes about 1e\+09 GB, .* has .* GB free; ask for less"
    ):
        check_room(tmp_path / "new" / "film.gif", 1e18, "ask for less")
    check_room(tmp_path / "new" / "film.gif", 1, "ask for less")


@contextmanager
def small_files(most: int = 1000) -> Iterator[None]:
    """A stand-in for a full disk: no file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def noise(side: int = 64) -> np.ndarray:
    """A picture that no format makes small."""
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.safetensors": lambda path: save(small_field("siren", 1), path),
    "a.png": lambda path: write_png(noise(), path),
    "a.json": lambda path: write_json(path, list(range(1000))),
    "a.gif": lambda path: write_frames([noise()] * 3, path),
    "a.webp": lambda path: write_frames([noise()] * 3, path),
    "a.mp4": lambda path: write_frames([noise()] * 3, path),
    "a.onnx": lambda path: write_onnx(small_field("siren"), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    if name.endswith("onnx"):
        pytest.importorskip("onnxscript")
    place = tmp_path / name
    place.write_text("old")
    with small_files(), pytest.raises(OutputError, match="cannot be written"):
        WRITERS[name](place)
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [name]


# Every verb.

#: Options of verbs that name something to be read.
READ = {"field", "fields", "parents", "checkpoint", "layers", "start", "source", "truth", "data",
        "recipe"}  # fmt: skip
#: What a verb has to be given for its outputs to be looked at; nothing of it exists.
NEEDED: dict[str, list[str]] = {
    "train": ["--data", "missing"],
    "merge": ["a.safetensors", "b.safetensors"],
    "import": ["a.ckpt"],
    "export": ["a.safetensors"],
    "fit": ["a.obj"],
    "score": ["a.safetensors", "--truth", "a.obj"],
    "render": ["a.safetensors"],
    "compare": ["--data", "missing"],
    "inspect": ["a.safetensors"],
    "data": ["inspect", "missing"],
    "eval": ["a.safetensors", "--data", "missing"],
    "bench": ["--data", "missing"],
    "view": ["a.safetensors"],
}


def paths_of(options: type) -> set[str]:
    """Options of a verb that are paths."""
    hints = {entry: str(kind) for cls in options.__mro__
             for entry, kind in getattr(cls, "__annotations__", {}).items()}  # fmt: skip
    named = ("Path", "NewFile", "ResultsFolder")
    return {entry for entry, kind in hints.items() if any(name in kind for name in named)}


def written() -> list[tuple[str, str, str]]:
    """Every option of every verb that names something to write: verb, option, kind."""
    found = []
    for verb in VERBS:
        options = described(verb, []).options
        outputs = outputs_of(options)
        unmarked = paths_of(options) - set(outputs) - READ
        assert not unmarked, f"{verb}: mark what {unmarked} is, see `memonf.cli.options.Output`"
        found += [(verb, name, output.kind) for name, output in outputs.items()]
    return found


OUTPUTS = written()


def test_the_verbs_that_write_are_known() -> None:
    verbs = {verb for verb, _, _ in OUTPUTS}
    assert verbs == set(VERBS) - {"eval", "view", "scenes", "doctor", "completion"}


@pytest.mark.parametrize("special", SPECIAL, ids=lambda special: special.__name__)
@pytest.mark.parametrize(("verb", "option", "kind"), OUTPUTS)
def test_every_verb_refuses_before_it_begins(
    verb: str, option: str, kind: str, special, in_short_folder: Path, capsys
) -> None:
    place = Path("out")
    special(place)
    before = kind_of(place)
    assert main([verb, *NEEDED.get(verb, []), f"--{option.replace('_', '-')}", str(place),
                 *other_outputs(verb, option)]) != 0  # fmt: skip
    said = capsys.readouterr().err
    # The inputs are not there: it would have said so, had it begun.
    assert said.startswith("memonf: error: out")
    assert any(word in said for word in ("only regular files", "symbolic links"))
    assert kind_of(place) == before


def other_outputs(verb: str, option: str) -> list[str]:
    """Outputs that a verb cannot do without, beside the one that is looked at."""
    needed = verb in ("train", "merge", "import", "fit", "render", "compare", "export")
    return ["--out", "fine.safetensors"] if needed and option != "out" else []


@pytest.mark.parametrize(("verb", "option", "kind"), OUTPUTS)
def test_files_are_no_folders_and_folders_no_files(
    verb: str, option: str, kind: str, in_short_folder: Path, capsys
) -> None:
    Path("folder").mkdir()
    Path("folder/in").touch()
    Path("file").write_text("old")
    flag = f"--{option.replace('_', '-')}"
    others = other_outputs(verb, option)
    wrong = (
        ["file/below"] if kind == "any" else ["file/below", "folder" if kind == "file" else "file"]
    )
    for place in wrong:
        assert main([verb, *NEEDED.get(verb, []), flag, place, *others]) != 0
        assert capsys.readouterr().err.startswith(f"memonf: error: {place}: ")
    assert Path("file").read_text() == "old"


@pytest.mark.parametrize(
    "args",
    [
        ["train", "--data", "a.npz", "--out", "a.npz"],
        ["train", "--data", "embedded:robot", "--start", "a.npz", "--out", "a.npz"],
        ["fit", "a.npz", "--out", "a.npz"],
        ["import", "a.npz", "--out", "a.npz"],
        ["export", "a.npz", "--out", "a.npz", "--kind", "grid"],
        ["render", "a.npz", "--out", "a.npz"],
        ["render", "b.npz", "--path", "a.npz", "--out", "./a.npz"],
        ["score", "b.npz", "--truth", "a.npz", "--png", "a.npz"],
        ["inspect", "a.npz", "--png", "a.npz"],
        ["inspect", "b.npz", "--png", "a.npz", "--recipe", "a.npz"],
        ["data", "inspect", "a.npz", "--png", "a.npz"],
        ["merge", "b.npz", "a.npz", "--out", "a.npz"],
        ["merge", "b.npz", "c.npz", "--out", "x.npz", "--report", "link"],
    ],
)
def test_nothing_is_written_over_what_is_read(args, in_short_folder: Path, capsys) -> None:
    Path("a.npz").write_text("kept")
    Path("link").symlink_to("x.npz")
    assert main(args) == 2
    assert "choose another name" in capsys.readouterr().err
    assert Path("a.npz").read_text() == "kept"


def test_derived_files_are_looked_at_before_the_data_set_is(in_short_folder: Path, capsys) -> None:
    for name in ("a.training", "a.log.jsonl"):
        os.mkfifo(name)
        assert main(["train", "--data", "missing", "--out", "a.safetensors"]) == 1
        assert f"{name}: is a named pipe" in capsys.readouterr().err
        Path(name).unlink()
    os.mkfifo("scores.json")
    assert main(["compare", "--data", "missing", "--out", "."]) == 1
    assert "scores.json: is a named pipe" in capsys.readouterr().err
    Path("front").mkdir()
    Path("front/in").touch()
    assert main(["data", "split", "missing", "--groups", "rear", "front", "--out", "."]) == 2
    assert "front: is there already" in capsys.readouterr().err
    Path("views").mkdir()
    Path("views/in").touch()
    assert main(["export", "missing.safetensors", "--out", "views"]) == 2
    assert "views: is there already" in capsys.readouterr().err


def test_a_recipe_and_its_result_are_two_files(in_short_folder: Path, capsys) -> None:
    Path("r.yaml").write_text("parents: [a.safetensors, b.safetensors]\nout: r.yaml\n")
    assert main(["merge", "--recipe", "r.yaml"]) == 2
    assert "r.yaml: is the recipe or the report" in capsys.readouterr().err
    assert Path("r.yaml").read_text().startswith("parents")
    os.mkfifo("pipe.safetensors")
    Path("r.yaml").write_text("parents: [a.safetensors, b.safetensors]\nout: pipe.safetensors\n")
    assert main(["merge", "--recipe", "r.yaml"]) == 1
    assert "is a named pipe" in capsys.readouterr().err


def test_a_merge_through_a_link_replaces_its_target(tmp_path: Path) -> None:
    for name, field in zip("ab", knowing_pair(), strict=True):
        save(field, tmp_path / f"{name}.safetensors")
    (tmp_path / "real.safetensors").write_text("old")
    (tmp_path / "link.safetensors").symlink_to("real.safetensors")
    args = [str(tmp_path / name) for name in ("a.safetensors", "b.safetensors")]
    args += ["--out", str(tmp_path / "link.safetensors"), "--method", "average"]
    assert main(["merge", *args, "--without-evidence", "--quiet", "--force"]) == 0
    assert (tmp_path / "link.safetensors").is_symlink()
    assert load(tmp_path / "real.safetensors").record.lineage["method"] == "average"
