"""Numbers that users give are bounded, and what has no room or time is refused with the figures."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from conftest import BOX, small_field
from PIL import Image

import memonf
from memonf.cameras.cameras import turntable
from memonf.cli.main import VERBS, main
from memonf.cli.options import described, limits_in
from memonf.errors import InputError, TrainingError
from memonf.fields import FIELDS, build_field, outline
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.merging import METHODS
from memonf.rendering.volume_rendering import FRAMES, Renderer
from memonf.training import TrainSettings, new_trainer, train, trainer
from memonf.training.room import check_room, training_memory
from memonf.utils import devices
from memonf.utils.devices import available_memory, check_memory, limit_memory, within_memory
from memonf.visualization.video import FORMATS, Film, check_film, drawn, to_bytes, write_frames

#: Other options that stand beside those of a verb, by what decides them.
VARIANTS: list[tuple[str, list[str]]] = [
    *((verb, []) for verb in VERBS if verb not in ("merge", "completion")),
    *(("merge", ["--method", name]) for name in METHODS),
    *(("train", ["--field", name]) for name in FIELDS if FIELDS[name].asked_along == "rays"),
]
#: What a verb has to be given before its numbers are looked at.
NEEDED = {
    "train": ["--data", "x", "--out", "o"], "merge": ["a", "b", "--out", "o"],
    "eval": ["a", "--data", "x"], "import": ["a", "--out", "o"], "export": ["a", "--out", "o"],
    "fit": ["a", "--out", "o"], "score": ["a", "--truth", "b"], "render": ["a", "--out", "o"],
    "compare": ["--data", "x", "--out", "o"], "view": ["a"], "inspect": ["a"],
    "data": ["inspect", "x"], "demo": ["--out", "o"],
}  # fmt: skip


def numbers() -> Iterator[tuple[str, list[str], str, Any]]:
    """Every option of every verb that is one number: verb, other options, name, type."""
    seen = set()
    for verb, others in VARIANTS:
        options = described(verb, others).options
        classes = [
            options,
            *(entry.metadata["settings"] for entry in dataclasses.fields(options)
              if "settings" in entry.metadata),
        ]  # fmt: skip
        for cls in classes:
            for name, hint in get_type_hints(cls, include_extras=True).items():
                if kind_of(hint) and (verb, cls, name) not in seen:
                    seen.add((verb, cls, name))
                    yield verb, others, name, hint


def kind_of(hint: Any) -> type | None:
    """Whole or floating number, where a type is one of them."""
    if hint in (int, float):
        return hint
    parts = get_args(hint)
    if not parts or getattr(hint, "__origin__", None) in (tuple, dict):
        return None
    return next((kind for part in parts if (kind := kind_of(part))), None)


NUMBERS = list(numbers())


@pytest.mark.parametrize(
    ("verb", "others", "name", "hint"), NUMBERS, ids=[f"{n[0]} {n[2]}" for n in NUMBERS]
)
def test_every_number_has_limits_and_is_held_to_them(
    verb: str, others: list[str], name: str, hint: Any, tmp_path: Path, monkeypatch, capsys
) -> None:
    limits = limits_in(hint)
    assert limits is not None, f"{verb} --{name}: give it limits, see `memonf.cli.options`"
    keys = {key for limit in limits.metadata for key in ("ge", "gt", "le", "lt")
            if hasattr(limit, key)}  # fmt: skip
    assert keys & {"ge", "gt"}, "a least value"
    assert name == "most_views" or keys & {"le", "lt"}, "a most value"
    monkeypatch.chdir(tmp_path)
    flag = f"--{name.replace('_', '-')}"
    values = ["-1" + 30 * "0"] if kind_of(hint) is int else ["nan", "-inf", "inf"]
    for value in values:
        assert main([verb, *NEEDED.get(verb, []), *others, flag, value]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"memonf: error: {flag}: ")
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_python_calls_are_held_to_the_same_limits(tmp_path: Path) -> None:
    for settings in ({"steps": 10**8}, {"rays": 1 << 30}, {"seconds": math.inf}, {"grid": 4096}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            TrainSettings(**settings)
    frame = [np.zeros((8, 8, 3), np.uint8)]
    for fps in (0.0, -1.0, math.nan, math.inf, 1e9):
        with pytest.raises(InputError, match="--fps: expected"):
            write_frames(frame, tmp_path / "a.gif", fps=fps)
    fields = [small_field("tiny_nerf", seed) for seed in (1, 2)]
    with pytest.raises(InputError, match="points"):
        memonf.merge(fields, "activation_matching", points=1 << 40)
    with pytest.raises(InputError, match="budget"):
        memonf.merge(fields, "distill", budget=math.inf)


# Memory.


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A process that may take 100 MB more than it has."""
    limit_memory(devices.taken("VmRSS") + 10**8)
    yield
    limit_memory(None)


