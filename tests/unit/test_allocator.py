"""Asking the C library to keep freed memory."""

from __future__ import annotations

import platform

import torch

from memonf.utils.malloc import keep_freed_memory


def test_it_says_whether_it_could_and_harms_nothing() -> None:
    """Arranged with glibc, not elsewhere; memory can be had afterwards in any case."""
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    assert float(torch.ones(1 << 20).sum()) == 1 << 20
