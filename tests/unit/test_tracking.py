"""Logs of a training: whole lines, each step once, and no trace of them in the field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memonf.cli import main
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import content_hash
from memonf.training import Trainer, TrainSettings, new_trainer
from memonf.training.loggers import JsonLines, TensorBoard, log_path, together, tracked

SETTINGS = TrainSettings(steps=24, rays=128, grid=16, refresh=6)


def small_trainer(robot) -> Trainer:
    config = TinyNerfConfig(width=16, depth=2, frequencies=3, batch_norm=True)
    return new_trainer(robot, group="front", config=config, settings=SETTINGS)


def steps_of(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def advance(trainer: Trainer, steps: int, on_step) -> None:
    for _ in range(steps):
        on_step(trainer.step())


def test_the_params_are_the_same_bytes_with_and_without_trackers(robot, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    bare, watched = small_trainer(robot), small_trainer(robot)
    advance(bare, 24, lambda progress: None)
    trackers = JsonLines(tmp_path / "a.log.jsonl", watched), TensorBoard(tmp_path / "tb", watched)
    with tracked(*trackers) as track:
        advance(watched, 24, track)
    assert content_hash(bare.field) == content_hash(watched.field)
    before, after = bare.state(), watched.state()
    assert all((before[key] == after[key]).all() for key in before if key != "counters"), (
        "the state that the next step depends on"
    )


def test_a_line_holds_what_there_is_to_know_of_a_step(robot, tmp_path: Path) -> None:
    trainer = small_trainer(robot)
    with tracked(JsonLines(tmp_path / "a.log.jsonl", trainer)) as track:
        advance(trainer, 24, track)
    lines = [json.loads(line) for line in (tmp_path / "a.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 10, 20, 24]
    assert set(lines[-1]) == {
        "step", "seconds", "fraction", "batch_psnr", "rays_per_second", "samples_per_ray",
        "occupied", "loss_pixels", "loss_free_space", "rate_muon", "rate_adam",
    }  # fmt: skip
    assert lines[-1]["fraction"] == 1
    assert 0 < lines[-1]["occupied"] < 1
    assert lines[-1]["loss_pixels"] > 0
    assert lines[-1]["loss_free_space"] > 0


def test_a_resumed_log_holds_each_step_once_and_no_torn_line(robot, tmp_path: Path) -> None:
    log = tmp_path / "a.log.jsonl"
    first = small_trainer(robot)
    with tracked(JsonLines(log, first)) as track:
        advance(first, 8, track)
        state = first.state()
        advance(first, 12, track)  # never saved: the process died
    with log.open("a") as file:
        file.write('{"step": 30, "sec')
    second = small_trainer(robot)
    second.restore(state)
    with tracked(JsonLines(log, second)) as track:
        advance(second, 16, track)
    assert steps_of(log) == [1, 10, 20, 24]
    third = small_trainer(robot)
    with tracked(JsonLines(log, third)) as track:
        advance(third, 2, track)
    assert steps_of(log) == [1]


def test_tensorboard_reads_back_scalars_pictures_and_settings(robot, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = small_trainer(robot)
    with tracked(TensorBoard(tmp_path / "tb", trainer)) as track:
        advance(trainer, 24, track)
    events = EventAccumulator(str(tmp_path / "tb"), size_guidance={"images": 0}).Reload()
    scalars = events.Scalars("train/batch_psnr")
    assert [event.step for event in scalars] == [1, 10, 20, 24]
    (picture,) = events.Tags()["images"]
    assert picture == f"training view {trainer.views.names[0]}"
    images = events.Images(picture)
    assert images[-1].step == 24
    assert (images[0].width, images[0].height) == trainer.cameras.size(0)
    assert "config/text_summary" in events.Tags()["tensors"]


def test_observers_are_called_in_order() -> None:
    seen: list[str] = []
    together(lambda p: seen.append("a"), lambda p: seen.append("b"))(None)  # type: ignore[arg-type]
    assert seen == ["a", "b"]


def test_a_missing_package_is_named_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("memonf.training.loggers.tensorboard.find_spec", lambda name: None)
    out = tmp_path / "a.safetensors"
    args = ["train", "--data", "embedded:robot", "--out", str(out), "--quiet"]
    assert main([*args, "--tensorboard", str(tmp_path / "tb")]) == 2
    assert 'pip install "memonf[tensorboard]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("log", [True, False])
def test_the_command_writes_a_log_beside_the_field_unless_told_not_to(
    tmp_path: Path, log: bool
) -> None:
    out = tmp_path / "a.safetensors"
    args = ["train", "--data", "embedded:robot", "--out", str(out), "--quiet", "--steps", "3"]
    assert main([*args, "--rays", "64", "--grid", "16", *([] if log else ["--no-log"])]) == 0
    assert log_path(out).exists() == log
    if log:
        assert steps_of(log_path(out)) == [1, 3]