def test_what_is_available_is_the_least_of_all_limits(tmp_path: Path, monkeypatch) -> None:
    """Machine, control groups from the process's own outwards, the shell, and our own limit."""
    for folder, limit, used in (
        ("", "9000", "1000"),
        ("a", "max", "1000"),
        ("a/b", "7000", "5000"),
    ):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / "memory.max").write_text(limit)
        (place / "memory.current").write_text(used)
    (tmp_path / "a/b/memory.stat").write_text("anon 4000\ninactive_file 600\n")
    group = tmp_path / "groups"
    group.write_text("1:name=systemd:/\n0::/a/b\n")
    monkeypatch.setitem(devices.GROUPS, "", (tmp_path, *devices.GROUPS[""][1:]))
    known = devices.text_of
    monkeypatch.setattr(
        devices, "text_of",
        lambda path: known(group if str(path) == "/proc/self/cgroup" else path),
    )  # fmt: skip
    assert list(devices.group_rooms()) == [7000 - 5000 + 600, 9000 - 1000]
    monkeypatch.setattr(devices, "machine_room", lambda: iter([5000]))
    monkeypatch.setattr(devices, "shell_rooms", lambda: iter([4000]))
    assert available_memory() == 2600
    monkeypatch.setattr(devices, "shell_rooms", lambda: iter([-5]))
    assert available_memory() == 0


def test_what_does_not_fit_is_refused_with_both_figures(little_memory) -> None:
    check_memory(10**6, "little", "")
    with pytest.raises(
        InputError,
        match=r"^all: needs about 80 GB of memory, this machine has .* MB available; ask",
    ):
        check_memory(80e9, "all", "ask for less")


def test_memory_that_runs_out_is_an_error_of_ours(little_memory) -> None:
    if not devices.taken("VmData"):
        pytest.skip("the system does not tell what a process has")
    asked = pytest.raises(InputError, match=r"memory ran out \(4 GB more were asked for\)")
    with asked, within_memory():
        torch.empty(10**9)
    with pytest.raises(InputError, match="memory ran out"), within_memory():
        np.empty(10**9)
    with pytest.raises(RuntimeError, match="another"), within_memory():
        raise RuntimeError("another")
    torch.empty(10**8)  # the fence is gone


