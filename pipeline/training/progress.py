"""What the validations of a training have shown, and which of its weights are kept."""

import math
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.models.nets import Net
from pipeline.training.loading import ImageDataset


@dataclass
class SoFar:
    """What the validations have shown until now."""

    rows: list[dict[str, float]] = field(default_factory=list)
    rank: float = -math.inf
    """What a row is better above."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the best row."""
    place: int = 0
    """Of the best row among all."""
    waited: int = 0
    """Validations since then, of this phase."""
    skipped: int = 0
    """Epochs that were left out before the last one."""

    @property
    def top(self) -> dict[str, float]:
        """The row of the best weights."""
        return self.rows[self.place]

    def next_phase(self, images: int) -> None:
        """From here on a row is better that is so by more than a standard error of val, of so many independent images:
        of nets that val cannot tell apart the one that learned less is kept (the one-standard-error rule, Breiman et
        al. 1984).
        """
        self.waited = 0
        if self.rows:
            # two right and two wrong answers added (Agresti and Coull 1998): at 1.0 it would be 0
            share = (self.top["val_metric"] * images + 2) / (images + 4)
            self.rank += math.sqrt(share * (1 - share) / (images + 4))

    def take(self, row: dict[str, float], net: Net) -> None:
        """Add the row of a validation, and keep the weights of `net` where it is the best."""
        self.rows.append(row)
        self.waited += 1
        if row["val_rank"] > self.rank:
            self.rank, self.waited, self.place = row["val_rank"], 0, len(self.rows) - 1
            self.best = _copy(net)

    def settle(self, row: dict[str, float], net: Net) -> None:
        """Put `row`, a validation of the best weights with other statistics of batch norm, in the place of theirs, and
        keep those of `net`, unless it is worse.
        """
        if row["val_rank"] >= self.top["val_rank"]:
            self.top.update(row)
            self.best = _copy(net)


def _copy(net: Net) -> dict[str, Tensor]:
    return {name: value.cpu().clone() for name, value in net.state_dict().items()}


def independent(val: DataLoader[Any]) -> int:
    """How many images of val tell something of their own: those of a group, or of a clip, are one."""
    samples = cast(ImageDataset, val.dataset).samples
    return len({sample.group or sample.clip or sample.id for sample in samples})
