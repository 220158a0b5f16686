"""ExecuTorch for phones, on its XNNPACK backend: float, and int8 with a scale per output channel."""

import copy
import gc
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import fx, nn

from pipeline.export.int8.budget import spare
from pipeline.export.int8.equalize import equalized_if_closer, kept
from pipeline.export.int8.ranges import RANGES, relative_error
from pipeline.export.int8.simulate import Images, Outputs, few
from pipeline.graph.folding import edges, example, folded


def export_float(deployed: nn.Module, calibration: Images, path: Path, _names: list[str]) -> dict[str, Any]:
    """Write a .pte; `calibration` only says how large the input is. A .pte knows its outputs by order, not by name."""
    with calm():
        return _lower(torch.export.export(folded(deployed, calibration), example(calibration)), path)


def export_int8(
    deployed: nn.Module, calibration: Images, path: Path, _names: list[str], budget: float = 0.0
) -> dict[str, Any]:
    """Write a .pte with int8 weights and activations, in the ranges that come closest to the float net.

    `budget` is the share of its bytes that may be added for layers that stay float.
    """
    with calm():
        graph, exact, equalized = equalized_if_closer(folded(deployed, calibration), few(calibration))
        facts, error = _quantize(copy.deepcopy(graph) if budget > 0 else graph, calibration, exact, set(), path)
        if budget > 0:
            size = path.stat().st_size
            spared = spare(graph, few(calibration), int(budget * size))
            whole = path.read_bytes()
            mixed, less = _quantize(graph, calibration, exact, set(spared.units), path)
            spent = spared.facts((size, path.stat().st_size), (error, less))
            facts = {**(mixed if spent["kept"] else facts), "budget": spent}
            if not spent["kept"]:
                path.write_bytes(whole)
    return {**facts, "equalization": equalized, "settings": f"{facts['settings']}{', equalized' * kept(equalized)}"}


def _quantize(
    graph: fx.GraphModule, calibration: Images, exact: Outputs, spared: set[str], path: Path
) -> tuple[dict[str, Any], float]:
    """Write `path`, with the steps in `spared` left float; returns facts about it and its relative error."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    from pipeline.export.int8.observers import choose_ranges, outputs, rounded_outputs

    prepared = _prepared(graph, spared)
    outputs(prepared, calibration)
    tried = {}
    for ranges in RANGES:
        choose_ranges(prepared, ranges)
        tried[ranges] = relative_error(exact, rounded_outputs(prepared, few(calibration)))
    best = min(tried, key=lambda ranges: tried[ranges])
    choose_ranges(prepared, best)
    facts = _lower(torch.export.export(convert_pt2e(prepared), example(calibration)), path)
    facts |= {
        "settings": f"static int8, per channel, {best} ranges",
        "relative_error": {f"{ranges} ranges": round(error, 6) for ranges, error in tried.items()},
    }
    return facts, tried[best]


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
    with _known_patterns(program):
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
def _known_patterns(program: Any) -> Iterator[None]:
    """XNNPACK's backend looks for what attention and bilinear enlargement were taken apart into, and traces and lowers
    small nets to have the patterns: a tenth of an export's time. Not where `program` has no such step.
    """
    from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

    steps = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    with ExitStack() as without:
        if not any("upsample" in step for step in steps):
            without.enter_context(mock.patch.object(bilinear_2d, "get_graphs_dict", dict))
        if not any("attention" in step or "softmax" in step for step in steps):
            without.enter_context(mock.patch.object(sdpa, "get_graphs", list))
        yield


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
