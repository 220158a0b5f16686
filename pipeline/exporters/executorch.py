"""ExecuTorch for phones, on its XNNPACK backend: float, and int8 with a scale per output channel."""

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from pipeline.exporters.folding import edges, example, folded

Images = Sequence[NDArray[np.uint8]]


def export_float(deployed: nn.Module, calibration: Images, path: Path, _names: list[str]) -> dict[str, Any]:
    """Write a .pte; `calibration` only says how large the input is. A .pte knows its outputs by order, not by name."""
    with calm():
        return lower(torch.export.export(folded(deployed, calibration), example(calibration)), path)


def export_int8(deployed: nn.Module, calibration: Images, path: Path, _names: list[str]) -> dict[str, Any]:
    """Write a .pte with int8 weights and activations, its ranges from histograms over the `calibration` images."""
    with calm():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        graph = folded(deployed, calibration)
        graph = prepare_pt2e(graph, xnnpack_quantizer(graph))
        with torch.inference_mode():
            for image in calibration:
                graph(torch.from_numpy(image))
        facts = lower(torch.export.export(convert_pt2e(graph), example(calibration)), path)
    return {**facts, "settings": "static int8, per channel, histogram ranges"}


def xnnpack_quantizer(graph: fx.GraphModule, is_qat: bool = False) -> Any:
    """XNNPACK's symmetric quantizer, a scale per output channel, for all but the `edges` of the folded `graph`."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    kept_float = edges(graph)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_qat=is_qat))
    return quantizer.set_filter_function(lambda node: node.name not in kept_float)


def lower(program: Any, path: Path) -> dict[str, Any]:
    """Write a .pte of the exported `program` and return facts about it."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower

    # its checks of the graph between the passes take a tenth of the time; `verify` checks the file itself
    config = EdgeCompileConfig(_check_ir_validity=False)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], compile_config=config)
    outside = [
        str(node.target).split("aten.")[-1].split(".")[0]
        for node in lowered.exported_program().graph.nodes
        if node.op == "call_function" and "aten." in str(node.target)
    ]
    # XNNPACK asks for 16; 128, the default, is padding around every small constant
    path.write_bytes(lowered.to_executorch(ExecutorchBackendConfig(segment_alignment=16)).buffer)
    return {"backend": "XNNPACK", "outside_backend": outside}


@contextmanager
def calm() -> Iterator[None]:
    """One thread, no garbage collector, no advice to developers of torch.

    Thousands of tiny operators are run: waking a second thread for each takes longer than the work, and the
    collector would walk the growing graphs again and again. One thread also gives the same sums on any machine.
    """
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()
