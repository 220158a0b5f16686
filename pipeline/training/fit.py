"""Training with Lightning: one task at a time, resumed after a kill, the same weights for the same params."""

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from pipeline.core.sample import Dataset, Sample
from pipeline.core.spec import ModelSpec
from pipeline.metrics.metrics import FOR_AP, main_metric, rank, score
from pipeline.models.backbones import thaw_last
from pipeline.models.losses import finite_loss
from pipeline.models.nets import Net
from pipeline.ops.decode import decode
from pipeline.training.params import DetectRun, RunParams
from pipeline.training.quick import join_frozen_norms, learning_norms, measure_norms, quicken
from pipeline.training.trainer import (
    History,
    KeepBest,
    Phase,
    checkpoint_left,
    keep_freed_memory,
    moving_average,
    new_trainer,
    quiet,
    validation_interval,
)

WARM_UP = 0.05  # share of all steps in which the learning rate rises to its peak
MEASURED = 32  # images that batch norm is measured on before each validation, in the batches they came in
CLIP_NORM = 10.0  # of the gradients
# how a net's answers are read for the validation metric, whatever is shown of them later
VALIDATION: dict[str, dict[str, Any]] = {
    "classify": {},
    "localize": {"score": 0.5},
    "detect": {**FOR_AP, "nms": "vote", "nms_iou": 0.6},
}


