"""How a net is trained, from its first step to the weights that are kept, on one device or on all that torchrun starts.

Several processes share each batch: what a step learns is what one process would learn from the whole of it.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.core.room import need_room
from pipeline.core.sample import Dataset
from pipeline.core.seeds import derived_seed
from pipeline.core.spec import ModelSpec
from pipeline.models.losses import finite_loss
from pipeline.models.nets import Net
from pipeline.training.checkpoint import LAST, NETS, read_checkpoint, write_checkpoint
from pipeline.training.cost import Busy, time_left
from pipeline.training.devices import circumstances, share_norms, sum_of_all, to_device
from pipeline.training.loading import Loaders
from pipeline.training.optimization import (
    Phase,
    WholeNet,
    freeze,
    is_validated,
    last_epochs,
    moving_average,
    new_optimizer,
    new_schedule,
    train_mode,
    validation_interval,
)
from pipeline.training.params import RunParams
from pipeline.training.progress import SoFar, independent
from pipeline.training.quick import join_frozen_norms, learning_norms, measure_norms, quicken
from pipeline.training.shown import as_seen, step_seed
from pipeline.training.validation import validate

CLIP_NORM = 10.0  # of the gradients
MEASURED = 32  # images that batch norm is measured on before each validation, in the batches they came in


def fit(
    fabric: Fabric,
    net: Net,
    spec: ModelSpec,
    run: RunParams,
    dataset: Dataset,
    phase: Phase,
    loaders: Loaders,
    resume_folder: Path,
    so_far: SoFar,
    weights: Tensor | None = None,
) -> SoFar:
    """Train `net` through one phase; returns what was `so_far` with a row per validation more, which is after every
    epoch, or after every few (`validation_interval`). `patience` epochs that are not better than all before, and than
    those of an earlier phase by more than chance, end it, but for `last_epochs`.

    It goes on from `resume_folder`/last.ckpt if a killed run left one (a frozen phase takes seconds and starts anew),
    and ends with the weights of the best of all epochs by the task's main metric on val. `weights` [K] are those of
    the labels in the loss. Raises InputError, naming the batch's images, if the loss is not finite.
    """
    train, val = loaders.train, loaders.val
    t = prepare(fabric, net, spec, run, phase, len(train), weights)
    so_far, epoch = (so_far, 0) if phase.frozen else go_on(t, resume_folder, so_far, independent(val))
    averaged, started, busy = cast(WholeNet, t.average.module), epoch, Busy()
    patience = math.inf if phase.frozen else math.ceil(run.train.patience / validation_interval(phase))
    stopped_at = phase.epochs - last_epochs(run, phase)
    total, done, quiet = phase.epochs * len(train), epoch * len(train), not fabric.is_global_zero
    with tqdm(total=total, initial=done, mininterval=0.5, disable=quiet) as bar:
        while epoch < phase.epochs:
            if so_far.waited >= patience and epoch < stopped_at:
                epoch = skip(t, so_far, epoch, stopped_at, len(train), bar)
                continue
            bar.set_description(when := f"epoch {phase.first + epoch}")
            begun, validating = time.perf_counter(), None
            train_loss, recent = learn_an_epoch(t, train, epoch, bar)
            learned = time.perf_counter()
            if is_validated(phase, epoch):
                row = {"epoch": phase.first + epoch, "train_loss": train_loss}
                row |= judge(t, recent, spec, val, dataset, when)
                so_far.take(row | {"learning_rate": t.optimizer.param_groups[-1]["lr"]}, averaged.net)
                bar.set_postfix({name: f"{row[name]:.4f}" for name in ("train_loss", "val_loss", "val_metric")})
                validating = time.perf_counter() - learned
            if not phase.frozen:
                save(t, resume_folder, epoch, so_far)
            if epoch == started and fabric.is_global_zero:
                tqdm.write(time_left(phase, epoch, learned - begun, validating) + busy.said())
            epoch += 1
    settle_norms(t, so_far, loaders, spec, dataset)
    net.load_state_dict(so_far.best)
    return so_far


def judge(
    t: "Training", seen: Iterable[Any], spec: ModelSpec, val: DataLoader[Any], dataset: Dataset, when: str
) -> dict[str, float]:
    """Validate the averaged weights, with batch norm measured for them on the batches `seen`: the average of the
    statistics that other weights had does not fit them.
    """
    t.average.eval()
    measure_norms(t.averaged_norms, t.average, seen)
    return validate(t.fabric, t.average.module, spec, val, dataset, when)


def settle_norms(t: "Training", so_far: SoFar, loaders: Loaders, spec: ModelSpec, dataset: Dataset) -> None:
    """Measure batch norm of the best weights, if they are of this phase, on plain images, and keep that unless it is
    worse on val.
    """
    if loaders.plain is None or not t.averaged_norms or so_far.top["epoch"] < t.phase.first:
        return
    averaged = cast(WholeNet, t.average.module)
    averaged.net.load_state_dict(so_far.best)
    seen = (to_device(t.fabric, batch)[0] for batch in loaders.plain)
    so_far.settle(judge(t, seen, spec, loaders.val, dataset, "the end"), averaged.net)


def skip(t: "Training", so_far: SoFar, epoch: int, to: int, steps: int, bar: Any) -> int:
    """Leave out the epochs from `epoch` on, of so many `steps` each; returns `to`, the next one, in which the learning
    rate is what it would be after them.
    """
    if to < t.phase.epochs:
        so_far.skipped += to - epoch
        bar.update((to - epoch) * steps)
        for _ in range((to - epoch) * steps):
            t.schedule.step()
    return to


@dataclass(slots=True)
class Training:
    """What changes with every step of a phase, and how."""

    fabric: Fabric
    run: RunParams
    phase: Phase
    whole: WholeNet
    learner: Any
    """`whole` on its device, as Fabric runs it: through DDP where there are several processes."""
    optimizer: torch.optim.Optimizer
    stepper: Any
    """`optimizer`, as Fabric steps it."""
    schedule: torch.optim.lr_scheduler.LambdaLR
    average: AveragedModel
    """The moving average of the weights: what is validated and kept."""
    averaged_norms: list[nn.BatchNorm2d]
    class_weights: dict[str, Tensor]

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        net, average, optimizer, schedule = self.whole.net, self.average, self.optimizer, self.schedule
        return {"net": net, "average": average, "optimizer": optimizer, "schedule": schedule}


def prepare(
    fabric: Fabric, net: Net, spec: ModelSpec, run: RunParams, phase: Phase, steps: int, weights: Tensor | None
) -> Training:
    """A phase before its first step; an epoch has so many `steps`."""
    freeze(net, run, phase)
    quicken(net)
    if run.train.backbone_norm == "frozen" and not phase.frozen:
        where = next(net.parameters()).device
        join_frozen_norms(net.body, torch.rand(1, 3, run.model.size, run.model.size, device=where))
    whole = WholeNet(net, spec, phase.frozen).to(memory_format=torch.channels_last)
    train_mode(whole)
    if fabric.world_size > 1:
        share_norms(whole)
    optimizer = new_optimizer(net, run, phase)
    schedule = new_schedule(optimizer, phase.epochs * steps)
    learner, stepper = fabric.setup(whole, optimizer)
    average = AveragedModel(whole, multi_avg_fn=moving_average, use_buffers=True)
    class_weights = {} if weights is None else {"weight": weights.to(fabric.device)}
    norms = learning_norms(average)
    return Training(fabric, run, phase, whole, learner, optimizer, stepper, schedule, average, norms, class_weights)


def learn_an_epoch(t: Training, loader: DataLoader[Any], epoch: int, bar: Any) -> tuple[float, list[Any]]:
    """Take a step per batch; returns the epoch's mean loss, and the last batches for batch norm to be measured on."""
    losses, seen, recent = list[Tensor](), list[int](), list[Any]()
    batches: Any = loader.batch_sampler
    batches.begin(epoch)  # not by the name set_epoch, which Fabric calls with epochs of its own
    train_mode(t.whole)
    run, left = t.run, t.phase.epochs - epoch
    for step, batch in enumerate(loader, epoch * len(loader)):
        images, target, items = to_device(t.fabric, batch)
        recent = [*recent, images][-math.ceil(MEASURED / run.train.batch_size) :]
        seed = step_seed(run, t.phase.first, step)
        torch.manual_seed(derived_seed(seed, t.fabric.global_rank))  # for dropout
        if not t.phase.frozen:
            images, target = as_seen(images, target, run, t.whole.labels, t.phase.first, step, left)
        outputs = t.learner(images)
        loss = finite_loss(t.whole.net, outputs, target | t.class_weights, items, f"epoch {t.phase.first + epoch}")
        t.stepper.zero_grad()
        t.fabric.backward(loss)
        nn.utils.clip_grad_norm_(t.whole.net.parameters(), CLIP_NORM)
        t.stepper.step()
        t.schedule.step()
        t.average.update_parameters(t.whole)
        losses.append(loss.detach())
        seen.append(len(items))
        bar.update()
    of_all = sum_of_all(t.fabric, torch.stack(losses)) / t.fabric.world_size
    counts = sum_of_all(t.fabric, torch.tensor(seen))
    return float(of_all @ counts / counts.sum()), recent


