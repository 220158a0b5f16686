"""LiteRT: the .tflite files."""

from pathlib import Path

import numpy as np

from pipeline.core.errors import InputError
from pipeline.runtimes.runtime import Images, Outputs, without_stderr_lines


class LitertRuntime:
    """On XNNPACK, which LiteRT takes by itself on a CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.threads = threads or 1
        try:
            with without_stderr_lines(b"INFO: "):
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
