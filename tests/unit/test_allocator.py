"""Asking the C library to keep freed memory."""

from __future__ import annotations

import sys

import torch

from memonf.allocator import keep_freed_memory


def test_it_says_whether_it_could_and_harms_nothing() -> None:
    """True with glibc; elsewhere False; memory can be had afterwards in any case."""
    arranged = keep_freed_memory()
    assert arranged in (True, False)
    if not sys.platform.startswith("linux"):
        assert not arranged
    assert float(torch.ones(1 << 20).sum()) == 1 << 20
