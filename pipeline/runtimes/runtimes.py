"""One way to run a model, whichever form it has: torch, ONNX Runtime, ExecuTorch or LiteRT behind `run(images)`."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image
from pipeline.core.sample import Sample
from pipeline.core.spec import ModelSpec
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import Frame, resize

Images = NDArray[np.uint8]
Outputs = list[NDArray[np.float32]]
BATCH = 32
WARM_UP, TIMED = 5, 30  # runs of one picture


class Runtime(Protocol):
    """`run`: uint8 RGB [N, S, S, 3] -> the graph's outputs in order, float32 [N, ...] each."""

    threads: int

    def run(self, images: Images) -> Outputs: ...


class TorchRuntime:
    """The trained net itself, with the normalization that is inside the shipped graphs."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        import torch

        from pipeline.models.nets import Deployed, load_model

        self.threads = threads or 1
        self._torch = torch
        self._net = Deployed(*load_model(folder)).eval().to(memory_format=torch.channels_last)

    def run(self, images: Images) -> Outputs:
        with self._torch.inference_mode():
            return [np.ascontiguousarray(o.numpy()) for o in self._net(self._torch.from_numpy(images))]


class OnnxRuntime:
    concurrent = True  # a session may run in several threads at once

    def __init__(self, path: Path, threads: int | None) -> None:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

        self.threads = threads or 1
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3  # errors; its warnings are about optimizations
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
            raise InputError(f"{path}: not an ONNX model, or one cut short: {str(error).splitlines()[0]}") from None

    def run(self, images: Images) -> Outputs:
        each = [self._session.run(None, {"image": image[None]}) for image in images]
        return [np.concatenate(part) for part in zip(*each, strict=True)]


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
        with _without_stderr_lines(b"[cpuinfo_utils.cpp:", b"[threadpool.cpp:"):
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


class LitertRuntime:
    """On XNNPACK, which LiteRT takes by itself on a CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.threads = threads or 1
        try:
            with _without_stderr_lines(b"INFO: "):
                self._interpreter = Interpreter(str(path), num_threads=self.threads)
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: not a LiteRT model, or one cut short: {error}") from None
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]

    def run(self, images: Images) -> Outputs:
        each = []
        for image in images:
            self._interpreter.set_tensor(self._input, image[None])
            self._interpreter.invoke()
            each.append([self._interpreter.get_tensor(output) for output in self._outputs])
        return [np.concatenate(part) for part in zip(*each, strict=True)]


RUNTIMES: dict[str, Callable[[Path, int | None], Runtime]] = {
    "torch": TorchRuntime,
    "onnx_float": OnnxRuntime,
    "onnx_int8": OnnxRuntime,
    "executorch_float": ExecutorchRuntime,
    "executorch_int8": ExecutorchRuntime,
    "litert": LitertRuntime,
}
NOT_RUN = {"coreml": "not run: Core ML needs an Apple machine"}  # targets that no runtime here can run


def open_runtime(target: str, path: Path, threads: int | None = None) -> Runtime:
    """`path`: the model's folder for "torch", an exported file for the other targets.

    `threads` of None is one thread, but for ExecuTorch the machine's cores.

    Raises InputError naming `path` if it is missing, cut short or of another kind, and what is missing if its runtime
    is not installed or cannot be.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if target in NOT_RUN:
        raise InputError(f"{path}: {NOT_RUN[target]}")
    try:
        return RUNTIMES[target](path, threads)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {not_installed(error)}") from None


def not_installed(error: ModuleNotFoundError) -> str:
    """What to say, and to do, about a package that is not there."""
    return f"the package of {error.name} is not installed; `make setup` installs all that is needed"


def latency(runtime: Runtime, canvas: Images) -> dict[str, Any]:
    """Milliseconds for one picture that is already on the canvas (uint8 [1, S, S, 3]), on this machine."""
    times = []
    for _ in range(WARM_UP + TIMED):
        start = time.perf_counter()
        runtime.run(canvas)
        times.append((time.perf_counter() - start) * 1000)
    median, p95 = np.percentile(times[WARM_UP:], [50, 95])
    return {
        "median": round(float(median), 3),
        "p95": round(float(p95), 3),
        "runs": TIMED,
        "threads": runtime.threads,
    }


def predict_samples(
    runtime: Runtime, spec: ModelSpec, folder: Path, samples: list[Sample], score: float | None = None
) -> list[Sample]:
    """What the model says of the pictures of `samples` in `folder`: the same ids, with predicted labels or objects.

    `score` replaces the spec's threshold for objects. Raises InputError naming a picture that does not decode.
    """
    predicted = []
    with tqdm(total=len(samples), desc="predict", mininterval=0.5, disable=None) as bar:
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            inputs = [resize(open_image(folder / s.file_name), spec.size, spec.resize) for s in batch]
            outputs = runtime.run(np.stack([canvas for canvas, _ in inputs]))
            for i, (sample, (_, frame)) in enumerate(zip(batch, inputs, strict=True)):
                label, scores, objects = decode([o[i] for o in outputs], spec, frame, score)
                predicted.append(replace(sample, label=label, scores=scores, objects=objects))
            bar.update(len(batch))
    return predicted


def predict_image(runtime: Runtime, spec: ModelSpec, image: Image.Image, score: float | None = None) -> Sample:
    """What the model says of one upright RGB image; the sample has no id and no file."""
    return predict_resized(runtime, spec, image.size, *resize(image, spec.size, spec.resize), score)


def predict_resized(
    runtime: Runtime,
    spec: ModelSpec,
    size: tuple[int, int],
    canvas: Images,
    frame: Frame,
    score: float | None = None,
) -> Sample:
    """The same of an image of `size` (width and height in pixels) that `resize` made `canvas` and `frame` of."""
    label, scores, objects = decode([o[0] for o in runtime.run(np.stack([canvas]))], spec, frame, score)
    return Sample("", "", *size, label=label, scores=scores, objects=objects)


@contextmanager
def _without_stderr_lines(*starts: bytes) -> Iterator[None]:
    """Lines that a C++ library writes to the process's stderr are held back if they begin with one of `starts`."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            held.seek(0)
            rest = [line for line in held if not line.startswith(starts)]
            os.close(stderr)
            sys.stderr.write(b"".join(rest).decode(errors="replace"))
