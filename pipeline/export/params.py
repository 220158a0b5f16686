"""Params of export."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from pipeline.core.params import Block, Count, Fraction, Seed, nearest
from pipeline.runtimes.targets import TARGETS


def _known(name: str) -> str:
    if name not in TARGETS:
        raise ValueError(f"no export target, found {name!r}{nearest(name, TARGETS)}")
    return name


Target = Annotated[str, AfterValidator(_known)]


class Ptq(Block):
    """Post-training quantization: ranges from training images."""

    mode: Literal["ptq"] = "ptq"
    """ptq measures ranges on training images; qat trains on with int8's rounding in the net first."""
    budget: Fraction = 0.0
    """Share of the int8 file's bytes for layers that stay float, where they help most."""


class Qat(Block):
    """Quantization-aware training: a few epochs with the rounding in the net, then the same."""

    mode: Literal["qat"]
    """ptq measures ranges on training images; qat trains on with int8's rounding in the net first."""
    budget: Fraction = 0.0
    """Share of the int8 file's bytes for layers that stay float, where they help most."""
    epochs: Count = 2
    """Over the training images."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.0002
    """The first one; it falls to 0 by a cosine."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Images per step; where it is not stated, that of `train`."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a rare label counts as much as a frequent one; where it is not stated, as in `train`."""
    seed: Seed = 0
    """Of the order of images; where it is not stated, that of `train`."""

    FROM_TRAIN: ClassVar = ("batch_size", "class_weights", "seed")


class ExportParams(Block):
    targets: Annotated[list[Target], Field(min_length=1)] = ["onnx_float", "onnx_int8", "executorch_int8"]
    """The files to make."""
    calibration_images: Count = 100
    """From train, never from val or test: what ranges are measured on."""
    quantize: Annotated[Ptq | Qat, Field(discriminator="mode")] = Ptq()
    """How int8 files are made."""

    @field_validator("targets")
    @classmethod
    def _once(cls, targets: list[str]) -> list[str]:
        if len(set(targets)) < len(targets):
            raise ValueError(f"a target stands twice in {targets}")
        return targets

    @field_validator("quantize", mode="before")
    @classmethod
    def _usual_mode(cls, value: object) -> object:
        return {"mode": "ptq", **value} if isinstance(value, dict) else value