def save(t: Training, folder: Path, epoch: int, so_far: SoFar) -> None:
    """Write the checkpoint of an `epoch` that is over; it is there whole, or the one before is."""
    state = {name: part.state_dict() for name, part in t.parts().items()}
    state |= {"epoch": epoch, "so_far": vars(so_far), "circumstances": circumstances(t.fabric)}
    if t.fabric.is_global_zero:
        write_checkpoint(folder / LAST, state)
    t.fabric.barrier()


def go_on(t: Training, folder: Path, so_far: SoFar, images: int) -> tuple[SoFar, int]:
    """Put what a killed run left in `folder` into `t`; returns what its validations have shown, and the next epoch. If
    there is nothing, that is `so_far`, for val of so many independent `images`, and the first epoch.

    The first process reads it for all. A line says where the run was begun otherwise than it goes on: its last bits are
    then not those of an unbroken one. Raises InputError for a file that is damaged, and where there is no room for one.
    """
    path = folder / LAST
    need_room(folder, NETS * sum(tensor.nbytes for tensor in t.whole.state_dict().values()))
    left = t.fabric.broadcast(read_checkpoint(path) if t.fabric.is_global_zero and path.is_file() else None)
    if not left:
        so_far.next_phase(images)
        return so_far, 0
    for name, part in t.parts().items():
        part.load_state_dict(left[name])
    if t.fabric.is_global_zero:
        tqdm.write(f"resuming from {path}")
        for name, value in circumstances(t.fabric).items():
            was = left["circumstances"].get(name)
            if was != value:
                tqdm.write(f"it was begun with {name} {was}, now {value}: the weights can differ in their last bits")
    return SoFar(**left["so_far"]), left["epoch"] + 1
