"""How much memory a model file takes, in a process that has nothing else to do.

    python -m pipeline.verification.memory FILE SIDE WAY

is that process, WAY being the place of what loads such a file: it prints the bytes or None, and imports NumPy and the
file's runtime only, so that nothing else is counted.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.lazy import load
from pipeline.core.memory import peak_memory

Load = Callable[[Path], Callable[[NDArray[np.uint8]], object]]


def memory_growth(path: Path, side: int, way: str) -> int | None:
    """Bytes by which a fresh process grows at its highest when it loads `path` and runs one image of `side` pixels, or
    None where the system does not say.

    `way` is the place ("module:function") of what imports the runtime and returns a `Load`, as `onnx` below does. What
    the process has before is Python, NumPy and the runtime; for a .pte torch too, which its bindings are made of.
    """
    # it finds modules where this process does
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder or "." for folder in sys.path)}
    command = [sys.executable, "-P", "-m", __name__, str(path), str(side), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{path}: its memory could not be measured: {done.stderr}")
    grown = done.stdout.split()[-1]
    return None if grown == "None" else int(grown)


def _growth(path: Path, side: int, way: str) -> int | None:
    image = np.full((1, side, side, 3), 114, np.uint8)
    open_file: Load = load(way)()
    before = peak_memory()
    open_file(path)(image)
    after = peak_memory()
    return None if before is None or after is None else after - before


def onnx() -> Load:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def open_file(path: Path) -> Callable[[NDArray[np.uint8]], object]:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda image: session.run(None, {"image": image})

    return open_file


def executorch() -> Load:
    import torch
    from executorch.extension.pybindings import _C

    def open_file(path: Path) -> Callable[[NDArray[np.uint8]], object]:
        content = path.read_bytes()
        program = _C._load_program_from_buffer(content)
        method = program.load_method("forward")

        def run(image: NDArray[np.uint8]) -> object:
            assert program is not None and content  # held here, because a method does not keep them alive
            return method([torch.from_numpy(image)])

        return run

    return open_file


if __name__ == "__main__":
    sys.stdout.write(f"{_growth(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])}\n")
