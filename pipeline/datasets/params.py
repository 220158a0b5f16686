"""Params of a dataset: where it lies, its format, its splits."""

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field, create_model, model_validator

from pipeline.augment.params import AugmentParams
from pipeline.core.params import Block, Fraction, Seed
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.format import Format


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


class DatasetParams(Block):
    """What a dataset of any format has. A block is validated as the class of its format: see AnyDataset."""

    format: str
    path: str
    labels: str
    options: Block
    splits: SplitParams
    max_side: Annotated[int, Field(ge=32)]
    refuse_over: Fraction
    augment: AugmentParams


def _of_format(row: Format) -> type[DatasetParams]:
    """The class of a dataset in this format: with its options, which have the format's defaults where none are said."""
    return create_model(
        f"{row.name}_dataset",
        __base__=DatasetParams,
        __module__=__name__,
        format=(Literal[row.name], ...),  # type: ignore[arg-type]
        options=(row.Options, row.Options()),
    )


DATASETS = {name: _of_format(row) for name, row in FORMATS.items()}

if TYPE_CHECKING:
    AnyDataset = DatasetParams
else:  # a type checker cannot follow a union that is made of a table
    AnyDataset = Annotated[Union[tuple(DATASETS.values())], Field(discriminator="format")]  # noqa: UP007
