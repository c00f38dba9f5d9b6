r"""Train with optimisers of other packages in place of ours: a table in docs/research/speed.md.

    pip install pytorch_optimizer
    python bench/optimizers.py --data embedded:robot --steps 400 --try muon --try soap:0.01 \
        --try soap_all:0.003 --try shampoo:0.03 --try schedule_free:0.01

Each ``--try`` is NAME or NAME:RATE. ``muon`` and ``adam`` are the project's own; ``soap`` and
``shampoo`` take the hidden matrices from Muon and leave the rest to our Adam, ``soap_all`` and
``schedule_free`` take all params. Every run has the same pictures, seed, rays and number of steps,
and the same course of the rate, but ``schedule_free``, whose rate stays as it is after the warm-up.
One line of JSON a run goes to standard output; nothing here belongs to the package.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

import memonf
from memonf.evaluation.evaluate import evaluate
from memonf.training import new_trainer
from memonf.training.optimizers import Adam, Optimizer
from memonf.training.params import hidden_matrices
from memonf.typing import Tensor
from memonf.utils.malloc import keep_freed_memory

OWN = ("muon", "adam")
WARM_UP = 20


class Borrowed(Optimizer):
    """An optimiser of torch's kind behind the interface of ours.

    Args:
        made: The optimiser.
        params: What it optimises.
        constant: Whether its rate stays what it is, whatever the trainer's course.
    """

    def __init__(self, made: Any, params: list[Tensor], *, constant: bool = False) -> None:
        self.made, self.constant = made, constant
        super().__init__(params, made.param_groups[0]["lr"])

    def step(self) -> None:
        """See `Optimizer.step`."""
        if not self.constant:
            for group in self.made.param_groups:
                group["lr"] = self.rate
        self.made.step()
        self.made.zero_grad()

    def move(self, param: Tensor, gradient: Tensor, memory: dict[str, Tensor]) -> None:
        """Not called: the borrowed optimiser moves all params at once."""


def borrow(name: str, rate: float, field: memonf.Field) -> list[Optimizer]:
    """The optimisers of one trial."""
    import pytorch_optimizer as others

    params = dict(field.named_parameters())
    hidden = hidden_matrices(field)
    matrices = [params[key] for key in hidden]
    rest = [param for key, param in params.items() if key not in hidden]
    everything = list(params.values())
    adam = Adam(rest, 0.01, 0.01, means=(0.9, 0.99), floor=1e-15)
    if name == "soap":
        return [Borrowed(others.SOAP(matrices, lr=rate, weight_decay=0.1), matrices), adam]
    if name == "soap_all":
        return [Borrowed(others.SOAP(everything, lr=rate, weight_decay=0.01), everything)]
    if name == "shampoo":
        made = others.ScalableShampoo(
            matrices, lr=rate, weight_decay=0.1, decoupled_weight_decay=True,
            start_preconditioning_step=25, preconditioning_compute_steps=10,
        )  # fmt: skip
        return [Borrowed(made, matrices), adam]
    if name == "schedule_free":
        made = others.ScheduleFreeAdamW(
            everything, lr=rate, weight_decay=0.01, warmup_steps=WARM_UP
        )
        return [Borrowed(made, everything, constant=True)]
    raise SystemExit(f"unknown optimiser {name}")


def run(name: str, rate: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score one trial."""
    scene = memonf.load_scene(options.data)
    settings = memonf.TrainSettings(
        steps=options.steps, seed=options.seed, optimizer="adam" if name == "adam" else "muon",
        **({} if rate is None or name not in OWN else {f"{name}_rate": rate}),
    )  # fmt: skip
    trainer = new_trainer(scene, group=options.group, settings=settings)
    if name not in OWN:
        if rate is None:
            raise SystemExit(f"--try {name}: expected {name}:RATE")
        trainer.optimizers = borrow(name, rate, trainer.field)
        trainer.peak_rates = [optimizer.rate for optimizer in trainer.optimizers]
    optimizing = 0.0
    for optimizer in trainer.optimizers:
        inner = optimizer.step

        def timed(inner: Any = inner) -> None:
            nonlocal optimizing
            started = time.process_time()
            inner()
            optimizing += time.process_time() - started

        optimizer.step = timed  # type: ignore[method-assign]
    started = time.process_time()
    while not trainer.done:
        trainer.step()
    spent = time.process_time() - started
    for optimizer in trainer.optimizers:
        if isinstance(optimizer, Borrowed) and optimizer.constant:
            optimizer.made.eval()  # the mean that schedule-free steps keep is what is used
    score = evaluate(trainer.field.eval(), scene, group=options.group, most_views=options.views)
    return {
        "try": name,
        "rate": rate,
        "psnr": round(score.psnr, 2),
        "step_ms": round(1000 * spent / options.steps, 1),
        "optimizer_ms": round(1000 * optimizing / options.steps, 2),
    }


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="optimisers of other packages")
    parser.add_argument("--data", default="embedded:robot")
    parser.add_argument("--group", default="front")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--views", type=int, default=25, help="held-out views to score")
    parser.add_argument("--try", dest="trials", action="append", default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    for trial in options.trials or ["muon", "adam"]:
        name, _, rate = trial.partition(":")
        print(json.dumps(run(name, float(rate) if rate else None, options)), flush=True)


if __name__ == "__main__":
    main()
