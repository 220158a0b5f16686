"""Quantization-aware training: a few epochs over the train split with int8's rounding in the net, so that its weights
learn to live with it (Jacob et al. 2018). Through torchao's PT2E, on the graph that the exporters start from.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from tqdm import tqdm

from pipeline.core.sample import read_samples
from pipeline.core.spec import ModelSpec
from pipeline.export.params import Qat
from pipeline.export.targets import executorch
from pipeline.graph.folding import CONV, edges, fold
from pipeline.models.losses import finite_loss, label_weights
from pipeline.models.nets import Deployed, Net, load_model
from pipeline.training.loading import KEEP_BYTES, ImageDataset, train_loader

if TYPE_CHECKING:
    from torchao.quantization.pt2e.fake_quantize import FakeQuantize

CLIP_NORM = 10.0  # of the gradients
RANGE_PACE = 0.1  # of an activation's range, towards each new batch's: there are few batches
SMALLEST_SCALE = 2**-14  # of a weight, in torch's fused kernel; with torchao's own 2**-12 the file rounds coarser

Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]


def tune(
    model_folder: Path,
    train_folder: Path,
    calibration: Images,
    params: Qat,
    out: Path,
) -> dict[str, Any]:
    """Write the tuned weights and the ranges of the activations to `out`; returns what export.json says of it.

    Learns from the images of `train_folder` as they are, with the run's own loss; batch norm is folded. The ranges
    begin with those of the `calibration` images. Raises InputError, naming the images, if the loss is not finite.
    """
    net, spec = load_model(model_folder)
    graph = _prepared(net, spec)
    samples = read_samples(train_folder)
    weights = label_weights(spec.task, samples, spec.labels) if params.class_weights == "balanced" else None
    _find_ranges(graph, calibration, params.batch_size)
    pictures = ImageDataset(train_folder, samples, spec)
    pictures.room = KEEP_BYTES
    loader = train_loader(pictures, params.batch_size, 0, params.seed)
    loss = _train(graph, net, loader, params, weights)
    torch.save(graph.state_dict(), out)
    return {
        **params.model_dump(exclude={"budget"}),
        "loss": round(loss, 6),
    }


def tuned_net(net: Net, spec: ModelSpec, tuned: Path) -> nn.Module:
    """uint8 RGB [1, S, S, 3] -> `spec.outputs`: the float net with the weights that `tune` wrote to `tuned`.

    The exporters round it as they do any other. The ranges that were learnt are left out: they do not lie where ONNX
    Runtime fuses its steps, and a moving average over batches cuts rare large values off.
    """
    graph = _prepared(net, spec)
    graph.load_state_dict(torch.load(tuned, weights_only=True))
    return _Traced(_without_rounding(graph))


class _Traced(nn.Module):
    """A traced graph, which refuses to be told that it shall evaluate: it does nothing else."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.net = graph

    def train(self, mode: bool = True) -> "_Traced":  # noqa: ARG002
        return self

    def forward(self, image: Tensor) -> Any:
        return self.net(image)


def _prepared(net: Net, spec: ModelSpec) -> fx.GraphModule:
    """What learns: uint8 RGB [N, S, S, 3] -> `spec.outputs`, rounded wherever ExecuTorch's int8 file rounds."""
    inputs = (torch.zeros(2, spec.size, spec.size, 3, dtype=torch.uint8),)
    with executorch.calm():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

        graph = fold(Deployed(net, spec), inputs, ({0: torch.export.Dim.DYNAMIC},))
        _make_learnable(graph)
        graph = prepare_qat_pt2e(graph, executorch.xnnpack_quantizer(edges(graph), is_qat=True))
    for rounding in _roundings(graph):
        observer = rounding.activation_post_process
        observer.averaging_constant = 1.0 if rounding.is_per_channel else RANGE_PACE  # those of weights are known
        observer.eps.fill_(SMALLEST_SCALE)
    return graph


def _make_learnable(graph: fx.GraphModule) -> None:
    """Turn the folded weights from constants to parameters: one for those that several convolutions had in common."""
    names: dict[tuple[str, int], str] = {}
    for conv in graph.graph.find_nodes(op="call_function", target=CONV):
        for i, node in enumerate(conv.args[1:3]):
            if node is None:
                continue
            key = conv.meta["shared"], i
            if key not in names:
                names[key] = f"tuned_{node.target}"
                graph.register_parameter(names[key], nn.Parameter(getattr(graph, node.target)))
            delattr(graph, node.target)
            node.target = names[key]
    graph.recompile()


def _roundings(graph: fx.GraphModule) -> list["FakeQuantize"]:
    from torchao.quantization.pt2e.fake_quantize import FakeQuantize

    return [module for module in graph.modules() if isinstance(module, FakeQuantize)]


def _find_ranges(graph: fx.GraphModule, images: Images, batch_size: int) -> None:
    """Let the ranges see `images` before anything is rounded to them."""
    for rounding in _roundings(graph):
        rounding.disable_fake_quant()
    with torch.no_grad():
        for batch in torch.from_numpy(np.concatenate(images)).split(batch_size):
            graph(batch)
    for rounding in _roundings(graph):
        rounding.enable_fake_quant()


def _train(graph: fx.GraphModule, net: Net, loader: Any, params: Qat, weights: Tensor | None) -> float:
    """Returns the mean loss of the last epoch."""
    parameters = list(graph.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=params.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, params.epochs * len(loader))
    losses: list[float] = []
    with tqdm(total=params.epochs * len(loader), desc="quantization-aware training", mininterval=0.5) as bar:
        for epoch in range(params.epochs):
            loader.batch_sampler.begin(epoch)
            losses = []
            for images, target, items in loader:
                if weights is not None:
                    target["weight"] = weights
                when = f"epoch {epoch} of quantization-aware training"
                loss = finite_loss(net, graph(images), target, items, when)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.update()
    return float(np.mean(losses))


def _without_rounding(graph: fx.GraphModule) -> fx.GraphModule:
    """The tuned net in float, which takes numbers of any kind: Core ML's exporter hands it floats."""
    roundings = _roundings(graph)
    for node in graph.graph.find_nodes(op="call_module"):
        if graph.get_submodule(node.target) in roundings:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph
