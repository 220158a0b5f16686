"""A saved program to a LiteRT file in static int8. Runs in LiteRT's own environment, where this project is not.

    python litert_convert.py FOLDER OUTPUT...

reads `float.pt2` (takes uint8 [1, S, S, 3]) and `calibration.npy` (uint8 [n, S, S, 3]) of FOLDER, and writes
`int8.tflite`, its outputs named OUTPUT..., and `facts.json`.
"""

import gc
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe
from ai_edge_quantizer.utils import tfl_flatbuffer_utils

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
FLOAT = "float/"  # the beginning of the names of what stays float
SIGNATURE = "serving_default"
PACKAGES = ("torch", "litert-torch", "litert-converter", "ai-edge-quantizer")


def main(folder: Path, outputs: list[str]) -> None:
    gc.disable()  # it would walk the growing graphs again and again
    images = np.load(folder / "calibration.npy")
    program = torch.export.load(folder / "float.pt2")
    litert_torch.convert(program.module(), (torch.from_numpy(images[:1]),)).export(str(folder / "converted.tflite"))
    model = tfl_flatbuffer_utils.read_model(str(folder / "converted.tflite"))
    kept = _name(model, outputs)
    tfl_flatbuffer_utils.write_model(model, str(folder / "float.tflite"))

    work = quantizer.Quantizer(str(folder / "float.tflite"), recipe.static_wi8_ai8())
    nothing = algorithm_manager.AlgorithmName.NO_QUANTIZE
    for operator in ("INPUT", "OUTPUT", *kept):
        work.update_quantization_recipe(f"^{FLOAT}", qtyping.TFLOperationName[operator], None, nothing)
    (folder / "int8.tflite").write_bytes(work.quantize(_ranges(work, images)).quantized_model)
    facts = {"converter": {name: version(name) for name in PACKAGES}}
    (folder / "facts.json").write_text(json.dumps(facts))


def _ranges(work: quantizer.Quantizer, images: np.ndarray) -> dict[str, dict[str, Any]]:
    """Smallest and largest value of each tensor over all images.

    Image by image, since the quantizer's own way is a moving average in which the first counts for most.
    """
    whole: dict[str, dict[str, Any]] = {}
    for image in images:
        for tensor, found in work.calibrate({SIGNATURE: [{"image": image[None]}]}, num_threads=1).items():
            known = whole.setdefault(tensor, found)
            if {"min", "max"} <= found.keys():
                known |= {"min": np.minimum(known["min"], found["min"]), "max": np.maximum(known["max"], found["max"])}
    return whole


def _name(model: Any, outputs: list[str]) -> set[str]:
    """Give tensors short names and the graph's ends their own; returns the kinds of operators that stay float.

    Those are the ones before the first layer and after the last layer of an output (`folding.edges`).
    """
    graph = model.subgraphs[0]
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    kind = [kinds[model.operatorCodes[op.opcodeIndex].builtinCode] for op in graph.operators]
    edges = set(range(next((i for i, name in enumerate(kind) if name in LAYERS), 0)))
    maker = {tensor: i for i, op in enumerate(graph.operators) for tensor in op.outputs}
    queue = list(graph.outputs)
    while queue:
        i = maker.get(queue.pop())
        if i is not None and kind[i] not in LAYERS and i not in edges:
            edges.add(i)
            queue += graph.operators[i].inputs
    signature = model.signatureDefs[0]
    signature.signatureKey = SIGNATURE.encode()
    for i, tensor in enumerate(graph.tensors):
        tensor.name = f"{FLOAT if maker.get(i) in edges else ''}{i:x}".encode()
    signature.inputs[0].name = b"image"
    graph.tensors[graph.inputs[0]].name = f"{FLOAT}image".encode()
    places = {int(entry.name.decode().removeprefix("output_")): entry for entry in signature.outputs}
    for i, name in enumerate(outputs):
        places[i].name = name.encode()
        graph.tensors[places[i].tensorIndex].name = f"{FLOAT}{name}".encode()
    graph.outputs = [places[i].tensorIndex for i in range(len(outputs))]
    known = set(qtyping.TFLOperationName.__members__)
    return {kind[i] for i in edges} & known


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
