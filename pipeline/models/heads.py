"""The heads: what each can be told."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.core.params import Block, Count

Dropout = Annotated[float, Field(ge=0, lt=1)]


class PoolHead(Block):
    kind: Literal["pool"] = "pool"
    """Global pooling and a linear layer."""
    dropout: Dropout = 0.2
    """Share of the features that training leaves out."""


class FlattenHead(Block):
    kind: Literal["flatten"] = "flatten"
    """Flatten, a layer of 256, dropout, a linear layer."""
    dropout: Dropout = 0.5
    """Share of the hidden layer that training leaves out."""


class LocalizeHead(Block):
    channels: Count = 128
    """Of the hidden layer."""
    dropout: Dropout = 0.1
    """Share of the features that training leaves out."""


class _DetectHead(Block):
    strides: list[Literal[4, 8, 16, 32, 64]] = [8, 16, 32]
    """A grid of cells each, so many pixels apart: 4 for smaller objects, 64 for larger ones."""
    neck: Count = 96
    """Channels of the neck."""
    channels: Count = 96
    """Channels of the head."""
    dropout: Dropout = 0.2
    """Share of the backbone's channels that training leaves out; helps on few images."""

    @field_validator("strides")
    @classmethod
    def _doubling(cls, strides: list[int]) -> list[int]:
        if len(strides) < 2 or 32 not in strides or any(b != 2 * a for a, b in pairwise(strides)):
            raise ValueError(f"strides {strides}: expected each twice the one before, 32 among them: [8, 16, 32]")
        return strides


class AnchorFreeHead(_DetectHead):
    kind: Literal["anchor_free"] = "anchor_free"
    """A decoupled head without anchors."""


class Yolov3Head(_DetectHead):
    kind: Literal["yolov3"] = "yolov3"
    """Anchors by k-means over the training boxes, and objectness."""
