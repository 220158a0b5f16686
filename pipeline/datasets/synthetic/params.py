"""How much synthetic data `sample` draws."""

from typing import Annotated

from pydantic import Field

from pipeline.core.params import Block, Count, Seed


class ActionsParams(Block):
    groups: Count  # people (UCF101's g01, g02, ...), each in a place of their own
    clips: Count  # clips per group and action
    frames: Annotated[int, Field(ge=2)]  # frames per clip
    side: Annotated[int, Field(ge=32)]  # height in pixels; the width is 4/3 of it


class DrawnParams(Block):
    images: Annotated[int, Field(ge=10)]
    side: Annotated[int, Field(ge=32)]  # the longer side in pixels


class SampleParams(Block):
    """The embedded data that `sample` draws."""

    seed: Seed
    actions: ActionsParams
    alpaca: DrawnParams
    herd: DrawnParams
    pose: DrawnParams
