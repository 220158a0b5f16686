"""LiteRT (TensorFlow Lite) for Android: static int8, a scale per output channel.

Its converter needs an older torch, so it lives in an environment of its own (`make litert`) and is called as a program.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.graph.folding import example, folded

ENVIRONMENT = Path(sys.prefix) / "litert"  # inside the project's own


def export_int8(
    deployed: nn.Module, calibration: Sequence[NDArray[np.uint8]], path: Path, output_names: list[str]
) -> dict[str, Any]:
    """Write a .tflite with int8 weights and activations, float at its ends; its signature has the outputs' names.

    Raises InputError if the converter is not installed, or cannot convert the net.
    """
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "ready").exists():
        raise InputError(f"LiteRT's converter is not installed: no {ENVIRONMENT}; `make litert` makes it")
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        torch.export.save(
            torch.export.export(folded(deployed, calibration), example(calibration)), folder / "float.pt2"
        )
        np.save(folder / "calibration.npy", np.concatenate(calibration))
        script = Path(__file__).with_name("litert_convert.py")
        done = subprocess.run(
            [python, "-I", script, folder, *output_names], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = re.findall(r"^\S*(?:Error|Exception): .*", done.stderr, re.MULTILINE)
            raise InputError(f"LiteRT's converter: {said[-1] if said else done.stderr[-2000:] or done.returncode}")
        path.write_bytes((folder / "int8.tflite").read_bytes())
        facts: dict[str, Any] = read_json(folder / "facts.json")
    return {**facts, "settings": "static int8, per channel, min-max ranges"}
