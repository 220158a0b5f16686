"""params.yaml as typed objects. A wrong key is an error that names it and the nearest one that would be right."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import InputError
from pipeline.core.params import Block, Count, Fraction, Seed, nearest
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.params import AnyDataset, DatasetParams
from pipeline.datasets.synthetic.params import SampleParams
from pipeline.export.params import ExportParams


class ClassifyHead(Block):
    kind: Literal["pool", "flatten"]  # global pooling and a linear layer, or flatten-256-dropout
    dropout: Annotated[float, Field(ge=0, lt=1)]


class LocalizeHead(Block):
    channels: Count  # of the hidden layer
    dropout: Annotated[float, Field(ge=0, lt=1)]


class DetectHead(Block):
    kind: Literal["anchor_free", "yolov3"]
    strides: list[Literal[4, 8, 16, 32, 64]]  # a grid of cells each, so many pixels apart
    neck: Count  # channels
    channels: Count  # of the head
    dropout: Annotated[float, Field(ge=0, lt=1)]  # of the backbone's channels, while training

    @field_validator("strides")
    @classmethod
    def _doubling(cls, strides: list[int]) -> list[int]:
        if len(strides) < 2 or 32 not in strides or any(b != 2 * a for a, b in pairwise(strides)):
            raise ValueError(f"strides {strides}: expected each twice the one before, 32 among them: [8, 16, 32]")
        return strides


class PredictParams(Block):
    score: Fraction  # objects below are not shown; AP is computed from 0.01 on
    nms_iou: Fraction  # boxes of one class that overlap more are one object
    max_objects: Count


class DetectPredictParams(PredictParams):
    # vote: what stays is the mean of all that it stands for; soft lowers scores of what overlaps, and takes none away
    nms: Literal["hard", "vote", "soft"]


class Online(Block):
    """Augmentation while training, anew in every epoch."""

    policy: str


class DetectOnline(Online):
    mosaic: Fraction  # of the training pictures: four in one
    smallest: Annotated[float, Field(gt=0, le=1)]  # batches are shrunk to between this share of `size` and all of it
    quiet_epochs: Annotated[int, Field(ge=0)]  # the last of `epochs`: no mosaic, nothing shrunk


class _Run(Block):
    dataset: str
    backbone: str
    pretrained: bool | str
    size: Annotated[int, Field(ge=32, multiple_of=32)]
    resize: Literal["stretch", "letterbox", "crop"]
    frozen_epochs: Annotated[int, Field(ge=0)]  # only the head learns, on features that are computed once
    epochs: Annotated[int, Field(ge=0)]  # after those
    tuned_blocks: Literal["all"] | Annotated[int, Field(ge=0)]  # of the backbone, from its end, in `epochs`
    backbone_norm: Literal["batch", "frozen"]  # frozen keeps the statistics that pretrained weights came with
    class_weights: Literal["none", "balanced"]  # balanced: a rare label counts as much as a frequent one
    patience: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    backbone_rate: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    online: Online
    precision: Literal["auto", "fp32", "bf16"]
    workers: Annotated[int, Field(ge=0)]
    seed: Seed
    predict: PredictParams
    export: ExportParams

    @model_validator(mode="after")
    def _learns(self) -> "_Run":
        if self.epochs + self.frozen_epochs == 0:
            raise ValueError("epochs and frozen_epochs are both 0; expected at least 1 of them")
        return self


class ClassifyRun(_Run):
    task: Literal["classify"]
    head: ClassifyHead


class LocalizeRun(_Run):
    task: Literal["localize"]
    head: LocalizeHead


class DetectRun(_Run):
    task: Literal["detect"]
    head: DetectHead
    online: DetectOnline
    predict: DetectPredictParams

    @model_validator(mode="after")
    def _cells_fit(self) -> "DetectRun":
        coarsest = self.head.strides[-1]
        if self.size % coarsest:
            raise ValueError(f"size {self.size}: expected a multiple of the coarsest stride, {coarsest}")
        return self


RunParams = Annotated[ClassifyRun | LocalizeRun | DetectRun, Field(discriminator="task")]


_KEPT = ("dataset", "task", "backbone")  # of a run that is compared under several backbones


class TrackParams(Block):
    experiment: str


class CompareParams(Block):
    """A run with one backbone after another. Keys of a run's block are dotted here: "head.kind"."""

    run: str
    settings: dict[str, Any]  # what all of them have in place of the run's own
    models: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]  # backbone -> what it has in place of these


