"""ExecuTorch: the .pte files."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import InputError
from pipeline.runtimes.runtime import Images, Outputs, without_stderr_lines


class ExecutorchRuntime:
    """All programs of a process share one pool of threads: one with another `threads` makes a new pool."""

    _pools = 0  # made so far; a program that was loaded with an earlier one is loaded anew

    def __init__(self, path: Path, threads: int | None) -> None:
        import torch

        # what executorch.runtime wraps; that imports the whole exporter too, which takes five seconds
        from executorch.extension.pybindings import _C

        self.threads = threads or os.cpu_count() or 1
        self._bindings = _C
        self._from_numpy = torch.from_numpy
        self._file = path.read_bytes()  # kept: a program reads from it
        try:
            self._load()
        except RuntimeError as error:
            raise InputError(f"{path}: not an ExecuTorch program, or one cut short: {error}") from None

    def _load(self) -> None:
        with without_stderr_lines(b"[cpuinfo_utils.cpp:", b"[threadpool.cpp:"):
            if self._bindings._threadpool_get_thread_count() != self.threads:
                self._bindings._unsafe_reset_threadpool(self.threads)
                ExecutorchRuntime._pools += 1
            # kept: a method reads the program's memory and does not keep it alive
            self._program = self._bindings._load_program_from_buffer(self._file)
            self._method: Any = self._program.load_method("forward")
        self._pool = ExecutorchRuntime._pools

    def run(self, images: Images) -> Outputs:
        if self._pool != ExecutorchRuntime._pools:
            self._load()
        # clones: the method's output buffers are written over by the next call
        each = [[o.numpy() for o in self._method([self._from_numpy(i[None])], clone_outputs=True)] for i in images]
        return [np.concatenate(part) for part in zip(*each, strict=True)]