@pytest.mark.parametrize(
    ("args", "figure"),
    [
        (["render", "gone", "--size", "8000", "--out", "a.png"], "needs about"),
        (["render", "gone", "--turntable", "--size", "3000", "--out", "a.mp4"], "try --size 1024"),
        (["render", "gone", "--turntable", "--size", "16000", "--out", "a.gif"], "needs about"),
        (["render", "gone", "--turntable", "--size", "20000", "--out", "a.webp"], "16383 pixels"),
        (["render", "gone", "--turntable", "--frames", "1000000000", "--out", "a.gif"], "100000"),
        (["train", "--data", "embedded:robot", "--width", "9000", "--out", "a"], "params"),
        (["train", "--data", "embedded:robot", "--rays", "4000000", "--out", "a"], "--rays 40"),
        (["train", "--data", "embedded:robot", "--grid", "512", "--out", "a"], "--grid 512"),
        (["compare", "--data", "embedded:robot", "--rays", "4000000", "--out", "a"], "at once"),
        (["export", "f.safetensors", "--out", "a.npz", "--resolution", "512"], "--resolution 256"),
        (["merge", "f.safetensors", "g.safetensors", "--force", "--rays", "4000000", "--out", "a"],
         "rays that the parents are asked along"),
        (["eval", "f.safetensors", "--data", "embedded:robot", "--supersample", "60"],
         "--supersample 60"),
    ],
)  # fmt: skip
def test_verbs_refuse_before_they_work(
    args: list[str], figure: str, tmp_path: Path, monkeypatch, capsys, little_memory
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("f", 1), ("g", 2)):
        field = small_field("tiny_nerf", seed)
        field.record = dataclasses.replace(
            field.record, cameras=turntable(2, 8, 4.0, torch.zeros(3))
        )
        memonf.save(field, tmp_path / f"{name}.safetensors")
    assert main([*args, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert figure in said
    assert said.count("\n") == 1


def test_a_network_is_refused_before_its_params_are_drawn(little_memory) -> None:
    config = TinyNerfConfig(width=16384, depth=64)
    with pytest.raises(InputError, match=r"a `tiny_nerf` of 16,\d+,\d+,\d+ params: needs about 6"):
        build_field("tiny_nerf", config, BOX)
    field = outline("tiny_nerf", config, BOX)
    assert {param.device.type for param in field.parameters()} == {"meta"}
    assert training_memory(field, TrainSettings()) > 36 * field.parameter_count()


def test_a_time_too_short_for_one_step_is_refused(monkeypatch) -> None:
    """On a machine that multiplies a million times a second; small networks are never asked."""
    monkeypatch.setattr(devices, "rate", lambda device: 1e6)
    large = outline("tiny_nerf", TinyNerfConfig(width=1024, depth=4), BOX)
    with pytest.raises(
        InputError, match=r"--seconds 5: the first step and the end of .* take about"
    ):
        check_room(large, TrainSettings(seconds=5), "cpu")
    check_room(large, TrainSettings(steps=5), "cpu")
    check_room(outline("tiny_nerf", None, BOX), TrainSettings(seconds=5), "cpu")


# Steps that are broken off.


@pytest.fixture(scope="module")
def little(little_scene: Path) -> memonf.Scene:
    return memonf.load_scene(str(little_scene))


@pytest.mark.parametrize("at", [3, 4])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_step_that_is_broken_off_was_never_begun(little, at: int, batch_norm: bool) -> None:
    """Also where it looks at the whole field first (every second step), and with batch norm."""
    config = TinyNerfConfig(width=16, depth=2, batch_norm=batch_norm)
    settings = TrainSettings(steps=6, rays=300, grid=16, refresh=2)
    whole = train(little, config=config, settings=settings)
    broken = new_trainer(little, config=config, settings=settings)
    broken.chunk = 40  # pieces are as many as in the other run below
    straight = new_trainer(little, config=config, settings=settings)
    straight.chunk = 40
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return broken.step_count == at and asked > 2

    broken.stop = stop
    while not broken.done:
        asked = 0
        straight.step()
        if broken.step_count == at:
            before = broken.state()
            with pytest.raises(KeyboardInterrupt):
                broken.step()
            after = broken.state()
            assert all(torch.equal(before[name], after[name]) for name in before)
            broken.stop = trainer.never
        broken.step()
    expected = straight.field.state_dict()
    for name, value in broken.field.state_dict().items():
        assert torch.equal(value, expected[name])
    assert whole.parameter_count() == broken.field.parameter_count()


def test_a_training_by_time_ends_within_a_step(little, monkeypatch) -> None:
    monkeypatch.setattr(trainer, "LATE", -1e9)
    settings = TrainSettings(seconds=1000, rays=300, grid=16)
    running = new_trainer(little, config=TinyNerfConfig(width=16, depth=2), settings=settings)
    running.step()
    before = running.state()
    running.seconds = 1000.0
    assert running.step().step == 1
    assert running.done
    after = running.state()
    assert all(torch.equal(before[key], after[key]) for key in before if key != "counters")


def test_a_training_by_time_without_a_step_is_an_error(little, monkeypatch) -> None:
    monkeypatch.setattr(trainer, "FIRST_LATE", -1e9)
    with pytest.raises(TrainingError, match="not one step was done in"):
        train(little, settings=TrainSettings(seconds=1, rays=100, grid=16))


def test_only_large_networks_take_smaller_pieces() -> None:
    sizes = {}
    for name, width in (("small", 256), ("large", 4096)):
        field = outline("tiny_nerf", TinyNerfConfig(width=width), BOX)
        params = field.parameter_count()
        sizes[name] = max(
            trainer.LEAST_CHUNK,
            min(trainer.CHUNK, trainer.CHUNK * trainer.CHUNK_PARAMS // params),
        )
    assert sizes["small"] == trainer.CHUNK
    assert trainer.LEAST_CHUNK < sizes["large"] < trainer.CHUNK / 4


# Films and pictures.


class Counting(Sequence[np.ndarray]):
    """Frames that are made when they are asked for, and the most that were alive at once."""

    def __init__(self, count: int) -> None:
        self.count, self.most, self.made = count, 0, 0
        self.alive: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> np.ndarray:
        frame = np.full((24, 32, 3), 200, np.uint8)
        frame[index % 20 : index % 20 + 4, 5:9] = (255 - index, index, 90)
        self.made += 1
        self.alive[self.made] = frame
        self.most = max(self.most, len(self.alive))
        return frame


@pytest.mark.parametrize("ending", FORMATS)
def test_frames_stream_to_the_encoder(ending: str, tmp_path: Path) -> None:
    frames = Counting(200)
    write_frames(frames, tmp_path / f"film{ending}")
    assert 200 <= frames.made <= 215  # each once; the tests' check of types asks for a few
    assert frames.most <= (12 if ending == ".gif" else 3)  # of GIF those of the palette
    if ending != ".mp4":
        with Image.open(tmp_path / f"film{ending}") as film:
            assert film.n_frames == 200
            assert film.info["loop"] == 0
            for index in (0, 1, 77, 199):
                film.seek(index)
                seen = np.asarray(film.convert("RGB")).astype(int)
                assert np.abs(seen - frames[index]).mean() < 4
    else:
        import av

        with av.open(str(tmp_path / "film.mp4")) as film:
            assert sum(1 for _ in film.decode(video=0)) == 200


def test_frames_that_repeat_keep_their_place_in_a_gif(tmp_path: Path) -> None:
    still = np.full((8, 8, 3), 90, np.uint8)
    moved = still.copy()
    moved[2:4, 5:7] = 250
    write_frames([still, still, moved, still], tmp_path / "a.gif", fps=10.0)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 4
        shown = []
        for index in range(4):
            film.seek(index)
            assert film.info["duration"] == 100
            shown.append(np.asarray(film.convert("RGB")).copy())
    assert (shown[0] == still).all()
    assert (shown[1] == still).all()
    assert (shown[2] == moved).all()
    assert (shown[3] == still).all()


def test_a_picture_drawn_by_strips_is_the_whole_picture() -> None:
    renderer = Renderer.of(small_field("tiny_nerf", 1), FRAMES)
    cameras = turntable(3, 150, 4.0, torch.zeros(3))  # more pixels than a strip has
    told: list[int] = []
    pixels = drawn(renderer, cameras, 1, lambda done, total: told.append(done))
    assert (pixels == to_bytes(renderer.view(cameras, 1).rgb)).all()
    assert told == [16384, 22500]
    film = Film(renderer, cameras.resized(20, 20))
    assert len(film) == len(film[1:]) + 1 == 3
    assert (film[1] == to_bytes(renderer.view(cameras.resized(20, 20), 1).rgb)).all()
    with pytest.raises(IndexError):
        film[3]


def test_a_film_without_room_on_the_disk_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("", (), {"free": 1000})())
    with pytest.raises(memonf.errors.OutputError, match=r"takes about .* GB, .* has 1e-06 GB free"):
        check_film(tmp_path / "a.gif", 60, 200, 200)
