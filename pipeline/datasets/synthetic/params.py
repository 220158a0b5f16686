"""How much synthetic data `sample` draws."""

from typing import Annotated, Any

from pydantic import Field, model_validator

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

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, said: Any) -> Any:
        """Of a set that is stated in part, the rest is its own default."""
        if not isinstance(said, dict):
            return said
        defaults = {name: cls.model_fields[name].default for name in said if name in cls.model_fields}
        own = {name: d.model_dump() for name, d in defaults.items() if isinstance(d, Block)}
        return {key: {**own[key], **v} if key in own and isinstance(v, dict) else v for key, v in said.items()}
