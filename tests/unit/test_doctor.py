"""What the doctor finds, and what it says of machines that are not this one."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch

from memonf.cli import main
from memonf.doctor import Finding, speed
from memonf.doctor.findings import findings

#: The module; the package has a function of that name.
examination = sys.modules["memonf.doctor.examine"]

MACHINE: dict[str, Any] = {
    "cores": 4, "load": 0.1, "instructions": ["AVX2"], "governor": "performance",
    "system": "Linux x86_64", "memory": {"total": 16.0, "available": 12.0, "swap_used": 0.0},
    "cache": {"folder": "cache", "writable": True, "free": 50.0},
}  # fmt: skip
VERSIONS = {"cuda": "12.8", "x264": "yes"}
DEVICES: list[dict[str, Any]] = [
    {"device": "cpu", "name": "CPU", "works": True},
    {"device": "cuda:0", "name": "GPU", "works": True},
]
SPEEDS = {"threads": 4, "one_thread": 50.0, "all_threads": 150.0, "bfloat16": 50.0}


def said(
    machine: dict[str, Any] | None = None,
    versions: dict[str, str] | None = None,
    devices: list[dict[str, Any]] | None = None,
    speeds: dict[str, Any] | None = None,
) -> list[Finding]:
    """Findings of a good machine with these changes."""  # fmt: skip
    return findings(
        MACHINE | (machine or {}), VERSIONS | (versions or {}), devices or DEVICES,
        SPEEDS | (speeds or {}),
    )  # fmt: skip


def test_a_good_machine_is_left_in_peace() -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("changes", "what", "do"),
    [
        ({"speeds": {"threads": 16}}, "16 threads on 4 cores", "OMP_NUM_THREADS=4"),
        ({"speeds": {"threads": 1}}, "1 of 4 cores", "OMP_NUM_THREADS=4"),
        ({"speeds": {"all_threads": 9.0}}, "slower than on one", "OMP_NUM_THREADS=1"),
        ({"speeds": {"bfloat16": 100.0}}, "2.0 times as fast", "--precision bfloat16"),
        ({"speeds": {"bfloat16": 5.0}}, "0.10 times the speed", "float32"),
        ({"machine": {"load": 3.0}}, "load average", "wait"),
        ({"machine": {"instructions": []}}, "no AVX2", "speed"),
        ({"machine": {"governor": "powersave"}}, "saves power", "performance"),
        ({"machine": {"memory": {"total": 16.0, "limit": 4.0}}}, "4.0 of 16.0", "--workers"),
        ({"machine": {"memory": {"total": 16.0, "available": 1.0}}}, "1.0 GiB of", "end other"),
        ({"devices": DEVICES[:1]}, "no GPU", "torch built for it"),
        ({"versions": {"x264": "no"}}, ".mp4", ".gif"),
    ],
)  # fmt: skip
def test_each_flaw_is_named_with_what_to_do(changes: dict[str, Any], what: str, do: str) -> None:
    (finding,) = said(**changes)
    assert what in finding.what
    assert do in finding.do
    assert not finding.broken


def test_a_device_that_fails_and_a_cache_that_cannot_be_written_are_broken() -> None:
    failing = {"device": "cuda:0", "name": "GPU", "works": False, "error": "no kernel image"}
    (finding,) = said(devices=[DEVICES[0], failing])
    assert finding.broken
    assert "no kernel image" in finding.what
    cache = {"folder": "cache", "writable": False, "free": 50.0}
    (finding,) = said(machine={"cache": cache})
    assert finding.broken
    assert "MEMONF_CACHE" in finding.do


def test_json_names_it_all_and_threads_stay_as_they_were(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "BUDGET", 0.01)
    threads = torch.get_num_threads()
    assert main(["doctor", "--json"]) == 0
    assert torch.get_num_threads() == threads
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["devices"][0]["works"]
    assert found["speeds"]["one_thread"] > 0
    assert {"viewer", "tensorboard"} <= {extra["name"] for extra in found["extras"]}


def test_something_broken_is_status_1_and_lines_fit_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [{"device": "cpu", "name": "CPU", "works": False, "error": "wrong " * 40}]
    monkeypatch.setattr(examination, "devices", lambda: failing)
    monkeypatch.setattr(speed, "BUDGET", 0.01)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert "DOES NOT WORK" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 80
    assert "cpu (CPU) is found but fails" in printed.err
