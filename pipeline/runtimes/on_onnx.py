"""ONNX Runtime: the .onnx files."""

from pathlib import Path

import numpy as np

from pipeline.core.errors import InputError
from pipeline.runtimes.runtime import Images, Outputs


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
