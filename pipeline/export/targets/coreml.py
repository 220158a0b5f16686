"""Core ML for Apple's devices: an ML Program with int8 weights that takes an RGB image.

It runs there only; `runtimes.on_coreml.inspect` says what can be said of it elsewhere.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.core.files import read_json, write_json
from pipeline.graph.folding import fold
from pipeline.runtimes.on_coreml import calm, inspect

DATE = "com.github.apple.coremltools.conversion_date"


class _OfFloats(nn.Module):
    """`deployed` for floats [1, 3, S, S] from 0 to 255, which is what Core ML makes of an image."""

    def __init__(self, deployed: nn.Module) -> None:
        super().__init__()
        self.deployed = deployed

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        answer: tuple[Tensor, ...] = self.deployed(image.permute(0, 2, 3, 1))
        return answer


def export_int8(
    deployed: nn.Module, calibration: Sequence[NDArray[np.uint8]], path: Path, output_names: list[str]
) -> dict[str, Any]:
    """Write the folder `path` (.mlpackage): weights int8 with a scale per output channel, computed in float16.

    `calibration` only says how large the input is: activations are not quantized.
    """
    with calm():
        import coremltools as ct
        from coremltools.optimize import coreml as optimize

        side = calibration[0].shape[1]
        inputs = (torch.zeros(1, 3, side, side),)
        program = torch.export.export(fold(_OfFloats(deployed), inputs), inputs).run_decompositions({})
        model = ct.convert(
            program,
            inputs=[ct.ImageType("image", shape=(1, 3, side, side), color_layout=ct.colorlayout.RGB)],
            outputs=[ct.TensorType(name, dtype=np.float32) for name in output_names],
            minimum_deployment_target=ct.target.iOS16,
        )
        # its default leaves small layers float16: most depthwise ones
        how = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=0)
        optimize.linear_quantize_weights(model, optimize.OptimizationConfig(how)).save(str(path))
        _same_each_time(path)
    return {"settings": "int8 weights, per channel; float16 between", **inspect(path)}


def _same_each_time(package: Path) -> None:
    """Replace the identifiers that are drawn anew each time, and leave out the date."""
    from coremltools.models.utils import load_spec

    manifest = read_json(package / "Manifest.json")
    entries = sorted(manifest["itemInfoEntries"].items(), key=lambda item: item[1]["path"])
    fixed = {old: str(uuid.uuid5(uuid.NAMESPACE_OID, entry["path"])) for old, entry in entries}
    manifest["itemInfoEntries"] = {fixed[old]: entry for old, entry in entries}
    manifest["rootModelIdentifier"] = fixed[manifest["rootModelIdentifier"]]
    write_json(package / "Manifest.json", manifest)
    spec = load_spec(str(package))
    spec.description.metadata.userDefined.pop(DATE)
    program = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    (package / "Data" / program).write_bytes(spec.SerializeToString(deterministic=True))
