"""Runs jobs in processes of one thread each; progress comes back through a queue.

A job is any picklable object with a ``run()``. Two single-threaded jobs side by side use two cores
better than one job with two threads.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ..errors import MemonfError
from .devices import cores
from .interrupts import finishing, watch_worker, worker_busy
from .malloc import keep_freed_memory

__all__ = ["Failure", "Observer", "Workers", "default_workers", "report"]

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


@dataclass(frozen=True)
class Begun:
    """A message: a worker has taken up a job.

    Attributes:
        place: Number of the job.
    """

    place: int


@dataclass(frozen=True)
class Failure:
    """What comes back of a job that did not come to its end.

    Attributes:
        title: Of the job.
        reason: Why, in words.
    """

    title: str
    reason: str


def run_job(place: int, job: Any) -> Any:
    """Run any job in a worker."""
    if _messages is not None:
        _messages.put(Begun(place))
    with worker_busy():
        return job.run()


def reason_in_words(error: Exception) -> str:
    """Why a job failed: the message of an error made for users, else its type too."""
    if isinstance(error, MemonfError):
        return str(error)
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


class Workers:
    """Processes that run jobs; progress comes back through a queue."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.context = multiprocessing.get_context("spawn")
        # Written at once, not by a thread: a job's last words are there before its result is.
        self.messages = self.context.SimpleQueue()
        self.begun: set[int] = set()
        self.pool = self.fresh_pool()

    def fresh_pool(self) -> ProcessPoolExecutor:
        """Processes that have not begun yet."""
        return ProcessPoolExecutor(
            self.count, self.context, initializer=begin_worker, initargs=(self.messages,)
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
        """Run all jobs; one that fails does not end the others.

        A job whose process is killed is tried once more, alone, so that it is known which one it
        was that took too much memory.

        Args:
            jobs: What to run; each has a `title`.
            observe: Told of every job's progress.
            then: Further jobs that a result calls for.

        Returns:
            Results in the order of the jobs, then those of the jobs that came up on the way; a
            `Failure` in place of each result that there is not.
        """
        todo = list(jobs)
        results: list[Any] = [None] * len(todo)
        waiting = {self.pool.submit(run_job, place, job): place for place, job in enumerate(todo)}
        self.begun.clear()
        while waiting:
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            self.pass_on(observe)
            lost: list[int] = []
            for future in done:
                place = waiting.pop(future)
                result = result_of(future, todo[place].title)
                if result is LOST:
                    lost.append(place)
                    continue
                results[place] = result
                for job in () if isinstance(result, Failure) else then(result):
                    todo.append(job)
                    results.append(None)
                    waiting[self.pool.submit(run_job, len(todo) - 1, job)] = len(todo) - 1
            if lost:  # one process was killed; the pool gives up all that it has
                lost = sorted([*lost, *waiting.values()])
                waiting = {}
                self.pool.shutdown(wait=True)
                for place in [place for place in lost if place in self.begun]:
                    results[place] = self.run_alone(place, todo[place], observe)
                    lost.remove(place)
                    if not isinstance(results[place], Failure):
                        for job in then(results[place]):
                            todo.append(job)
                            results.append(None)
                            lost.append(len(todo) - 1)
                self.pool = self.fresh_pool()
                waiting = {self.pool.submit(run_job, place, todo[place]): place for place in lost}
        self.pass_on(observe)
        return results

    def run_alone(self, place: int, job: Any, observe: Observer) -> Any:
        """Run one job with nothing beside it."""
        self.pool = self.fresh_pool()
        future = self.pool.submit(run_job, place, job)
        while not future.done():
            wait([future], timeout=0.2)
            self.pass_on(observe)
        result = result_of(future, job.title)
        self.pool.shutdown(wait=True)
        if result is LOST:
            return Failure(
                job.title,
                "its process was killed twice, by hand or since memory ran out; ask for smaller "
                "pictures, fewer --rays or fewer --workers",
            )
        return result

    def pass_on(self, observe: Observer) -> None:
        """Hand waiting progress messages to the observer."""
        while not self.messages.empty():
            message = self.messages.get()
            if isinstance(message, Begun):
                self.begun.add(message.place)
            else:
                observe(*message)


#: In place of a result whose process was killed.
LOST = object()


def result_of(future: Future[Any], title: str) -> Any:
    """A job's result, why there is none, or `LOST`."""
    try:
        return future.result()
    except BrokenProcessPool:
        return LOST
    except Exception as error:
        return Failure(title, reason_in_words(error))
