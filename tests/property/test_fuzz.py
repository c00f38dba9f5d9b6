"""Readers of untrusted files: what fuzzing found, and mutations of it, are accepted or refused."""

from __future__ import annotations

import signal
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parents[2] / "fuzz"
sys.path.insert(0, str(FUZZ))
from targets import TARGETS  # noqa: E402

#: Of each corpus, so many inputs, evenly spread, are replayed; seconds that one may take.
REPLAYED, LONGEST = 40, 10


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail what hangs."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"one input took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> str:
    return request.param


def corpus(name: str) -> list[bytes]:
    with zipfile.ZipFile(FUZZ / "corpus" / f"{name}.zip") as archive:
        names = sorted(archive.namelist())
        return [archive.read(entry) for entry in names[:: max(1, len(names) // REPLAYED)]]


def test_seeds_are_taken(target: str, tmp_path: Path) -> None:
    """Else all fuzzing would end at the first byte."""
    TARGETS[target].prepare(tmp_path)
    for content in TARGETS[target].seeds(tmp_path):
        assert TARGETS[target].look(content, tmp_path), content[:80]


def test_the_corpus_is_held(target: str, tmp_path: Path) -> None:
    TARGETS[target].prepare(tmp_path)
    for content in corpus(target):
        with within(LONGEST):
            TARGETS[target].look(content, tmp_path)


#: A place in the file, as a share of its length; what happens there.
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(["replace", "insert", "cut", "repeat"]),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def edited(content: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for share, kind, new in edits:
        at = round(share * len(content))
        if kind == "replace":
            content = content[:at] + new + content[at + len(new) :]
        elif kind == "insert":
            content = content[:at] + new + content[at:]
        elif kind == "cut":
            content = content[:at] if new[0] % 2 else content[:at] + content[at + new[0] :]
        else:
            content = content[:at] + content[at : at + 40] * (1 + new[0] % 4) + content[at:]
    return content


def test_mutations_are_taken_or_refused(target: str, tmp_path: Path) -> None:
    reader = TARGETS[target]
    reader.prepare(tmp_path)
    seeds = reader.seeds(tmp_path)

    @settings(
        max_examples=60, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, len(seeds) - 1), EDITS)
    def check(seed: int, edits: list[tuple[float, str, bytes]]) -> None:
        with within(LONGEST):
            reader.look(edited(seeds[seed], edits), tmp_path)

    check()
