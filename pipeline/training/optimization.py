"""What of a net learns in a phase of its training, and by what rule: AdamW, its rate, the average of the weights."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.spec import ModelSpec
from pipeline.models.backbones import learning_order, thaw_last
from pipeline.models.nets import Net
from pipeline.training.params import LocalizeRun, RunParams

WARM_UP = 0.05  # share of all steps in which the learning rate rises to its peak
AVERAGE_DECAY = 0.999  # of the moving average of the weights, once it has seen enough steps
VALIDATIONS = 20  # at least, of a run; one of twice as many epochs or more is not validated after each


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a training, from epoch `first` on. `frozen`: batches hold `net.features` instead of images, and only
    what comes after them learns; else the run's `tuned_blocks` of the backbone learn with it.
    """

    frozen: bool
    epochs: int
    learning_rate: float
    first: int = 0


def validation_interval(phase: Phase) -> int:
    """Epochs from one validation to the next: so few that there are `VALIDATIONS` at least. Frozen epochs take no
    time: 1.
    """
    return 1 if phase.frozen else max(1, phase.epochs // VALIDATIONS)


def is_validated(phase: Phase, epoch: int) -> bool:
    """Whether a validation follows that epoch of the phase: counted from the last one, which has one."""
    return (phase.epochs - 1 - epoch) % validation_interval(phase) == 0


def last_epochs(run: RunParams, phase: Phase) -> int:
    """How many epochs at the end of the phase no early stop leaves out: those in which images are no longer mixed."""
    if phase.frozen or isinstance(run, LocalizeRun):
        return 0
    return min(run.train.online.quiet_epochs, phase.epochs)


class WholeNet(nn.Module):
    """A net with the normalization of its images in front: uint8 [N, S, S, 3], or frozen maps, -> its outputs."""

    def __init__(self, net: Net, spec: ModelSpec, frozen: bool) -> None:
        super().__init__()
        self.net, self.frozen, self.labels = net, frozen, len(spec.labels)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Any) -> tuple[Tensor, ...]:
        if self.frozen:
            return tuple(self.net.top(images))
        normal = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return tuple(self.net(normal.contiguous(memory_format=torch.channels_last)))


def freeze(net: Net, run: RunParams, phase: Phase) -> None:
    """Leave only those parameters learning that `phase` and `run.train.tuned_blocks` say."""
    net.requires_grad_(True)
    if phase.frozen or run.train.tuned_blocks != "all":
        for parameter in net.backbone_parameters():
            parameter.requires_grad_(False)
    if not phase.frozen and isinstance(run.train.tuned_blocks, int):
        thaw_last(run.model.backbone, net.body, run.train.tuned_blocks)


def train_mode(whole: nn.Module) -> None:
    """All but what is frozen: its batch norm keeps the statistics that its weights were trained with."""
    whole.train()
    for module in whole.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            module.eval()


def new_optimizer(net: Net, run: RunParams, phase: Phase) -> torch.optim.Optimizer:
    """AdamW; head and backbone at their shares of the rate, and no decay of vectors (biases and norms)."""
    shares = rate_shares(net, run, phase)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for p in net.parameters():
        if p.requires_grad:
            groups.setdefault((shares[id(p)], p.ndim > 1), []).append(p)
    return torch.optim.AdamW(
        [
            {
                "params": p,
                "lr": phase.learning_rate * share,
                "weight_decay": run.train.weight_decay if is_matrix else 0.0,
            }
            for (share, is_matrix), p in groups.items()
        ],
        fused=True,  # one kernel for all parameters: a MobileNet has hundreds of small ones
    )


def rate_shares(net: Net, run: RunParams, phase: Phase) -> dict[int, float]:
    """By the id of a parameter of `net`, its share of the phase's learning rate.

    After frozen epochs the head, which knows its part already, has `head_rate`. A block of the backbone has
    `backbone_rate`, times `layer_decay` for each block between it and the head.
    """
    train = run.train
    head = train.head_rate if phase.first else 1.0  # the first phase is the one in which it learns from nothing
    shares = {id(p): head for p in net.parameters()}
    shares |= {id(p): train.backbone_rate for p in net.backbone_parameters()}
    if train.layer_decay < 1 and not phase.frozen:
        for depth, block in enumerate(reversed(learning_order(run.model.backbone, net.body))):
            shares |= {id(p): train.backbone_rate * train.layer_decay**depth for p in block}
    return shares


def new_schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A linear warm-up, then a cosine down to a hundredth."""
    warm = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def moving_average(averages: Any, currents: Any, steps: Tensor | int) -> None:
    """Exponential, with a short memory at first: the early weights are far from where training ends."""
    decay = min(AVERAGE_DECAY, (1 + float(steps)) / (10 + float(steps)))
    if averages[0].is_floating_point():
        torch._foreach_lerp_(averages, currents, 1 - decay)
    else:
        torch._foreach_copy_(averages, currents)
