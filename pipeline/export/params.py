"""Params of export and of what is held against it in verify."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator

from pipeline.core.params import Block, Count, Fraction

Target = Literal["onnx_float", "onnx_int8", "executorch_float", "executorch_int8", "coreml", "litert"]


class QuantizeParams(Block):
    # ptq: ranges from train pictures; qat: a few epochs with the rounding in the net, then the same
    mode: Literal["ptq", "qat"]
    epochs: Count  # of qat
    learning_rate: Annotated[float, Field(gt=0, le=1)]  # of qat
    budget: Fraction  # of the int8 file's bytes, spent on the layers that lose most by it: they stay float


class Learning(NamedTuple):
    """What quantization-aware training takes over from the run's own."""

    batch_size: int
    seed: int
    class_weights: str


class ExportParams(Block):
    targets: Annotated[list[Target], Field(min_length=1)]
    calibration_images: Count
    quantize: QuantizeParams
    tolerance: Fraction  # how far the main metric may fall from the float model to the shipped file
    size_ratio: Fraction  # the most that an int8 file may have of the float file's bytes

    @field_validator("targets")
    @classmethod
    def _once(cls, targets: list[str]) -> list[str]:
        if len(set(targets)) < len(targets):
            raise ValueError(f"a target stands twice in {targets}")
        return targets
