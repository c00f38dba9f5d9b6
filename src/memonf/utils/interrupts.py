"""Ctrl-C and polite kills: answered within seconds, also inside a long operation.

Python hears of a signal between two operations of the main thread, and one operation on a large
network can take minutes. A thread therefore listens as well (`watched`): it gives the main thread
`GRACE` seconds to end in its own way, and then ends the process without it. The same signal a
second time ends the process at once. Temporary files of unfinished results are removed anyway.

Work that must not be torn apart collects signals instead (`deferred`); while a state is saved or
children are waited for, the time does not count (`finishing`). Signals that the caller had ignored,
as `nohup` does, stay ignored. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .files import remove_unfinished

__all__ = ["GRACE", "STATUS", "deferred", "finishing", "watch_worker", "watched", "worker_busy"]

#: Seconds that a process has to end by itself after a signal.
GRACE = 5.0
#: Seconds within which the same signal counts once: `timeout` sends it to a process and its group.
ONE = 0.3
#: Seconds between two looks at whether the end still has to wait.
POLL = 0.1
#: Exit status of what was interrupted.
STATUS = 130
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

Handler = Callable[[int, FrameType | None], Any]


class Watch:
    """A thread that hears of signals at once; one for each process at most."""

    def __init__(self) -> None:
        self.waiting_for = 0
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        self.before = signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self.listen, daemon=True, name="interrupts").start()

    def stop(self) -> None:
        """Stop listening."""
        signal.set_wakeup_fd(self.before)
        self.writer.close()

    def listen(self) -> None:
        """Wait for signals, and for the process to end after the first."""
        numbers = watched_signals()
        came: Counter[int] = Counter()
        last: dict[int, float] = {}
        until: float | None = None
        while True:
            ready, _, _ = select.select([self.reader], [], [], None if until is None else POLL)
            now = time.monotonic()
            if ready:
                received = self.reader.recv(64)
                if not received:  # stopped
                    self.reader.close()
                    return
                for number in set(received) & set(numbers):
                    came[number] += now - last.get(number, -ONE) >= ONE
                    last[number] = now
                    until = now + GRACE if until is None else until
                if any(count > 1 for count in came.values()):
                    end("ended at once")
            if until is not None and self.waiting_for:
                until = now + GRACE
            elif until is not None and now > until:
                end(f"ended after {GRACE:g} s inside one long operation")


_watch: Watch | None = None
_busy = False


def end(how: str) -> None:
    """End this process without unwinding; nothing half-written stays."""
    remove_unfinished()
    with contextlib.suppress(OSError):
        shown = b"\x1b[?25h" if os.isatty(2) else b""  # a progress bar hides the cursor
        os.write(2, shown + f"\nmemonf: interrupted; {how}\n".encode())
    os._exit(STATUS)


def watched_signals() -> list[int]:
    """The signals that ask a process to end, as far as the system knows them."""
    return [int(getattr(signal, name)) for name in NAMES if hasattr(signal, name)]


def in_main_thread() -> bool:
    """Whether this is the thread that Python runs signal handlers in."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Let signals be handled so, but for those that are ignored; in the main thread only."""
    before = {}
    for number in watched_signals():
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Treat every request to end like Ctrl-C: save what there is."""
    raise KeyboardInterrupt


@contextmanager
def watched() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on signals within this block, and see to it that they are heard.

    Outside the main thread, or within another such block, nothing is changed.
    """
    global _watch
    if _watch is not None or not in_main_thread():
        yield
        return
    with handled_by(interrupt):
        _watch = Watch()
        try:
            yield
        finally:
            _watch.stop()
            _watch = None


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Collect signals instead of raising them: a step must not be torn apart.

    The list is filled with the signals that came. Outside the main thread, where Python delivers
    none, it stays empty.
    """
    came: list[int] = []
    if not in_main_thread():
        yield came
        return
    with handled_by(lambda number, frame: came.append(number)):
        yield came


@contextmanager
def finishing() -> Iterator[None]:
    """Let the end of the process wait for this block, for example until a state is saved."""
    watch = _watch
    if watch is None:
        yield
        return
    watch.waiting_for += 1
    try:
        yield
    finally:
        watch.waiting_for -= 1


def watch_worker() -> None:
    """Set up a process that works for another one, until its end.

    Signals interrupt its job, and end it between jobs; so does the end of the parent process,
    however that came.
    """
    global _watch
    for number in watched_signals():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt_job)
    _watch = Watch()
    threading.Thread(target=follow_parent, daemon=True, name="parent").start()


def interrupt_job(number: int, frame: FrameType | None) -> None:
    """Interrupt the job at work, or leave."""
    if _busy:
        raise KeyboardInterrupt
    sys.exit(STATUS)


@contextmanager
def worker_busy() -> Iterator[None]:
    """Mark that a worker's job is at work."""
    global _busy
    _busy = True
    try:
        yield
    finally:
        _busy = False


def follow_parent() -> None:
    """End this process politely when its parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
