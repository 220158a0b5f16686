"""Params of offline augmentation."""

from typing import Annotated

from pydantic import Field

from pipeline.core.params import Block, Seed


class AugmentParams(Block):
    """Offline copies of the train split."""

    policy: str
    copies: Annotated[int, Field(ge=0)]
    seed: Seed
