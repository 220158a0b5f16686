"""Params of a dataset: where it lies, its format, its splits."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, create_model, model_validator

from pipeline.core.names import NAME
from pipeline.core.params import NO_SOURCE, Block, Fraction, Seed, nearest
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.format import Format

LAYER = rf"^{NAME.pattern}$"  # a file's name without its suffix


def _off(said: Any) -> Any:
    """YAML 1.1 reads the word off as false."""
    return "off" if said is False else said


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


class DatasetParams(Block):
    """What a dataset of any format has. A block is validated as the class of its format: see AnyDataset."""

    format: str
    """How the labels are written; `pocketlens add` recognizes it."""
    path: Annotated[str, Field(min_length=1)]
    """Where the images or clips are: a folder, or a URL as s3://bucket/folder."""
    labels: Annotated[str, Field(min_length=1)]
    """Where the labels are: the same folder, another one, or a file; or a URL."""
    options: Block
    """What the format can be told."""
    splits: SplitParams = SplitParams()
    """Used where the source does not say which images are train, val and test."""
    max_side: Annotated[int, Field(ge=32)] = 640
    """Images are scaled down until neither side is longer, in pixels."""
    near_duplicates: Annotated[Literal["off", "identical", "similar"], BeforeValidator(_off)] = "similar"
    """Which images of different groups stay in one split: those with the same pixels, those alike too, or none."""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=64)] = 32
    """How far similar images may be apart, in bits of a hash of 256; unrelated photos differ in 65 and more."""
    other_units: Literal["stop", "note"] = "stop"
    """What a set whose labels look like another unit or convention (boxes below two pixels, say) does to the stage."""
    refuse_over: Fraction = 0.1
    """A larger share of the files, images, labelled images or objects lost, or of a class's, stops the stage."""
    links_out: Literal["refuse", "follow"] = "refuse"
    """What is done with links in the folders that lead out of them; `follow` is for data of your own."""
    layers: list[Annotated[str, Field(pattern=LAYER)]] = []
    """Label layers to lay over the source, in order: the names of files labels/DATASET/LAYER.jsonl."""
    layers_sha256: dict[str, str] = {}
    """Of each layer's file; where it is stated, no other file is taken. The stage `params` fills it in."""

    @model_validator(mode="after")
    def _each_layer_once(self) -> "DatasetParams":
        if twice := [name for name in self.layers if self.layers.count(name) > 1]:
            raise ValueError(f"layers: {twice[0]!r} stands twice; expected each layer once")
        if strange := sorted(self.layers_sha256.keys() - set(self.layers)):
            raise ValueError(f"layers_sha256.{strange[0]}: no layer of that name{nearest(strange[0], self.layers)}")
        return self


def _of_format(row: Format) -> type[DatasetParams]:
    """The class of a dataset in this format: with its options, which have the format's defaults where none are said."""
    return create_model(
        f"{row.name}_dataset",
        __base__=DatasetParams,
        __module__=__name__,
        __cls_kwargs__=NO_SOURCE,
        format=(Literal[row.name], _said("format")),  # type: ignore[arg-type]
        options=(row.Options, _said("options", row.Options())),
    )


def _said(name: str, default: Any = ...) -> Any:
    """The field of that name with its meaning, which a class made by pydantic does not inherit."""
    return Field(default, description=DatasetParams.model_fields[name].description)


DATASETS = {name: _of_format(row) for name, row in FORMATS.items()}

if TYPE_CHECKING:
    AnyDataset = DatasetParams
else:  # a type checker cannot follow a union that is made of a table
    AnyDataset = Annotated[Union[tuple(DATASETS.values())], Field(discriminator="format")]  # noqa: UP007
