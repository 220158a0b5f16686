"""What the losses of all tasks share: the labels' weights, what a sum is divided by, a stop where one is not finite."""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from pipeline.core.errors import InputError
from pipeline.core.sample import Sample

if TYPE_CHECKING:
    from pipeline.models.nets import Net

LEAST_WEIGHT = 1e-6  # of a batch's labels: where it has none, nothing is divided by it


def finite_loss(
    net: "Net", outputs: tuple[Tensor, ...], target: dict[str, Tensor], items: list[Any], when: str
) -> Tensor:
    """`net.loss(outputs, target)`. Raises InputError, naming the images of the batch's `items`, if it is not finite; of
    outputs that are not, it is not taken: they hold no boxes to compare.
    """
    whole = all(torch.isfinite(o).all() for o in outputs)
    loss = net.loss(outputs, target) if whole else outputs[0].new_tensor(math.nan)
    if not torch.isfinite(loss):
        names = ", ".join(item[1].id for item in items)
        raise InputError(f"the loss is {loss.item()} in {when}, on these images: {names}")
    return loss


def divisor(count: Tensor, learning: bool, least: float = 1.0) -> Tensor:
    """What a loss summed over `count` things of a batch is divided by: that count, `least` at the least.

    Where several processes learn from a part of the batch each, it is their counts' sum over the number of processes:
    the mean of their gradients, which is what they take, is then the gradient of the whole batch. What is not
    `learning` is each process's own batch.
    """
    count = count.detach().float()
    if not (learning and distributed.is_available() and distributed.is_initialized()):
        return count.clamp(min=least)
    total = count.double()  # all_reduce's own mean would truncate what is whole
    distributed.all_reduce(total)
    return (total.clamp(min=least) / distributed.get_world_size()).float()


def label_weights(task: str, samples: list[Sample], labels: list[str]) -> Tensor:
    """[K], a label's weight in the loss: all / (labels * those of it), as scikit-learn's "balanced", of images or
    objects.
    """
    each = (s.label for s in samples) if task == "classify" else (o.label for s in samples for o in s.objects)
    counts = Counter(each)
    return torch.tensor([counts.total() / (len(labels) * counts[label]) for label in labels])
