"""params.yaml as typed objects. A wrong key is an error that names it and the nearest one that would be right.

The blocks' schemas lie beside the code that reads them; here they are put together. params.yaml states what differs
from their defaults.
"""

import codecs
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, TypeAdapter, ValidationError, create_model, field_validator, model_validator

from pipeline.augment.params import AugmentParams
from pipeline.augment.policies import why_unfit
from pipeline.augment.steps import Step, Steps, before_the_net
from pipeline.config.problems import describe
from pipeline.core.errors import InputError
from pipeline.core.files import content_of_file, write_text
from pipeline.core.machine import MachineParams
from pipeline.core.names import NAME, NAMED
from pipeline.core.params import NO_SOURCE, Block, flat, nearest
from pipeline.core.yaml_text import yaml_value
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.params import DATASETS, DatasetParams
from pipeline.datasets.synthetic.params import SampleParams
from pipeline.evaluation.params import ClassifyPredict, DetectPredict, LocalizePredict
from pipeline.experiments.params import CompareParams
from pipeline.export.params import ExportParams
from pipeline.tracking.params import TrackParams
from pipeline.training import params as training
from pipeline.verification.params import ClassifyVerify, DetectVerify, LocalizeVerify

PREPROCESS = "Steps that all images go through before a net, or copies of training images, in order."
KEPT = ("dataset", "task", "model.backbone")  # of a run that is compared under several backbones


def _with_augment(member: type[Block]) -> type[Block]:
    copies = Field(AugmentParams(), description="Copies of its training images, made before training.")
    steps: Any = Field([], description=PREPROCESS)
    fields: dict[str, Any] = {"augment": (AugmentParams, copies), "preprocess": (Steps, steps)}
    return create_model(member.__name__, __base__=member, __cls_kwargs__=NO_SOURCE, **fields)


if TYPE_CHECKING:

    class DatasetEntry(DatasetParams):
        augment: AugmentParams
        preprocess: list[Step]

else:
    DatasetEntry = Annotated[Union[tuple(map(_with_augment, DATASETS.values()))], Field(discriminator="format")]  # noqa: UP007


class ClassifyRun(training.ClassifyRun):
    predict: ClassifyPredict = ClassifyPredict()
    """What of its answers is shown."""
    export: ExportParams = ExportParams()
    """The files that ship."""
    verify: ClassifyVerify = ClassifyVerify()
    """What they are held to."""


class LocalizeRun(training.LocalizeRun):
    predict: LocalizePredict = LocalizePredict()
    """What of its answers is shown."""
    export: ExportParams = ExportParams()
    """The files that ship."""
    verify: LocalizeVerify = LocalizeVerify()
    """What they are held to."""


class DetectRun(training.DetectRun):
    predict: DetectPredict = DetectPredict()
    """What of its answers is shown."""
    export: ExportParams = ExportParams()
    """The files that ship."""
    verify: DetectVerify = DetectVerify()
    """What they are held to."""


RunParams = ClassifyRun | LocalizeRun | DetectRun
AnyRun = Annotated[RunParams, Field(discriminator="task")]


class Params(Block):
    """The whole of params.yaml."""

    sample: SampleParams = SampleParams()
    """The synthetic data that the default runs learn from."""
    datasets: dict[str, DatasetEntry] = {}
    """Labelled images, each in the format that their owner has them in."""
    runs: dict[str, AnyRun] = {}
    """A net each, from a dataset to the files that ship."""
    machine: MachineParams = MachineParams()
    """What this machine can do; it reruns nothing."""
    track: TrackParams = TrackParams()
    """Where runs are tracked."""
    compare: CompareParams | None = None
    """What `pocketlens compare` compares."""

    @field_validator("datasets", "runs", mode="before")
    @classmethod
    def _names(cls, entries: Any) -> Any:
        wrong = [name for name in entries if not NAME.fullmatch(str(name))] if isinstance(entries, dict) else []
        if wrong:
            raise ValueError(f"name {wrong[0]!r}: expected {NAMED}")
        return entries

    @model_validator(mode="after")
    def _runs_have_datasets(self) -> "Params":
        for name, run in self.runs.items():
            if run.dataset not in self.datasets:
                raise ValueError(
                    f"runs.{name}.dataset: no dataset {run.dataset!r}{nearest(run.dataset, self.datasets)}"
                )
            if run.task not in (tasks := FORMATS[self.datasets[run.dataset].format].tasks):
                raise ValueError(
                    f"runs.{name}.task: {run.task} does not learn from dataset {run.dataset!r}, whose format "
                    f"{self.datasets[run.dataset].format} has labels for {', '.join(tasks)}"
                )
            if unfit := why_unfit(self.datasets[run.dataset].augment.policy, run.task):
                raise ValueError(f"datasets.{run.dataset}.augment.policy: {unfit}, the task of run {name!r}")
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

    def dataset(self, name: str) -> DatasetEntry:
        if name not in self.datasets:
            raise InputError(f"no dataset {name!r} in params.yaml{nearest(name, self.datasets)}")
        return self.datasets[name]

    def steps(self, dataset: str) -> list[dict[str, Any]]:
        """What images of the dataset go through before a net, as `Dataset.preprocess` has it."""
        return before_the_net(self.dataset(dataset).preprocess)

    def run(self, name: str) -> RunParams:
        if name not in self.runs:
            raise InputError(f"no run {name!r} in params.yaml{nearest(name, self.runs)}")
        return self.runs[name]

    def run_on(self, dataset: str, named: str | None = None) -> str | None:
        """The run that is `named`, else the first one on the dataset; None if there is none. Raises InputError if the
        one that is named is on another dataset.
        """
        if named is None:
            return next((name for name, run in self.runs.items() if run.dataset == dataset), None)
        if (other := self.run(named).dataset) != dataset:
            raise InputError(f"--run {named}: its dataset is {other}; expected a run on {dataset}")
        return named


