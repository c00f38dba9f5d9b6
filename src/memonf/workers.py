"""Runs jobs in processes of one thread each; progress comes back through a queue.

A job is any picklable object with a ``run()``. Two single-threaded jobs side by side use two cores
better than one job with two threads.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeAlias

import torch

from .allocator import keep_freed_memory
from .devices import cores
from .interrupts import finishing, watch_worker, worker_busy

__all__ = ["Observer", "Workers", "default_workers", "report"]

#: Called with (job's title, share done in [0, 1], figures for people).
Observer: TypeAlias = Callable[[str, float, str], None]


def default_workers(device: str) -> int:
    """One process a core on the CPU; one in all on an accelerator, which they would share."""
    if not device.startswith("cpu"):
        return 1
    return cores()


_messages: Any = None


def report(title: str, share: float, figures: str) -> None:
    """Tell the parent process how far a job is."""
    if _messages is not None:
        _messages.put((title, share, figures))


def begin_worker(messages: Any) -> None:
    """Set a fresh worker up: one thread, its memory kept, and a line to the parent process."""
    global _messages
    _messages = messages
    torch.set_num_threads(1)
    keep_freed_memory()
    watch_worker()


def run_job(job: Any) -> Any:
    """Run any job in a worker."""
    with worker_busy():
        return job.run()


class Workers:
    """Processes that run jobs; progress comes back through a queue."""

    def __init__(self, count: int) -> None:
        self.context = multiprocessing.get_context("spawn")
        # Written at once, not by a thread: a job's last words are there before its result is.
        self.messages = self.context.SimpleQueue()
        self.pool = ProcessPoolExecutor(
            count, self.context, initializer=begin_worker, initargs=(self.messages,)
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with finishing():
            if kind is not None:
                for process in list((self.pool._processes or {}).values()):
                    process.terminate()  # SIGTERM: a training saves its state
            self.pool.shutdown(wait=True, cancel_futures=True)

    def run(
        self,
        jobs: Sequence[Any],
        observe: Observer,
        then: Callable[[Any], Sequence[Any]] = lambda result: (),
    ) -> list[Any]:
        """Run all jobs; the first error stops everything.

        Args:
            jobs: What to run.
            observe: Told of every job's progress.
            then: Further jobs that a result calls for.

        Returns:
            Results in the order of the jobs, then those of the jobs that came up on the way.
        """
        futures = [self.pool.submit(run_job, job) for job in jobs]
        waiting: set[Future[Any]] = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            self.pass_on(observe)
            for future in done:
                called_for = [self.pool.submit(run_job, job) for job in then(future.result())]
                futures += called_for
                waiting |= set(called_for)
        self.pass_on(observe)
        return [future.result() for future in futures]

    def pass_on(self, observe: Observer) -> None:
        """Hand waiting progress messages to the observer."""
        while not self.messages.empty():
            observe(*self.messages.get())
