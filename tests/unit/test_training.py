"""Training in its parts, and what it does to batch norm and to free space."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import memonf
from memonf.errors import DataError, InputError
from memonf.evaluation.evaluate import evaluate
from memonf.fields import known
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import content_hash
from memonf.training import (
    Trainer,
    TrainSettings,
    build_optimizers,
    new_trainer,
    train,
)


@pytest.fixture(scope="module")
def robot(little_scene: Path) -> memonf.Scene:
    """Learnt and scored often here: the little one."""
    return memonf.load_scene(little_scene)


SMALL = TinyNerfConfig(width=32, depth=3)
SHORT = TrainSettings(steps=60, rays=512, grid=40)


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_training_learns(robot, optimizer: str, batch_norm: bool) -> None:
    config = dataclasses.replace(SMALL, batch_norm=batch_norm)
    settings = dataclasses.replace(SHORT, optimizer=optimizer, steps=120)
    fresh = new_trainer(robot, group="front", config=config, settings=settings).field.eval()
    field = train(robot, group="front", config=config, settings=settings)
    before, after = (
        evaluate(one, robot, group="front", most_views=4).psnr for one in (fresh, field)
    )
    assert after > before + 3
    assert field.record.training["optimizer"] == optimizer
    assert field.record.training["steps_done"] == 120
    assert not field.training


def test_looking_for_the_grid_leaves_batch_norm_alone(robot) -> None:
    trainer = new_trainer(
        robot, group="front", config=dataclasses.replace(SMALL, batch_norm=True), settings=SHORT
    )
    trainer.step()
    before = {k: v.clone() for k, v in trainer.field.state_dict().items() if "running" in k}
    trainer.refresh_grid()
    after = trainer.field.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert trainer.field.training


def test_muon_takes_the_hidden_matrices_and_adam_the_rest(robot) -> None:
    trainer = new_trainer(robot, config=SMALL, settings=SHORT)
    names = {id(param): name for name, param in trainer.field.named_parameters()}
    muon, adam = build_optimizers(trainer.field, SHORT)
    assert [names[id(p)] for p in muon.params] == [
        "layers.1.weight",
        "layers.2.weight",
    ]
    assert len(adam.params) == len(names) - 2


def test_seeds_share_initial_params_unless_told_otherwise(robot) -> None:
    def first(seed: int, initialization: str) -> torch.Tensor:
        settings = dataclasses.replace(SHORT, seed=seed, initialization=initialization)
        return new_trainer(robot, config=SMALL, settings=settings).field.layers[0].weight

    assert torch.equal(first(1, "shared"), first(2, "shared"))
    assert not torch.equal(first(1, "independent"), first(2, "independent"))
    assert torch.equal(first(2, "independent"), first(2, "independent"))


def test_what_a_field_was_before_the_first_step_is_recorded(robot) -> None:
    first, second, other = (
        new_trainer(
            robot, group=group, config=SMALL,
            settings=dataclasses.replace(SHORT, seed=seed, initialization=initialization),
        )
        for group, seed, initialization in (
            ("front", 1, "shared"), ("rear", 2, "shared"), ("rear", 2, "independent"),
        )
    )  # fmt: skip
    recorded = [t.field.record.training["initial_params"] for t in (first, second, other)]
    assert recorded[0] == recorded[1] == content_hash(first.field)
    assert recorded[2] == content_hash(other.field) != recorded[0]
    first.step()
    assert first.field.record.training["initial_params"] == recorded[0]
    assert content_hash(first.field) != recorded[0]


def test_training_goes_on_from_an_earlier_field(robot, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, batch_norm=True)
    settings = dataclasses.replace(SHORT, steps=40)
    earlier = train(robot, group="front", config=config, settings=settings)
    memonf.save(earlier, tmp_path / "earlier.safetensors")
    before = content_hash(earlier)
    for start in (earlier, tmp_path / "earlier.safetensors"):
        trainer = new_trainer(robot, group="rear", settings=SHORT, start=start)
        assert content_hash(trainer.field) == before
        record = trainer.field.record
        assert record.training["initial_params"] == before
        assert record.training["initialization"] == "field"
        assert (record.group, record.knowledge, record.lineage) == ("rear", None, {})
        trainer.step()
        assert content_hash(trainer.field) != before
    assert content_hash(earlier) == before
    settings = dataclasses.replace(SHORT, steps=1, muon_rate=1e-6, adam_rate=1e-6)
    field = train(robot, group="front", settings=settings, start=earlier)
    scores = [evaluate(one, robot, group="front", most_views=2).psnr for one in (earlier, field)]
    assert scores[1] == pytest.approx(scores[0], abs=1.0)


def test_a_start_that_does_not_fit_is_refused_by_name(robot) -> None:
    start = new_trainer(robot, config=SMALL, settings=SHORT).field
    with pytest.raises(InputError, match="architecture `tiny_nerf`, asked for is `nerf`"):
        new_trainer(robot, field="nerf", start=start)
    wide = dataclasses.replace(SMALL, width=33)
    with pytest.raises(InputError, match="`width` is 32, asked for is 33"):
        new_trainer(robot, config=wide, start=start)
    start.aabb *= 2
    with pytest.raises(InputError, match="params mean another place in another box"):
        new_trainer(robot, start=start)


def test_files_from_before_the_first_params_were_recorded_stand(robot, tmp_path: Path) -> None:
    from memonf.experiment.jobs import already_trained
    from memonf.training.resume import restore_state, save_state

    fresh = new_trainer(robot, config=SMALL, settings=SHORT)
    known_by = fresh.field.record.training
    older = {key: value for key, value in known_by.items() if key != "initial_params"}

    def written(training) -> Path:
        trained = new_trainer(robot, config=SMALL, settings=SHORT)
        trained.field.record = dataclasses.replace(trained.field.record, training=training)
        memonf.save(trained.field, tmp_path / "field.safetensors")
        save_state(trained, tmp_path / "field.training")
        return tmp_path / "field.safetensors"

    for training in (older, known_by):
        assert already_trained(written(training), fresh.field)
        restore_state(fresh, tmp_path / "field.training")
    assert not already_trained(written(known_by | {"initial_params": "0"}), fresh.field)
    with pytest.raises(InputError, match="begun with `initial_params` = '0'"):
        restore_state(fresh, tmp_path / "field.training")


def test_state_restores_to_the_same_next_step(robot) -> None:
    def fresh() -> Trainer:
        return new_trainer(robot, group="rear", config=SMALL, settings=SHORT)

    straight = fresh()
    for _ in range(30):
        straight.step()
    state = straight.state()
    for _ in range(5):
        straight.step()
    resumed = fresh()
    resumed.restore(state)
    for _ in range(5):
        resumed.step()
    for ours, theirs in zip(straight.field.parameters(), resumed.field.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(InputError, match="of another run"):
        fresh().restore({"field.nothing": torch.zeros(1)})


def test_free_space_is_taught(robot) -> None:
    """Where the visual hull is empty the field is clear, and without the lesson it is not."""
    opacity = {}
    for weight in (0.0, 1.0):
        settings = dataclasses.replace(SHORT, free_space=weight, steps=100)
        trainer = new_trainer(robot, group="front", config=SMALL, settings=settings)
        while not trainer.done:
            trainer.step()
        trainer.field.eval()
        with torch.no_grad():
            density = trainer.field.density(trainer.free_centres)
        opacity[weight] = float((1 - (-density * trainer.grid.cell.min()).exp()).mean())
    assert opacity[1.0] < 0.2 * opacity[0.0]


def test_chunks_do_not_change_the_gradient(robot, monkeypatch) -> None:
    gradients = []
    for chunk in (500, 10**9):
        monkeypatch.setattr("memonf.training.trainer.CHUNK", chunk)
        trainer = new_trainer(robot, config=SMALL, settings=SHORT)
        trainer.accumulate_gradients()
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.field.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


def test_length_is_given_once() -> None:
    with pytest.raises(ValueError, match="either steps or seconds"):
        TrainSettings(steps=3, seconds=4.0)
    assert TrainSettings().step_goal == 1500


def test_a_group_without_cameras_is_refused(robot) -> None:
    with pytest.raises(DataError, match="is in group `sector 2/720`"):
        new_trainer(robot, group="sector 2/720")


def test_knowledge_can_be_found_again_from_the_file_alone(robot, tmp_path: Path) -> None:
    """Nothing that only training knows is in it: not one cell differs."""
    field = train(
        robot, group="sector 1/10", config=SMALL, settings=dataclasses.replace(SHORT, steps=20)
    )
    recorded = field.record.knowledge
    assert recorded is not None
    memonf.save(field, tmp_path / "field.safetensors")
    back = memonf.load(tmp_path / "field.safetensors")
    back.record = dataclasses.replace(back.record, knowledge=None)
    found = known(back)
    for name in ("aabb", "views", "sides", "solid"):
        assert torch.equal(getattr(found, name), getattr(recorded, name)), name
    assert 0 < float(recorded.solid.float().mean()) < 1


def test_with_a_grid_at_hand_knowledge_leaves_out_what_the_hull_says_is_empty(robot) -> None:
    """The grid of the default size knows the visual hull; elsewhere both say the same.

    The longer the training, the less there is outside: with the cameras of the front half, 58 % of
    the cells are fog that only the hull denies after 30 steps, 0.7 % after 400, 0.1 % after 1000.
    """
    settings = dataclasses.replace(SHORT, steps=20, grid=80)
    trainer = new_trainer(robot, group="sector 1/10", config=SMALL, settings=settings)
    while not trainer.done:
        trainer.step()
    field = trainer.finished()
    recorded = field.record.knowledge
    assert recorded is not None
    field.record = dataclasses.replace(field.record, knowledge=None)
    found = known(field)
    hull = torch.zeros(80**3, dtype=torch.bool)
    hull[trainer.hull] = True
    assert torch.equal(recorded.solid.flatten(), found.solid.flatten() & hull)
    assert not torch.equal(recorded.solid, found.solid)
    assert recorded.seen_empty_share > found.seen_empty_share + 0.1
    assert int(recorded.views.max()) == len(field.record.cameras)


def test_few_pixels_are_drawn_at_first_and_all_in_the_end(robot) -> None:
    """A fifth of the rays in the first step, all of them at the end."""
    trainer = new_trainer(robot, config=SMALL, settings=SHORT)
    assert trainer.rays == round(0.2 * 512)
    trainer.step_count = 30
    assert trainer.rays == round(0.6 * 512)
    trainer.step_count = 60
    assert trainer.rays == 512


def test_products_in_bfloat16_learn_as_well(robot) -> None:
    """Mixed precision is opt-in, recorded, leaves the params in float32 and ends close by."""
    mixed = train(robot, config=SMALL, settings=replace(SHORT, precision="bfloat16"))
    exact = train(robot, config=SMALL, settings=SHORT)
    assert mixed.record.training["precision"] == "bfloat16"
    assert all(param.dtype == torch.float32 for param in mixed.parameters())
    psnrs = [field.record.training["psnr_done"] for field in (mixed, exact)]
    assert any(
        not torch.equal(*pair) for pair in zip(mixed.parameters(), exact.parameters(), strict=True)
    )
    assert abs(psnrs[0] - psnrs[1]) < 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_trains_as_the_cpu_does(robot, precision) -> None:
    """Same draws, same loss within rounding."""
    short = replace(SHORT, precision=precision)
    fields = [train(robot, config=SMALL, settings=short, device=d) for d in ("cpu", "cuda")]
    psnrs = [field.record.training["psnr_done"] for field in fields]
    assert abs(psnrs[0] - psnrs[1]) < 0.5
