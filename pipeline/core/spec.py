"""model.json: everything needed to rebuild a model, feed it and read what it says."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json
from pipeline.core.names import check_labels, check_name

CHECKSUM = "sha256"
ANEW = "`dvc checkout` brings back what the chain made, `dvc repro` makes it anew"


@dataclass(slots=True)
class ModelSpec:
    """`mean` and `std` are for pixels in 0 to 1, RGB; `outputs` names the graph's outputs in order; `strides` and
    the `landmarks` are empty where the task has none. `boxes` says how a detector's outputs become boxes, by a key of
    `ops.decode.FORMS`. `preprocess` are the steps of `ops.steps` between the resize and the net. `trained` says how the
    weights came about; `weights_sha256` is that of model.safetensors, "" in what was trained before that was kept.

    `predict` says what of the answers is shown. It is not part of a trained net: models/<run>/model.json has none,
    that of the exports has.
    """

    run: str
    dataset: str
    task: str
    labels: list[str]
    landmarks: list[str]
    pairs: list[tuple[int, int]]
    skeleton: list[tuple[int, int]]
    backbone: str
    head: dict[str, Any]
    size: int
    resize: str
    mean: list[float]
    std: list[float]
    predict: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    strides: list[int] = field(default_factory=list)
    boxes: str = ""
    trained: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    preprocess: list[dict[str, Any]] = field(default_factory=list)


ModelSpec.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
_SPEC = TypeAdapter(ModelSpec)


def write_spec(path: Path | str, spec: ModelSpec) -> None:
    """Write `spec` as model.json, with a sha256 of all that is in it.

    >>> from tempfile import TemporaryDirectory
    >>> spec = ModelSpec(
    ...     *("actions", "clips", "classify", ["run", "wave"], [], [], [], "mobilenetv2_050", {"kind": "pool"}),
    ...     *(96, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     write_spec(f"{folder}/model.json", spec)
    ...     read_json(f"{folder}/model.json")["labels"]
    ['run', 'wave']
    """
    said = json.loads(json.dumps(asdict(spec)))
    if not spec.preprocess:
        del said["preprocess"]  # as it was before there were any steps
    write_json(path, said | {CHECKSUM: _checksum(said)})


def _checksum(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def model_folder(models: Path, run: str) -> Path:
    """models/<run>. Raises InputError that lists the trained runs if there is no such run.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as models:
    ...     Path(models, "herd").mkdir()
    ...     model_folder(Path(models), "herd").name
    'herd'
    """
    folder = models / run
    if Path(run).name != run or not folder.is_dir():  # "herd/" is a folder that is there, and no name
        known = ", ".join(sorted(p.parent.name for p in models.glob("[!.]*/model.json"))) or "none"
        raise InputError(f"{folder}: no such model; trained runs: {known}")
    return folder


def read_spec(path: Path | str) -> ModelSpec:
    """The spec in a model.json. Raises InputError naming the file if it is missing or not as it was
    written, and the key that is not as expected; one without a checksum is of an earlier version.

    >>> from tempfile import TemporaryDirectory
    >>> spec = ModelSpec(
    ...     *("actions", "clips", "classify", ["run", "wave"], [], [], [], "mobilenetv2_050", {"kind": "pool"}),
    ...     *(96, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     write_spec(f"{folder}/model.json", spec)
    ...     read_spec(f"{folder}/model.json") == spec
    True
    """
    said = read_json(path)
    if not isinstance(said, dict):
        raise InputError(f"{path}: found {type(said).__name__}; expected an object with the keys of a model.json")
    stated = said.pop(CHECKSUM, None)
    if stated is not None and stated != _checksum(said):
        raise InputError(f"{path}: not as it was written; {ANEW}")
    try:
        spec = _SPEC.validate_json(json.dumps(said), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: not a model.json of this version: {key}: {first['msg']}") from None
    check_name(spec.run, f"{path}: run")
    check_name(spec.dataset, f"{path}: dataset")
    check_labels(spec.labels, str(path))
    return spec
