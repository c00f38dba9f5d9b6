"""Jobs in worker processes: order of the results, jobs that results call for, errors."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from memonf.errors import InputError
from memonf.utils.workers import Failure, Workers, report


@dataclass(frozen=True)
class Square:
    """A job for a worker; it is sent by the name of this module."""

    value: int

    @property
    def title(self) -> str:
        return f"square {self.value}"

    def run(self) -> int:
        if self.value < 0:
            raise InputError(f"expected a number >= 0, received {self.value}")
        report(self.title, 1.0, "done")
        return self.value**2


def test_results_stand_in_the_order_of_the_jobs_then_of_those_they_called_for() -> None:
    told: list[str] = []
    with Workers(2) as workers:
        results = workers.run(
            [Square(3), Square(2), Square(1)],
            lambda title, share, figures: told.append(title),
            lambda result: [Square(result)] if result == 4 else [],
        )
        assert results == [9, 4, 1, 16]
        assert sorted(told) == ["square 1", "square 2", "square 3", "square 4"]
        (failed,) = workers.run([Square(-1)], lambda *_: None)
        assert failed == Failure("square -1", "expected a number >= 0, received -1")


@dataclass(frozen=True)
class Fails:
    """A job that a user's mistake ends, or a bug."""

    title: str
    error: Exception

    def run(self) -> None:
        raise self.error


@dataclass(frozen=True)
class Dies:
    """A job whose process is killed, as often as it says."""

    title: str
    times: int
    folder: Path

    def run(self) -> str:
        lives = len(list(self.folder.iterdir()))
        if lives < self.times:
            (self.folder / str(lives)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.title


def test_a_job_that_fails_ends_no_other() -> None:
    bug = Fails("bug", ZeroDivisionError("division by zero"))
    with Workers(1) as workers:
        jobs = [Square(1), Fails("mistake", InputError("no such thing")), bug, Square(2)]
        found = workers.run(jobs, lambda *said: None)
    of_bug = Failure("bug", "ZeroDivisionError: division by zero")
    assert found == [1, Failure("mistake", "no such thing"), of_bug, 4]


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_whose_process_is_killed_is_tried_once_more(times: int, tmp_path: Path) -> None:
    with Workers(2) as workers:
        jobs = [Square(1), Dies("dies", times, tmp_path), *map(Square, range(2, 6))]
        found = workers.run(jobs, lambda *said: None)
    assert [one for place, one in enumerate(found) if place != 1] == [1, 4, 9, 16, 25]
    if times == 1:
        assert found[1] == "dies"
    else:
        assert isinstance(found[1], Failure)
        assert "killed twice" in found[1].reason
