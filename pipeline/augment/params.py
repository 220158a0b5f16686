"""Params of offline augmentation."""

from typing import Annotated

from pydantic import Field

from pipeline.augment.policies import AnyPolicy
from pipeline.core.params import Block, Seed


class AugmentParams(Block):
    """Offline copies of the train split."""

    policy: AnyPolicy = "none"
    """An augmentation policy by name, or a list of albumentations' transforms."""
    copies: Annotated[int, Field(ge=0, le=1000)] = 0
    """Varied copies per training image; online augmentation costs less time."""
    seed: Seed = 0
    """Of the copies."""
