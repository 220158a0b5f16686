"""What a CVAT server answers with, as far as it is read: the serializers of its API, version 2.80."""

from typing import Any, Literal

from pydantic import NonNegativeInt

from pipeline.annotation.server import Form


class Made(Form):
    """What was just made."""

    id: int


class Named(Made):
    """A project, or a label of a point in a skeleton."""

    name: str


class Label(Named):
    has_parent: bool = False
    sublabels: list[Named] | None = None


class User(Form):
    username: str = ""


class Task(Named):
    """One that has no images yet has no `size`."""

    size: int | None = None
    owner: User | None = None


class Request(Form):
    id: str
    status: str


class Status(Form):
    status: str
    message: str | None = None


class Queued(Form):
    rq_id: str


class Frame(Form):
    """An image; width and height in pixels."""

    name: str
    width: int
    height: int


class Frames(Form):
    frames: list[Frame]
    deleted_frames: list[int] | None = None


class Job(Form):
    """It has the frames from `start_frame` up to and with `stop_frame`."""

    id: int
    state: str
    start_frame: NonNegativeInt
    stop_frame: int
    updated_date: str
    type: str = "annotation"
    assignee: User | None = None


class Labelled(Form):
    label_id: int
    group: int | None = None
    source: str = ""


class Annotation(Labelled):
    """What a tag, a shape and a track have."""

    id: int | None = None
    frame: int


class Drawn(Labelled):
    """What a shape and a point of a skeleton have; `points` are x, y, x, y, ... in pixels, rotation in degrees."""

    points: list[float] | None = None
    rotation: float = 0.0
    occluded: bool = False
    outside: bool = False


class Point(Drawn):
    """Of a skeleton."""

    type: Literal["points"]


class Shape(Annotation, Drawn):
    type: str
    elements: list[Point] = []


class Annotations(Form):
    tags: list[Annotation]
    shapes: list[Shape]
    tracks: list[Annotation]


class Added(Form):
    """What came into being."""

    tags: list[Any] = []
    shapes: list[Any] = []
