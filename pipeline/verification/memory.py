"""How much memory a model file takes, in a process that has nothing else to do.

    python -m pipeline.verification.memory FILE SIDE

is that process: it prints the bytes, and imports NumPy and the file's runtime only, so that nothing else is counted.
"""

import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Load = Callable[[Path], Callable[[NDArray[np.uint8]], object]]


def peak_memory(path: Path, side: int) -> int:
    """Bytes by which a fresh process grows at its highest when it loads `path` and runs one picture of `side` pixels.

    What the process has before is Python, NumPy and the runtime; for a .pte torch too, which its bindings are made of.
    """
    command = [sys.executable, "-m", "pipeline.verification.memory", str(path.absolute()), str(side)]
    root = Path(__file__).parents[2]  # where `pipeline` is found, whether or not it is installed
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path}: its memory could not be measured: {done.stderr}")
    return int(done.stdout.split()[-1])


def _growth(path: Path, side: int) -> int:
    image = np.full((1, side, side, 3), 114, np.uint8)
    load = _onnx() if path.suffix == ".onnx" else _executorch()
    before = _highest()
    load(path)(image)
    return _highest() - before


def _onnx() -> Load:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def load(path: Path) -> Callable[[NDArray[np.uint8]], object]:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda image: session.run(None, {"image": image})

    return load


def _executorch() -> Load:
    import torch
    from executorch.extension.pybindings import _C

    def load(path: Path) -> Callable[[NDArray[np.uint8]], object]:
        content = path.read_bytes()
        program = _C._load_program_from_buffer(content)
        method = program.load_method("forward")

        def run(image: NDArray[np.uint8]) -> object:
            assert program is not None and content  # held here, because a method does not keep them alive
            return method([torch.from_numpy(image)])

        return run

    return load


def _highest() -> int:
    """Bytes of memory that this process had at most so far."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss starts from the value of the parent process
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.stdout.write(f"{_growth(Path(sys.argv[1]), int(sys.argv[2]))}\n")
