"""How much synthetic data `sample` draws."""

from typing import Annotated

from pydantic import Field

from pipeline.core.params import Block, Count, Seed


class ActionsParams(Block):
    """Three actions by stick figures, as clips in UCF101's layout."""

    groups: Count = 10
    """People (UCF101's g01, g02, ...), each in a place of their own; whole groups go to test."""
    clips: Count = 2
    """Clips per group and action."""
    frames: Annotated[int, Field(ge=2)] = 24
    """Frames per clip."""
    side: Annotated[int, Field(ge=32)] = 144
    """Height in pixels; the width is 4/3 of it."""


class ImagesParams(Block):
    images: Annotated[int, Field(ge=10)]
    """Over all splits."""
    side: Annotated[int, Field(ge=32)]
    """The longer side in pixels."""


class SampleParams(Block):
    """The synthetic data, drawn by code, so that the chain runs without any download."""

    seed: Seed = 7
    """Of all that is drawn."""
    actions: ActionsParams = ActionsParams()
    """Clips by class, in UCF101's layout."""
    alpaca: ImagesParams = ImagesParams(images=360, side=192)
    """Alpaca or not: class folders."""
    herd: ImagesParams = ImagesParams(images=420, side=256)
    """Several animals an image, boxes and landmarks, some images empty: COCO JSON."""
    pose: ImagesParams = ImagesParams(images=420, side=192)
    """One animal an image or none: COCO JSON."""
