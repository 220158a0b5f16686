"""Params of a dataset: where it lies, its format, its splits."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.augment.params import AugmentParams
from pipeline.core.params import Block, Count, Fraction, Seed


class SplitParams(Block):
    """Used where the source does not say: shares of the groups. A source with a test but no val gives up val."""

    val: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed

    @model_validator(mode="after")
    def _leaves_train(self) -> "SplitParams":
        if self.val + self.test >= 1:
            raise ValueError(f"val + test = {self.val + self.test:g} leaves nothing to train on; expected below 1")
        return self


class Ucf101Options(Block):
    split: Literal[1, 2, 3]  # which of the official lists
    frames: Count  # evenly spaced frames per clip
    classes: list[str]  # [] takes all


class Ucf24Options(Block):
    split: Literal[1, 2, 3]
    frames: Count  # evenly spaced frames per clip, of those with boxes
    label: Annotated[str, Field(min_length=1)]  # of the boxes; the file does not say


class CropsOptions(Block):
    margin: Annotated[float, Field(ge=0, le=1)]  # around an object, as a share of its longer side
    min_side: Annotated[int, Field(ge=1)]  # longer side in pixels; smaller objects are not cropped
    backgrounds: Annotated[int, Field(ge=0)]  # crops of nothing per picture
    max_iou: Annotated[float, Field(gt=0, le=1)]  # a crop of nothing overlaps the crop of any object by less
    seed: Seed


class LandmarkOptions(Block):
    label: Annotated[str, Field(min_length=1)]  # what the landmarks are of; the files do not say
    pairs: list[list[int]]  # landmarks, from 0, that a mirror swaps; [] goes by their names, or by the 68 of a face


class NoOptions(Block):
    pass


class _Dataset(Block):
    path: str
    labels: str
    splits: SplitParams
    max_side: Annotated[int, Field(ge=32)]
    refuse_over: Fraction
    augment: AugmentParams


class Ucf101Dataset(_Dataset):
    format: Literal["ucf101"]
    options: Ucf101Options


class Ucf24Dataset(_Dataset):
    format: Literal["ucf24"]
    options: Ucf24Options


class CropsDataset(_Dataset):
    format: Literal["crops"]
    options: CropsOptions


class LandmarkDataset(_Dataset):
    format: Literal["pts", "landmarks_csv"]
    options: LandmarkOptions


class PlainDataset(_Dataset):
    format: Literal["folder", "coco", "yolo", "voc"]
    options: NoOptions


DatasetParams = Annotated[
    Ucf24Dataset | Ucf101Dataset | LandmarkDataset | CropsDataset | PlainDataset, Field(discriminator="format")
]