def read_params(path: Path | str = "params.yaml") -> Params:
    """Read and check params.yaml. Raises InputError that lists every wrong key with what would be right."""
    return parse_params(read_text(path), Path(path))


def read_text(path: Path | str) -> str:
    """Of params.yaml, its ends of lines as they are, without a mark of UTF-8 (BOM) before it.

    Raises InputError if it is missing, cannot be read or is not UTF-8.
    """
    try:
        return content_of_file(Path(path)).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: byte {error.object[error.start]:#04x} at {error.start}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def rewrite(path: Path, text: str) -> None:
    """Write what `read_text` gave and what was changed in it, with the mark and the rights that the file has; where
    `path` is a link, the file that it leads to. To be called in `turn`.
    """
    path = path.resolve() if path.is_symlink() else path
    marked, mode = path.read_bytes().startswith(codecs.BOM_UTF8), path.stat().st_mode
    write_text(path, f"\ufeff{text}" if marked else text)
    path.chmod(stat.S_IMODE(mode))


def line_end(text: str) -> str:
    """What ends the first line of it."""
    return next((line[len(line.rstrip("\r\n")) :] for line in text.splitlines(keepends=True)), "") or "\n"


def parse_params(text: str, path: Path) -> Params:
    """The same from text; `path` is named in errors."""
    raw = parse_yaml(text, path)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path}: {describe(problem, raw, Params)}" for problem in error.errors()]
        raise InputError("\n".join(dict.fromkeys(lines))) from None


def parse_yaml(text: str, path: Path) -> Any:
    """What params.yaml states, before any default. Raises InputError if it is not YAML, or not keys and values."""
    raw = yaml_value(text, str(path))
    if raw is not None and not isinstance(raw, dict):
        raise InputError(f"{path}: expected keys and values (datasets: ..., runs: ...), found {raw!r:.200}")
    return raw or {}


def changed(run: RunParams, settings: Mapping[str, Any], where: str, backbone: str | None = None) -> RunParams:
    """`run` with `settings` by dotted key ("model.head.kind") in place of its own, and on `backbone` if one is given.

    Its data and task stay; what it does not state are the defaults for the weights and backbone that it has now.

    Raises ValueError naming `where`.<key> if there is no such key, or the run does not allow the value.
    """
    block = run.stated()
    for key, value in settings.items():
        if key in KEPT:
            known = [name for name in flat(run.model_dump()) if name not in KEPT]
            raise ValueError(f"{where}.{key}: no key of a run that may change{nearest(key, known)}")
        if isinstance(value, dict) and value:
            below = next(iter(flat({key: value})))
            raise ValueError(f"{where}.{key}: a block, which would take the place of the run's own; say {below}: ...")
        put(block, key, value)
    if backbone:
        put(block, "model.backbone", backbone)
    try:
        made: RunParams = TypeAdapter(AnyRun).validate_python(block)
    except ValidationError as error:
        problems = [f"{where}.{describe(problem, block, type(run))}" for problem in error.errors()]
        raise ValueError("; ".join(dict.fromkeys(problems))) from None
    return made


def put(block: dict[str, Any], key: str, value: Any) -> None:
    """Set the dotted `key` in nested dicts, making those that are missing."""
    *path, last = key.split(".")
    for step in path:
        inner = block.get(step)
        block[step] = inner if isinstance(inner, dict) else {}
        block = block[step]
    block[last] = value


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`--set` of a command line: "key=value" with the value in YAML. Raises InputError for one that is not that."""
    found = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise InputError(f"--set {setting}: expected key=value")
        found[key] = yaml_value(value, f"--set {setting}")
    return found
