"""ExecuTorch for phones, on its XNNPACK backend: float, and int8 with a scale per output channel."""

import copy
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import fx, nn

from pipeline.export.int8.budget import within_budget
from pipeline.export.int8.equalize import equalize
from pipeline.graph.folding import Images, edges, example, few, folded, outputs_of
from pipeline.runtimes.on_executorch import ExecutorchRuntime
from pipeline.runtimes.runtime import relative_error

# passes of XNNPACK's backend, and words in the names of the steps that each is for
ONLY_FOR = {
    "ConvertToUpsampleBilinear2d": ("bilinear",),
    "ConvertToSDPAPass": ("attention", "softmax"),
    "FuseBatchNormPass": ("batch_norm",),
    "DecomposeBatchNorm": ("batch_norm",),
    "DecomposeConcatenate": ("cat", "stack"),
    "InsertPadQDQPass": ("pad",),
    "Conv1dUnsqueezePass": ("conv1d",),
    "PReLUReshapePass": ("prelu",),
}


def export_float(deployed: nn.Module, calibration: Images, path: Path, _names: list[str]) -> dict[str, Any]:
    """Write a .pte; `calibration` only says how large the input is. A .pte knows its outputs by order, not by name."""
    with calm():
        return _lower(torch.export.export(folded(deployed, calibration), example(calibration)), path)


def export_int8(
    deployed: nn.Module, calibration: Images, path: Path, _names: list[str], budget: float = 0.0
) -> dict[str, Any]:
    """Write a .pte with int8 weights and activations.

    `budget` is the share of its bytes that may be added for layers that stay float.
    """
    with calm():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        graph = folded(deployed, calibration)
        images = few(calibration)
        exact = outputs_of(graph, images)
        equalize(graph, images)

        def quantize(spared: set[str]) -> dict[str, Any]:
            prepared = _prepared(copy.deepcopy(graph), spared)
            outputs_of(prepared, calibration)
            facts = _lower(torch.export.export(convert_pt2e(prepared), example(calibration)), path)
            error = relative_error(ExecutorchRuntime(path, 1).run(np.concatenate(images)), exact)
            return {**facts, "settings": "static int8, per channel", "relative_error": round(error, 6)}

        return within_budget(quantize, graph, images, budget, path)


def _prepared(graph: fx.GraphModule, spared: set[str]) -> fx.GraphModule:
    """`graph` with XNNPACK's places of int8, but for those of `spared`, each with an observer of ours."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    from pipeline.export.int8.observers import RangeObserver, clips_as_relu, mark_answers

    ends = edges(graph)
    quantizer = xnnpack_quantizer(ends | spared, RangeObserver.with_args(eps=2**-12))
    with clips_as_relu(graph.graph):
        graph = prepare_pt2e(graph, quantizer)
    graph.recompile()
    mark_answers(graph, ends)
    return graph


def xnnpack_quantizer(kept_float: set[str], observer: Any = None, is_qat: bool = False) -> Any:
    """XNNPACK's symmetric quantizer, a scale per output channel, for all steps but `kept_float`; `observer` finds the
    ranges of activations in place of its own.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    config = get_symmetric_quantization_config(is_per_channel=True, is_qat=is_qat)
    quantizer = XNNPACKQuantizer()
    # convolutions with a batch norm, each traced to be looked for: there are none, the norms are folded
    quantizer.SUPPORTED_PATTERNS = [pattern for pattern in quantizer.SUPPORTED_PATTERNS if not pattern.is_qat]
    if observer is not None:
        activation = replace(config.input_activation, observer_or_fake_quant_ctr=observer)
        config = replace(config, input_activation=activation, output_activation=activation)
    return quantizer.set_global(config).set_filter_function(lambda node: node.name not in kept_float)


def _lower(program: Any, path: Path) -> dict[str, Any]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower

    # its checks of the graph between the passes take a tenth of the time; `verify` checks the file itself
    config = EdgeCompileConfig(_check_ir_validity=False)
    with _needed_passes(program):
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
def _needed_passes(program: Any) -> Iterator[None]:
    """XNNPACK's backend retraces the whole net for each of its 17 passes, also for what the net does not have. Those
    are left out: up to half of them, with the same bytes.
    """
    from executorch.backends.xnnpack import xnnpack_preprocess

    vain = passes_in_vain(program)

    class Passes(xnnpack_preprocess.XNNPACKPassManager):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.passes: list[Any] = [p for p in self.passes if p.__name__ not in vain]

    with mock.patch.object(xnnpack_preprocess, "XNNPACKPassManager", Passes):
        yield


def passes_in_vain(program: Any) -> set[str]:
    """Names of those of `ONLY_FOR` for which `program` has no step."""
    steps = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    return {name for name, words in ONLY_FOR.items() if not any(word in step for word in words for step in steps)}


@contextmanager
def calm() -> Iterator[None]:
    """One thread, no garbage collector, no advice to developers of torch, which warns of what torchao does when it is
    imported: that is done in here.

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
