"""The choice for production, `choice` in bundle.json: the benchmark writes it, and the runner reads it."""

from __future__ import annotations

from dataclasses import dataclass

from core.machine import cores, cpu_model


@dataclass(frozen=True)
class Machine:
    """A processor and the number of cores that a process may use; a thread count is measured for these."""

    cpu: str
    cores: int


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    return Machine(cpu_model(), cores())


@dataclass(frozen=True)
class ProductionChoice:
    """One precision on one backend, and the thread count that was measured with them."""

    precision: str
    backend: str
    threads: int
    machine: Machine
    """The machine on which the benchmark ran."""

    def threads_here(self, backend: str, precision: str) -> int | None:
        """Return the measured thread count; None on another machine, or for another backend or precision."""
        # on other cores the fastest count of threads is another one
        measured = (self.backend, self.precision, self.machine) == (backend, precision, this_machine())
        return self.threads if measured else None
