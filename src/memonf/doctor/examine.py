"""The whole examination."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .findings import Finding, findings
from .machine import describe_machine
from .packages import extras, versions
from .speed import devices, speeds

__all__ = ["Examination", "examine"]


@dataclass(frozen=True)
class Examination:
    """What was found; the parts are ready for JSON.

    Attributes:
        machine: Processor, memory in GiB, limits, folders.
        versions: Of what takes part.
        extras: Name, installed or not, how to install.
        devices: Name, memory in GiB, whether it works, rate in Gflop/s.
        speeds: Rates of the CPU, Gflop/s.
        findings: What is slow or broken.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    extras: list[dict[str, Any]]
    devices: list[dict[str, Any]]
    speeds: dict[str, Any]
    findings: list[Finding]

    @property
    def broken(self) -> bool:
        """Whether something does not work."""
        return any(finding.broken for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {"broken": self.broken}


def examine() -> Examination:
    """Look at everything; takes about two seconds."""
    machine, installed = describe_machine(), versions()
    found, measured = devices(), speeds()
    return Examination(
        machine, installed, extras(), found, measured, findings(machine, installed, found, measured)
    )
