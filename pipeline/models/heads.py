"""The one table of heads: what each can be told and, of a detector's, what computes it and how it is decoded.

Nothing heavy is imported here, so that params are read without torch. A new head of the detector is a module with a
class like `anchor_free.AnchorFree` (see `yolo.Head`), its options and its row. How its outputs become boxes
is one of `ops.decode.FORMS`, which has the words of the contract for it too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from pipeline.core.errors import InputError
from pipeline.core.lazy import load
from pipeline.core.params import Block, Count, nearest

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


class DetectHead(Block):
    """What every head of the detector can be told; each adds its `kind`."""

    if TYPE_CHECKING:
        kind: str
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


class AnchorFreeHead(DetectHead):
    kind: Literal["anchor_free"] = "anchor_free"
    """A decoupled head without anchors."""


class Yolov3Head(DetectHead):
    kind: Literal["yolov3"] = "yolov3"
    """Anchors by k-means over the training boxes, and objectness."""


class SsdliteHead(DetectHead):
    kind: Literal["ssdlite"] = "ssdlite"
    """SSD's default boxes, and a softmax over the labels and the background."""


class Yolov1Head(DetectHead):
    kind: Literal["yolov1"] = "yolov1"
    """YOLO's first form: one grid, one object in a cell."""
    strides: list[Literal[4, 8, 16, 32, 64]] = [16]
    """One grid of cells, so many pixels apart: 4 to 32."""

    @field_validator("strides")
    @classmethod
    def _doubling(cls, strides: list[int]) -> list[int]:
        if len(strides) != 1 or strides[0] > 32:
            raise ValueError(f"strides {strides}: expected one, of 4 to 32: [16]")
        return strides


@dataclass(frozen=True, slots=True)
class Head:
    """A place is "module:name", imported once it is used."""

    task: str
    options: type[Block]
    module: str = ""  # of a detector's: place of the class, called with (inputs, channels, labels, landmarks, strides)
    boxes: str = ""  # of a detector's: how its outputs become boxes, a key of `ops.decode.FORMS`
    anchors: str = ""  # place of `find_anchors`; the class is then called with its anchors too

    @property
    def module_class(self) -> Callable[..., Any]:
        """The class of a detector's head: see `yolo.Head`."""
        found: Callable[..., Any] = load(self.module)
        return found

    @property
    def find_anchors(self) -> Callable[..., list[list[list[float]]]]:
        """`find_anchors(sizes, strides, side)`: of the training boxes' sizes [M, 2] in pixels of the canvas, and the
        canvas's side, the anchors [stride][anchor](width, height).
        """
        function: Callable[..., list[list[list[float]]]] = load(self.anchors)
        return function


HEADS: dict[str, Head] = {
    "pool": Head("classify", PoolHead),
    "flatten": Head("classify", FlattenHead),
    "localize": Head("localize", LocalizeHead),
    "anchor_free": Head("detect", AnchorFreeHead, module="pipeline.models.anchor_free:AnchorFree", boxes="distances"),
    "yolov3": Head(
        "detect",
        Yolov3Head,
        module="pipeline.models.yolov3:Yolov3",
        boxes="anchors",
        anchors="pipeline.models.yolov3:kmeans_anchors",
    ),
    "ssdlite": Head(
        "detect",
        SsdliteHead,
        module="pipeline.models.ssdlite:Ssdlite",
        boxes="offsets",
        anchors="pipeline.models.ssdlite:default_boxes",
    ),
    "yolov1": Head(
        "detect",
        Yolov1Head,
        module="pipeline.models.yolov1:Yolov1",
        boxes="anchors",
        anchors="pipeline.models.yolov1:quarter_of_the_canvas",
    ),
}


def head_row(kind: str, task: str) -> Head:
    """The row of a head of `task`. Raises InputError naming the nearest of its heads if it has none of that kind."""
    known = [name for name, row in HEADS.items() if row.task == task]
    if kind not in known:
        raise InputError(f"head.kind: {task} has no head {kind!r}{nearest(kind, known)}")
    return HEADS[kind]


def head_options(task: str) -> Any:
    """The type of a `head` block: the options of the task's heads, told apart by their `kind`."""
    options: list[Any] = [row.options for row in HEADS.values() if row.task == task]
    return Annotated[reduce(or_, options), Field(discriminator="kind")]
