"""params.yaml as typed objects. A wrong key is an error that names it and the nearest one that would be right."""

import difflib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import InputError

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Target = Literal["onnx_float", "onnx_int8", "executorch_float", "executorch_int8", "coreml", "litert"]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ActionsParams(_Block):
    groups: Count  # people (UCF101's g01, g02, ...), each in a place of their own
    clips: Count  # clips per group and action
    frames: Annotated[int, Field(ge=2)]  # frames per clip
    side: Annotated[int, Field(ge=32)]  # height in pixels; the width is 4/3 of it


class DrawnParams(_Block):
    images: Annotated[int, Field(ge=10)]
    side: Annotated[int, Field(ge=32)]  # the longer side in pixels


class SampleParams(_Block):
    """The embedded data that `sample` draws."""

    seed: Seed
    actions: ActionsParams
    alpaca: DrawnParams
    herd: DrawnParams
    pose: DrawnParams


class SplitParams(_Block):
    """Used where the source does not say: shares of the groups. A source with a test but no val gives up val."""

    val: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed

    @model_validator(mode="after")
    def _leaves_train(self) -> "SplitParams":
        if self.val + self.test >= 1:
            raise ValueError(f"val + test = {self.val + self.test:g} leaves nothing to train on; expected below 1")
        return self


class AugmentParams(_Block):
    """Offline copies of the train split."""

    policy: str
    copies: Annotated[int, Field(ge=0)]
    seed: Seed


class Ucf101Options(_Block):
    split: Literal[1, 2, 3]  # which of the official lists
    frames: Count  # evenly spaced frames per clip
    classes: list[str]  # [] takes all


class Ucf24Options(_Block):
    split: Literal[1, 2, 3]
    frames: Count  # evenly spaced frames per clip, of those with boxes
    label: Annotated[str, Field(min_length=1)]  # of the boxes; the file does not say


class CropsOptions(_Block):
    margin: Annotated[float, Field(ge=0, le=1)]  # around an object, as a share of its longer side
    min_side: Annotated[int, Field(ge=1)]  # longer side in pixels; smaller objects are not cropped
    backgrounds: Annotated[int, Field(ge=0)]  # crops of nothing per picture
    max_iou: Annotated[float, Field(gt=0, le=1)]  # a crop of nothing overlaps the crop of any object by less
    seed: Seed


class LandmarkOptions(_Block):
    label: Annotated[str, Field(min_length=1)]  # what the landmarks are of; the files do not say
    pairs: list[list[int]]  # landmarks, from 0, that a mirror swaps; [] goes by their names, or by the 68 of a face


class NoOptions(_Block):
    pass


class _Dataset(_Block):
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


class ClassifyHead(_Block):
    kind: Literal["pool", "flatten"]  # global pooling and a linear layer, or flatten-256-dropout
    dropout: Annotated[float, Field(ge=0, lt=1)]


class LocalizeHead(_Block):
    channels: Count  # of the hidden layer
    dropout: Annotated[float, Field(ge=0, lt=1)]


class DetectHead(_Block):
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


class PredictParams(_Block):
    score: Fraction  # objects below are not shown; AP is computed from 0.01 on
    nms_iou: Fraction  # boxes of one class that overlap more are one object
    max_objects: Count


class DetectPredictParams(PredictParams):
    # vote: what stays is the mean of all that it stands for; soft lowers scores of what overlaps, and takes none away
    nms: Literal["hard", "vote", "soft"]


class Online(_Block):
    """Augmentation while training, anew in every epoch."""

    policy: str


class DetectOnline(Online):
    mosaic: Fraction  # of the training pictures: four in one
    smallest: Annotated[float, Field(gt=0, le=1)]  # batches are shrunk to between this share of `size` and all of it
    quiet_epochs: Annotated[int, Field(ge=0)]  # the last of `epochs`: no mosaic, nothing shrunk


class QuantizeParams(_Block):
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


class ExportParams(_Block):
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


class _Run(_Block):
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


class TrackParams(_Block):
    experiment: str


class CompareParams(_Block):
    """A run with one backbone after another. Keys of a run's block are dotted here: "head.kind"."""

    run: str
    settings: dict[str, Any]  # what all of them have in place of the run's own
    models: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]  # backbone -> what it has in place of these


class Params(_Block):
    sample: SampleParams
    datasets: dict[str, DatasetParams]
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
    tags = {"ucf24", "ucf101", "crops", "folder", "coco", "yolo", "voc", "pts", "landmarks_csv"}
    tags |= {"classify", "localize", "detect", "bool", "str"}
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


def nearest(word: str, known: Any) -> str:
    """The end of an error message: the one of `known` that `word` was meant to be, or all of them."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; expected one of {', '.join(map(str, known))}" if known else ""
