"""Real products of matrices, at the shapes of our networks, on every device."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from ..utils.devices import cores

__all__ = ["devices", "speeds"]

#: Samples, inputs and outputs of a hidden layer for two chunks of a training step.
SHAPE = (6144, 128, 128)
#: Seconds that one rate is measured.
BUDGET = 0.3


def rate(device: str, dtype: torch.dtype) -> float:
    """Billions of multiplications and additions a second: the median of repeated products."""
    rows, inner, columns = SHAPE
    left = torch.ones(rows, inner, device=device, dtype=dtype)
    right = torch.ones(inner, columns, device=device, dtype=dtype)
    product = left @ right
    if float(product[0, 0]) != inner:
        raise RuntimeError(f"a product gave {float(product[0, 0])}, expected {inner}")
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < BUDGET:
        started = time.perf_counter()
        product = left @ right
        float(product[0, 0])  # waits for the device
        times.append(time.perf_counter() - started)
    return round(2 * rows * inner * columns / statistics.median(times) / 1e9, 1)


def speeds() -> dict[str, Any]:
    """Rates of the CPU: one thread, all threads, and bfloat16 with as many as are set."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = rate("cpu", torch.float32)
        bfloat16 = rate("cpu", torch.bfloat16)
        torch.set_num_threads(cores())
        every = rate("cpu", torch.float32)
    finally:
        torch.set_num_threads(threads)
    return {"threads": threads, "one_thread": one, "all_threads": every, "bfloat16": bfloat16}


def devices() -> list[dict[str, Any]]:
    """Every device that torch sees, and whether a product on it comes out right."""
    found: list[dict[str, Any]] = [{"device": "cpu", "name": "CPU"}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = round(properties.total_memory / 2**30, 1)
        found.append({"device": f"cuda:{index}", "name": properties.name, "memory": memory})
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Metal"})
    for device in found:
        try:
            device |= {"works": True, "rate": rate(device["device"], torch.float32)}
        except RuntimeError as error:
            device |= {"works": False, "error": str(error).splitlines()[0]}
    return found