class Params(Block):
    sample: SampleParams
    datasets: dict[str, AnyDataset]
    runs: dict[str, RunParams]
    track: TrackParams
    compare: CompareParams | None = None

    @model_validator(mode="after")
    def _runs_have_datasets(self) -> "Params":
        for name, run in self.runs.items():
            if run.dataset not in self.datasets:
                raise ValueError(
                    f"runs.{name}.dataset: no dataset {run.dataset!r}{nearest(run.dataset, self.datasets)}"
                )
        return self

    @model_validator(mode="after")
    def _models_fit_their_run(self) -> "Params":
        if self.compare is not None:
            known = self.runs.get(self.compare.run)
            if known is None:
                raise ValueError(f"compare.run: no run {self.compare.run!r}{nearest(self.compare.run, self.runs)}")
            whole = changed(known, self.compare.settings, "compare.settings")
            for name, settings in self.compare.models.items():
                changed(whole, settings, f"compare.models.{name}")
        return self

    def dataset(self, name: str) -> DatasetParams:
        if name not in self.datasets:
            raise InputError(f"no dataset {name!r} in params.yaml{nearest(name, self.datasets)}")
        return self.datasets[name]

    def run(self, name: str) -> ClassifyRun | LocalizeRun | DetectRun:
        if name not in self.runs:
            raise InputError(f"no run {name!r} in params.yaml{nearest(name, self.runs)}")
        return self.runs[name]


def read_params(path: Path | str = "params.yaml") -> Params:
    """Read and check params.yaml. Raises InputError that lists every wrong key with what would be right."""
    path = Path(path)
    try:
        return parse_params(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None


def parse_params(text: str, path: Path) -> Params:
    """The same from text; `path` is named in errors."""
    try:
        raw = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path}: {_describe(problem)}" for problem in error.errors()]
        raise InputError("\n".join(lines)) from None


def _describe(problem: Any) -> str:
    # pydantic puts the union's tag (format or task) into the location; it is no key of the file
    tags = {*FORMATS, "classify", "localize", "detect", "bool", "str"}
    steps = [
        str(step)
        for i, step in enumerate(problem["loc"])
        if not (i >= 2 and step in tags) and not (isinstance(step, str) and "[" in step)
    ]
    key = ".".join(steps)
    found = problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key{nearest(steps[-1], _keys_at(problem['loc']))}"
        case "missing":
            return f"{key}: missing"
        case "value_error":
            where = f"{key}: " if key else ""
            return f"{where}{problem['ctx']['error']}"
        case "union_tag_invalid":
            tag = problem["ctx"]["discriminator"].strip("'")
            expected = problem["ctx"]["expected_tags"]
            known = [t.strip(" '") for t in expected.split(",")]
            found = problem["ctx"]["tag"]
            return f"{key}.{tag}: {found!r} is not one of {expected}{nearest(found, known)}"
        case "union_tag_not_found":
            return f"{key}.{problem['ctx']['discriminator'].strip(chr(39))}: missing"
        case _:
            return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, found {found!r}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the schema has where an unknown one was found."""
    model: Any = Params
    for step in location[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(step)].annotation
            if type(None) in get_args(model):  # a block that may be left out
                model = get_args(model)[0]
        elif getattr(model, "__origin__", None) is dict:
            model = get_args(model)[1]
        else:  # a discriminated union: the step is its tag
            members = get_args(get_args(model)[0]) if get_args(model) else ()
            for member in members:
                field = "format" if "format" in member.model_fields else "task"
                if step in get_args(member.model_fields[field].annotation):
                    model = member
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def changed(run: RunParams, settings: Mapping[str, Any], where: str) -> RunParams:
    """`run` with `settings` by dotted key ("head.kind") in place of its own; its data and task stay.

    Raises ValueError naming `where`.<key> if there is no such key, or the run does not allow the value.
    """
    block = run.model_dump()
    for key, value in settings.items():
        *path, last = key.split(".")
        inner: Any = block
        for step in path:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner or key in _KEPT:
            known = [name for name in _dotted(run.model_dump()) if name not in _KEPT]
            raise ValueError(f"{where}.{key}: no key of a run that may change{nearest(key, known)}")
        inner[last] = value
    try:
        return TypeAdapter(RunParams).validate_python(block)
    except ValidationError as error:
        problems = [_describe({**p, "loc": ("runs", where, *p["loc"][1:])}) for p in error.errors()]
        raise ValueError("; ".join(p.removeprefix("runs.") for p in problems)) from None


def _dotted(block: Mapping[str, Any]) -> list[str]:
    inner = {key: _dotted(value) if isinstance(value, dict) else [] for key, value in block.items()}
    return [name for key, below in inner.items() for name in ([f"{key}.{b}" for b in below] or [key])]


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`--set` of a command line: "key=value" with the value in YAML. Raises InputError for one that is not that."""
    found = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: expected key=value")
        try:
            found[key] = YAML(typ="safe").load(value)
        except YAMLError as error:
            raise InputError(f"--set {setting}: the value is not YAML: {error}") from None
    return found
