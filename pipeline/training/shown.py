"""What a net is shown in each step of its training: mosaics, and batches that are mixed or smaller."""

from torch import Tensor

from pipeline.core.seeds import derived_seed
from pipeline.training.mixing import mixed, shrunk
from pipeline.training.params import DetectRun, LocalizeRun, RunParams


def mosaics(run: RunParams) -> tuple[float, int]:
    """The share of images that are shown in a mosaic, and before which epoch after the frozen ones; only a detector
    has any.
    """
    if not isinstance(run, DetectRun):
        return 0.0, 0
    return run.train.online.mosaic, run.train.epochs - run.train.online.quiet_epochs


def as_seen(
    images: Tensor, target: dict[str, Tensor], run: RunParams, labels: int, first: int, step: int, left: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The batch [N, S, S, 3] of `step` in the part that begins with epoch `first`, as the net takes it: `mixed` of
    a classifier of so many `labels`, `shrunk` of a detector, but for its quiet epochs: so many are `left`.
    """
    seed = step_seed(run, first, step)
    if isinstance(run, LocalizeRun) or left <= run.train.online.quiet_epochs:
        return images, target
    if isinstance(run, DetectRun):
        return shrunk(images, target, run, seed)
    return mixed(images, target, run, labels, seed)


def step_seed(run: RunParams, first: int, step: int) -> int:
    """Of the step, not of what was drawn before: a resumed run goes on as an unbroken one."""
    return derived_seed(run.train.seed, "step", first, step)