class Fitting(pl.LightningModule):
    """What Lightning trains: a net with its loss, learning rates, and the run's own metric on val."""

    def __init__(
        self, net: Net, spec: ModelSpec, run: RunParams, dataset: Dataset, phase: Phase, weights: Tensor | None
    ) -> None:
        super().__init__()
        self.net, self.run, self.dataset, self.phase = net, run, dataset, phase
        self.spec = replace(spec, predict=VALIDATION[spec.task])
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor | None
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255, persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self._norms: list[nn.BatchNorm2d] = []
        self._recent: list[Any] = []
        self._truth: list[Sample] = []
        self._predicted: list[Sample] = []

    def forward(self, images: Any) -> tuple[Tensor, ...]:
        if self.phase.frozen:
            return tuple(self.net.top(images))
        normal = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return tuple(self.net(normal.contiguous(memory_format=torch.channels_last)))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        images, target, items = batch
        moved = [f.to(device) for f in images] if self.phase.frozen else images.to(device)
        return moved, {name: tensor.to(device) for name, tensor in target.items()}, items

    def on_train_epoch_start(self) -> None:
        self._recent = []  # of this epoch only: a resumed run must see the same batches, and has none of earlier epochs

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        # not on_train_epoch_start, which Lightning does not call for the first epoch after a resume
        torch.manual_seed(self.run.train.seed + self.global_step)  # dropout, the same as in an unbroken run
        self.net.train()
        # batch norm of frozen layers keeps the statistics that the weights were trained with
        for module in self.net.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                module.eval()
        if not self._norms:
            self._norms = learning_norms(self.net)

    def training_step(self, batch: Any, _index: int) -> Tensor:
        images, target, items = batch
        self._recent = [*self._recent, images][-math.ceil(MEASURED / self.run.train.batch_size) :]
        if isinstance(self.run, DetectRun) and not self.phase.frozen:
            images, target = self._shrunk(images, target, self.run)
        if self.weights is not None:
            target = target | {"weight": self.weights}
        loss = self._loss(self(images), target, items)
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, prog_bar=True, batch_size=len(items))
        return loss

    def _loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor], items: list[Any]) -> Tensor:
        return finite_loss(self.net, outputs, target, items, f"epoch {self.phase.first + self.current_epoch}")

    def _shrunk(self, images: Tensor, target: dict[str, Tensor], run: DetectRun) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch [N, S, S, 3] at a side that this step draws, until the quiet epochs."""
        size, step, online = run.model.size, run.model.head.strides[-1], run.train.online
        least = math.ceil(online.smallest * size / step)
        if self.current_epoch >= self.phase.epochs - online.quiet_epochs:
            return images, target
        draw = random.Random(run.train.seed + self.global_step)
        side = step * draw.randint(max(1, least), size // step)
        if side == size:
            return images, target
        ratio = side / size
        small = functional.interpolate(
            images.permute(0, 3, 1, 2).float(), (side, side), mode="bilinear", antialias=True
        )
        points = target["landmarks"] * target["landmarks"].new_tensor([ratio, ratio, 1])
        return small.permute(0, 2, 3, 1), target | {"box": target["box"] * ratio, "landmarks": points}

    def on_validation_epoch_start(self) -> None:
        """Measure what batch norm needs for the averaged weights, which are in the net now: the average of the
        statistics that other weights had does not fit them.
        """
        self.net.eval()
        measure_norms(self._norms, self, self._recent)

    def validation_step(self, batch: Any, _index: int) -> None:
        images, target, items = batch
        # float32, as in the files that ship: batch norm with a small deviation enlarges the rounding errors of bfloat16
        with torch.autocast(self.device.type, enabled=False):
            outputs = self(images)
        loss = self._loss(outputs, target, items)
        self.log("val_loss", loss, on_epoch=True, prog_bar=True, batch_size=len(items))
        arrays = [o.float().cpu().numpy() for o in outputs]
        for row, (_, sample, frame, _) in enumerate(items):
            label, scores, objects = decode([a[row] for a in arrays], self.spec, frame)
            self._truth.append(sample)
            self._predicted.append(
                Sample(
                    sample.id,
                    sample.file_name,
                    sample.width,
                    sample.height,
                    label=label,
                    scores=scores,
                    objects=objects,
                )
            )

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002
        # overridden, because Lightning refuses to clip with a fused optimizer; only fp16's gradient scaler needs that
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), CLIP_NORM)

    def on_validation_epoch_end(self) -> None:
        metrics = score(self.spec.task, self._truth, self._predicted, self.dataset)
        self._truth, self._predicted = [], []
        metric = metrics[main_metric(self.spec.task)] or 0.0
        self.log("val_metric", metric, prog_bar=True)
        # on a small val split many epochs reach the same metric: the lower loss decides between them
        loss = float(self.trainer.callback_metrics["val_loss"])
        self.log("val_rank", rank(metrics) - 1e-3 * math.tanh(loss))

    def configure_optimizers(self) -> Any:
        backbone = {id(p) for p in self.net.backbone_parameters()}
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for p in self.net.parameters():
            if p.requires_grad:
                groups.setdefault((id(p) in backbone, p.ndim > 1), []).append(p)
        rate = self.phase.learning_rate
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": p,
                    "lr": rate * (self.run.train.backbone_rate if in_backbone else 1),
                    "weight_decay": self.run.train.weight_decay if is_matrix else 0.0,
                }
                for (in_backbone, is_matrix), p in groups.items()
            ],
            fused=True,  # one kernel for all parameters: a MobileNet has hundreds of small ones
        )
        steps = int(self.trainer.estimated_stepping_batches)
        warm = max(1, round(WARM_UP * steps))

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    net: Net,
    spec: ModelSpec,
    run: RunParams,
    dataset: Dataset,
    phase: Phase,
    loaders: tuple[DataLoader[Any], DataLoader[Any]],
    resume_folder: Path,
    weights: Tensor | None = None,
) -> list[dict[str, float]]:
    """Train `net` on loaders (train, val) through one phase; returns a row per validation, which is after every epoch,
    or in a long run after every few (`validation_interval`).

    It goes on from `resume_folder`/last.ckpt if a killed run left one (a frozen phase takes seconds and starts anew),
    and ends with the weights of the best of these epochs by the task's main metric on val. `weights` [K] are those of
    the labels in the loss. Raises InputError, naming the batch's images, if the loss is not finite.
    """
    quiet()
    keep_freed_memory()
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid
    _freeze(net, run, phase)
    quicken(net)
    if run.train.backbone_norm == "frozen" and not phase.frozen:
        join_frozen_norms(net.body, torch.rand(1, 3, run.model.size, run.model.size))
    fitting = Fitting(net.to(memory_format=torch.channels_last), spec, run, dataset, phase, weights)
    history, average = History(phase.first), WeightAveraging(multi_avg_fn=moving_average)
    if phase.frozen:
        best = KeepBest()
        new_trainer(run.train.precision, phase, [best, average, history]).fit(fitting, *loaders)
        net.load_state_dict(best.state)
        return history.rows
    # saved after the epoch, so that a checkpoint has the epoch's history row and its count for early stopping
    keep: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": True}
    every = validation_interval(phase)
    kept = ModelCheckpoint(resume_folder, "best", monitor="val_rank", mode="max", every_n_epochs=every, **keep)
    # patience is in epochs, the callback counts validations
    stopping = EarlyStopping("val_rank", mode="max", patience=math.ceil(run.train.patience / every))
    last = ModelCheckpoint(resume_folder, "last", **keep)
    trainer = new_trainer(run.train.precision, phase, [average, stopping, history, kept, last])
    resumed = checkpoint_left(resume_folder, loaders[0])
    trainer.fit(fitting, *loaders, ckpt_path=resumed, weights_only=False if resumed else None)
    state = torch.load(kept.best_model_path, map_location="cpu", weights_only=False)["state_dict"]
    net.load_state_dict({name.removeprefix("net."): t for name, t in state.items() if name.startswith("net.")})
    return history.rows


def _freeze(net: Net, run: RunParams, phase: Phase) -> None:
    """Leave only those parameters learning that `phase` and `run.train.tuned_blocks` say."""
    net.requires_grad_(True)
    if phase.frozen or run.train.tuned_blocks != "all":
        for parameter in net.backbone_parameters():
            parameter.requires_grad_(False)
    if not phase.frozen and isinstance(run.train.tuned_blocks, int):
        thaw_last(run.model.backbone, net.body, run.train.tuned_blocks)
