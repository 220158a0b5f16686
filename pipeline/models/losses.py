"""What the losses of all tasks share: the labels' weights, and a stop where a loss is not finite."""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipeline.core.errors import InputError
from pipeline.core.sample import Sample

if TYPE_CHECKING:
    from pipeline.models.nets import Net


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


def label_weights(task: str, samples: list[Sample], labels: list[str]) -> Tensor:
    """[K], a label's weight in the loss: all / (labels * those of it), as scikit-learn's "balanced", of images or
    objects.
    """
    each = (s.label for s in samples) if task == "classify" else (o.label for s in samples for o in s.objects)
    counts = Counter(each)
    return torch.tensor([counts.total() / (len(labels) * counts[label]) for label in labels])
