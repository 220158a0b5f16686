"""How good a net is on val while it learns: by its loss, by the run's own metric, and by what an epoch is kept for."""

import math
from dataclasses import replace
from operator import itemgetter
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from pipeline.core.sample import Dataset, Sample
from pipeline.core.spec import ModelSpec
from pipeline.metrics.metrics import FOR_AP, main_metric, rank, score
from pipeline.models.losses import finite_loss
from pipeline.ops.decode import decode
from pipeline.training.devices import gathered, sum_of_all, to_device

TIES = 1e-3  # of val_rank, in which the loss decides
# how a net's answers are read for the validation metric, whatever is shown of them later
READ: dict[str, dict[str, Any]] = {
    "classify": {},
    "localize": {"score": 0.5},
    "detect": {**FOR_AP, "nms": "vote", "nms_iou": 0.6},
}


@torch.no_grad()
def validate(
    fabric: Fabric, whole: Any, spec: ModelSpec, loader: DataLoader[Any], dataset: Dataset, when: str
) -> dict[str, float]:
    """The columns val_loss, val_metric and val_rank of the training history, the same in every process.

    `whole` is the net in eval mode, from uint8 images to its outputs. It computes in float32, as the files that ship:
    batch norm with a small deviation enlarges the rounding errors of bfloat16. Each process takes its own batches of
    `loader`, whole ones, so that an image's answer does not depend on how many processes there are. Raises InputError,
    naming the batch's images, if the loss is not finite.
    """
    spec = replace(spec, predict=READ[spec.task])
    total, seen, rows = 0.0, 0, list[tuple[int, Sample, Sample]]()
    for number, batch in enumerate(loader):
        images, target, items = to_device(fabric, batch)
        outputs = whole(images)
        total += float(finite_loss(whole.net, outputs, target, items, when)) * len(items)
        seen += len(items)
        arrays = [o.float().cpu().numpy() for o in outputs]
        for row, (_, sample, frame, _) in enumerate(items):
            label, scores, objects = decode([a[row] for a in arrays], spec, frame)
            place = sample.id, sample.file_name, sample.width, sample.height
            rows.append((number, sample, Sample(*place, label=label, scores=scores, objects=objects)))
    total, seen = sum_of_all(fabric, torch.tensor([total, seen], dtype=torch.float64)).tolist()
    # in the order of val, batch by batch: the first process has the first, the second the next
    rows = sorted((row for of_process in gathered(fabric, rows) for row in of_process), key=itemgetter(0))
    truth, found = [row[1] for row in rows], [row[2] for row in rows]
    metrics = score(spec.task, truth, found, dataset, whole=False)
    loss = total / seen
    return {
        "val_loss": loss,
        "val_metric": metrics[main_metric(spec.task)] or 0.0,
        # on a small val split many epochs reach the same metric: the lower loss decides between them
        "val_rank": rank(metrics) - TIES * math.tanh(loss),
    }
