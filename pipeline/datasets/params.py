"""Params of a dataset: where it lies, its format, its splits."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.core.params import Block, Count, Fraction, Seed


class SplitParams(Block):
    """Used where the source does not say: shares of the groups. A source with a test but no val gives up val."""

    val: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the groups that validation takes."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the groups that are kept for the test."""
    seed: Seed = 0
    """Of which groups go where."""

    @model_validator(mode="after")
    def _leaves_train(self) -> "SplitParams":
        if self.val + self.test >= 1:
            raise ValueError(f"val + test = {self.val + self.test:g} leaves nothing to train on; expected below 1")
        return self


class Ucf101Options(Block):
    split: Literal[1, 2, 3] = 1  # which of the official lists
    frames: Count = 8  # evenly spaced frames per clip
    classes: list[str] = []  # [] takes all


class Ucf24Options(Block):
    split: Literal[1, 2, 3] = 1
    frames: Count = 8  # evenly spaced frames per clip, of those with boxes
    label: Annotated[str, Field(min_length=1)] = "person"  # of the boxes; the file does not say


class CropsOptions(Block):
    margin: Annotated[float, Field(ge=0, le=1)] = 0.1  # around an object, as a share of its longer side
    min_side: Annotated[int, Field(ge=1)] = 32  # longer side in pixels; smaller objects are not cropped
    backgrounds: Annotated[int, Field(ge=0)] = 8  # crops of nothing per picture
    max_iou: Annotated[float, Field(gt=0, le=1)] = 0.5  # a crop of nothing overlaps the crop of any object by less
    seed: Seed = 0


class LandmarkOptions(Block):
    label: Annotated[str, Field(min_length=1)] = "object"  # what the landmarks are of; the files do not say
    pairs: list[
        list[int]
    ] = []  # landmarks, from 0, that a mirror swaps; [] goes by their names, or by the 68 of a face


class NoOptions(Block):
    pass


class IngestParams(Block):
    format: str
    """How the labels are written."""
    path: str
    """Where the images or clips are."""
    labels: str
    """Where the labels are: the same folder, another one, or a file."""
    splits: SplitParams = SplitParams()
    """Used where the source does not say which images are train, val and test."""
    max_side: Annotated[int, Field(ge=32)] = 640
    """Images are scaled down until neither side is longer, in pixels."""
    refuse_over: Fraction = 0.1
    """More problems than this share of the files stop the stage."""
    options: Block
    """What the format can be told."""


class Ucf101Dataset(IngestParams):
    format: Literal["ucf101"]
    options: Ucf101Options = Ucf101Options()


class Ucf24Dataset(IngestParams):
    format: Literal["ucf24"]
    options: Ucf24Options = Ucf24Options()


class CropsDataset(IngestParams):
    format: Literal["crops"]
    options: CropsOptions = CropsOptions()


class LandmarkDataset(IngestParams):
    format: Literal["pts", "landmarks_csv"]
    options: LandmarkOptions = LandmarkOptions()


class PlainDataset(IngestParams):
    format: Literal["folder", "coco", "yolo", "voc"]
    options: NoOptions = NoOptions()


MEMBERS: tuple[type[IngestParams], ...] = (Ucf24Dataset, Ucf101Dataset, LandmarkDataset, CropsDataset, PlainDataset)
DatasetParams = Annotated[
    Ucf24Dataset | Ucf101Dataset | LandmarkDataset | CropsDataset | PlainDataset, Field(discriminator="format")
]
