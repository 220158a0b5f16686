"""What the validations of a training have shown, and which of its weights are kept."""

import math
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.models.nets import Net
from pipeline.training.loading import ImageDataset
from pipeline.training.validation import TIES


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
    images: int = 0
    """Independent ones of val."""

    @property
    def top(self) -> dict[str, float]:
        """The row of the best weights."""
        return self.rows[self.place]

    @property
    def perfect(self) -> bool:
        """Whether no row can be better than the best one."""
        return bool(self.rows) and self.top["val_metric"] >= 1 and self.top["val_rank"] >= 1 - TIES

    def next_phase(self, images: int) -> None:
        """From here on a row is better that is so by more than a standard error of val, of so many independent images:
        of nets that val cannot tell apart the one that learned less is kept (the one-standard-error rule, Breiman et
        al. 1984). On a small val that would be more than all of it: a row without a mistake is better than one with.
        """
        self.waited, self.images = 0, images
        if self.rows:
            # two right and two wrong answers added (Agresti and Coull 1998): at 1.0 it would be 0
            share = (self.top["val_metric"] * images + 2) / (images + 4)
            error = math.sqrt(share * (1 - share) / (images + 4))
            self.rank = max(self.rank, min(self.rank + error, 1 - TIES))

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


def fine_tuned(so_far: SoFar, first: int) -> str:
    """The end of a line that says what came of the epochs from `first` on, where those before were kept."""
    if so_far.top["epoch"] >= first:
        return ""
    tried = [row["val_rank"] for row in so_far.rows if row["epoch"] >= first]
    if not tried:
        return "; not fine-tuned: the frozen epochs make no mistake on val, so it cannot show a gain"
    bar, error = so_far.rank, f"a standard error of {so_far.images} independent val images"
    frozen = f"the frozen epochs' {so_far.top['val_rank']:.4f}"
    why = f"{error} above {frozen}" if bar < 1 - TIES else f"no mistake: {error} is all that is left above {frozen}"
    return f"; fine-tuning is not kept: val_rank {max(tried):.4f} at best, expected more than {bar:.4f}, {why}"


def _copy(net: Net) -> dict[str, Tensor]:
    return {name: value.cpu().clone() for name, value in net.state_dict().items()}


def independent(val: DataLoader[Any]) -> int:
    """How many images of val tell something of their own: those of a group, or of a clip, are one."""
    samples = cast(ImageDataset, val.dataset).samples
    return len({sample.group or sample.clip or sample.id for sample in samples})
