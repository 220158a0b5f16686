"""What a training costs: its time and memory, and while it goes on the time to its end."""

import multiprocessing
import os
import time
from typing import Any

import psutil

from pipeline.core.memory import peak_memory
from pipeline.training.optimization import Phase, is_validated

OTHERS = 0.5  # processors


def timing(
    seconds: float,
    images: int,
    trained: dict[str, Any],
    resumed: bool,
    processes: int = 1,
    loaders_memory: int | None = 0,
    wait_share: float | None = None,
) -> dict[str, Any]:
    """How long training took, from its start to its last epoch and with its validations, and how much memory the
    process had at most; apart from model.json, which is the same for the same params. `images` passed the net in each
    epoch, 0 if not in all; `wait_share` is that of `waits.Waits`. Of a resumed run `seconds` is the last process's
    alone: it has no rate either.
    """
    import torch

    rate = None if resumed or not images else round(images * trained["epochs"] / seconds, 2)
    return {
        "seconds": round(seconds, 2),
        "resumed": resumed,
        "epochs": trained["epochs"],
        "images_per_second": rate,
        "data_wait_share": wait_share,
        "precision": trained["precision"],
        "processes": processes,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "peak_memory_bytes": peak_memory(),
        "loaders_peak_memory_bytes": loaders_memory,
    }


def loaders_memory() -> int | None:
    """Bytes that the processes that load images for this one had at most, each at its own time; 0 if there are none,
    None where the system does not say. To be asked while they are there.
    """
    total = 0
    for child in multiprocessing.active_children():
        highest = peak_memory(child.pid)
        if highest is None:
            return None
        total += highest
    return total


class Busy:
    """How busy other programs have kept the processors of this machine since it was made."""

    def __init__(self) -> None:
        self._begun = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds: of the clock, of all processors at work, and of these those of this process and its children."""
        every, own = psutil.cpu_times(), psutil.Process()
        used = [own.cpu_times(), *(child.cpu_times() for child in own.children(recursive=True))]
        work = every.user + every.system + getattr(every, "nice", 0.0)
        return time.perf_counter(), work, sum(one.user + one.system for one in used)

    def said(self) -> str:
        """What is to be done where they have taken as much as OTHERS processors; else, or where it is done, ""."""
        clock, work, own = (now - then for now, then in zip(self._now(), self._begun, strict=True))
        others = (work - own) / max(clock, 1e-9)
        import torch

        if others < OTHERS or torch.get_num_threads() < 2 or os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
            return ""
        return (
            f"\nother programs keep {others:.1f} of {psutil.cpu_count()} processors busy; beside them training is many "
            f"times quicker with OMP_WAIT_POLICY=passive: end it, set that, and it goes on from here"
        )


def time_left(phase: Phase, epoch: int, learning: float, validating: float | None) -> str:
    """What is said after the first epoch of a phase: the time to its end, from the seconds that this epoch and its
    validation took. A validation that was not seen yet is counted, but has no time. Frozen epochs tell nothing of
    later ones; of the others the first one decodes images that later ones find in memory.
    """
    left = range(epoch + 1, phase.epochs)
    validations = sum(is_validated(phase, e) for e in left)
    seconds = len(left) * learning + validations * (validating or 0.0)
    last = phase.first + phase.epochs - 1
    said = f"epoch {phase.first + epoch} took {duration(learning + (validating or 0.0))}"
    said += f": about {duration(seconds)} to the end of epoch {last}" if left else ""
    if validating is None and validations:
        said += f", and {validations} validations"
    if phase.frozen:
        return f"frozen {said}; an epoch after them takes longer"
    return f"{said}, less where images stay in memory" if left else said


def duration(seconds: float) -> str:
    """
    >>> [duration(s) for s in (0.04, 9.96, 75, 3700)]
    ['0.0 s', '10.0 s', '1 min 15 s', '1 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
