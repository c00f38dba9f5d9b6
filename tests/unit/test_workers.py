"""Jobs in worker processes: order of the results, jobs that results call for, errors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from memonf.errors import InputError
from memonf.workers import Workers, report


@dataclass(frozen=True)
class Square:
    """A job for a worker; it is sent by the name of this module."""

    value: int

    def run(self) -> int:
        if self.value < 0:
            raise InputError(f"expected a number >= 0, received {self.value}")
        report(f"square {self.value}", 1.0, "done")
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
        with pytest.raises(InputError, match="received -1"):
            workers.run([Square(-1)], lambda *_: None)
