"""One way to run a model, whichever form it has: torch, ONNX Runtime, ExecuTorch or LiteRT behind `run(images)`."""

import logging
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

from pipeline.decode import decode
from pipeline.errors import InputError
from pipeline.models.spec import ModelSpec
from pipeline.preprocess import open_image, resize
from pipeline.sample import Sample

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

    def __init__(self, folder: Path, threads: int) -> None:
        import torch

        from pipeline.models import Deployed, load_model

        self.threads = threads
        self._torch = torch
        self._net = Deployed(*load_model(folder)).eval().to(memory_format=torch.channels_last)

    def run(self, images: Images) -> Outputs:
        with self._torch.inference_mode():
            return [np.ascontiguousarray(o.numpy()) for o in self._net(self._torch.from_numpy(images))]


class OnnxRuntime:
    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; its warnings are about optimizations
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
            raise InputError(f"{path}: not an ONNX model, or one cut short: {str(error).splitlines()[0]}") from None

    def run(self, images: Images) -> Outputs:
        each = [self._session.run(None, {"image": image[None]}) for image in images]
        return [np.concatenate(part) for part in zip(*each, strict=True)]


class ExecutorchRuntime:
    """The Python bindings have no say over threads: ExecuTorch takes the machine's cores."""

    def __init__(self, path: Path, _threads: int) -> None:
        import torch

        logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # advice to torchao's developers
        from executorch.runtime import Runtime as Executorch

        self.threads = os.cpu_count() or 1
        self._from_numpy = torch.from_numpy
        try:
            with _without_stderr_lines("[cpuinfo_utils.cpp:"):
                # kept: a method reads the program's memory and does not keep it alive
                self._program = Executorch.get().load_program(path.read_bytes())
                self._method: Any = self._program.load_method("forward")
        except RuntimeError as error:
            raise InputError(f"{path}: not an ExecuTorch program, or one cut short: {error}") from None

    def run(self, images: Images) -> Outputs:
        # the method's output buffers are written over by the next call
        each = [[o.numpy().copy() for o in self._method.execute([self._from_numpy(i[None])])] for i in images]
        return [np.concatenate(part) for part in zip(*each, strict=True)]


class LitertRuntime:
    """On XNNPACK, which LiteRT takes by itself on a CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.threads = threads
        try:
            with _without_stderr_lines("INFO: "):
                self._interpreter = Interpreter(str(path), num_threads=threads)
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


RUNTIMES: dict[str, Callable[[Path, int], Runtime]] = {
    "torch": TorchRuntime,
    "onnx_float": OnnxRuntime,
    "onnx_int8": OnnxRuntime,
    "executorch_float": ExecutorchRuntime,
    "executorch_int8": ExecutorchRuntime,
    "litert": LitertRuntime,
}
NOT_RUN = {"coreml": "not run: Core ML needs an Apple machine"}  # targets that no runtime here can run


def open_runtime(target: str, path: Path, threads: int = 1) -> Runtime:
    """`path`: the model's folder for "torch", an exported file for the other targets.

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
            inputs = [resize(_open(folder / s.file_name), spec.size, spec.resize) for s in batch]
            outputs = runtime.run(np.stack([canvas for canvas, _ in inputs]))
            for i, (sample, (_, frame)) in enumerate(zip(batch, inputs, strict=True)):
                label, scores, objects = decode([o[i] for o in outputs], spec, frame, score)
                predicted.append(replace(sample, label=label, scores=scores, objects=objects))
            bar.update(len(batch))
    return predicted


def predict_image(runtime: Runtime, spec: ModelSpec, image: Image.Image, score: float | None = None) -> Sample:
    """What the model says of one upright RGB image; the sample has no id and no file."""
    canvas, frame = resize(image, spec.size, spec.resize)
    label, scores, objects = decode([o[0] for o in runtime.run(np.stack([canvas]))], spec, frame, score)
    return Sample("", "", image.width, image.height, label=label, scores=scores, objects=objects)


def _open(path: Path) -> Image.Image:
    try:
        return open_image(path)
    except OSError as error:
        raise InputError(f"{path}: not a picture that decodes: {error}") from None


@contextmanager
def _without_stderr_lines(start: str) -> Iterator[None]:
    """Lines that a C++ library writes to the process's stderr are held back if they begin with `start`."""
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
            rest = [line for line in held if not line.startswith(start.encode())]
            os.close(stderr)
            sys.stderr.write(b"".join(rest).decode(errors="replace"))
