"""MLflow's registered models: a run's files as a model that MLflow loads and serves, its versions and their aliases."""

import base64
import logging
import tempfile
from dataclasses import dataclass
from importlib.metadata import version as installed
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.files import read_json
from pipeline.core.image_file import open_image
from pipeline.core.links import link_or_copy
from pipeline.runtimes.exported import read_made
from pipeline.runtimes.targets import TARGETS
from pipeline.tracking import serving_package
from pipeline.tracking.dvc_state import RunState

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

PLACE = "served"  # of the model among the artifacts of its MLflow run
CANDIDATE = "candidate"  # of the version that the workspace last held
CHAMPION = "champion"  # of the best version so far
LOCK, TEST, VERDICT = "pocketlens.lock", "pocketlens.test", "pocketlens.champion"  # tags of a version
# what pocketlens_serving needs besides MLflow, which brings pandas and pydantic
PACKAGES = ("numpy", "pillow", "tqdm")


@dataclass(frozen=True, slots=True)
class Servable:
    """`files` by target, the one that is served by default first; `metric` names the main one, `figure` is that of
    the first file, as `verify` judged it; `nothing` why the model finds nothing, "" where it finds something.
    """

    exports: Path
    task: str
    files: dict[str, str]
    metric: str
    figure: float
    nothing: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """`said`: what became of the aliases."""

    version: str
    said: str


def model_name(run: str) -> str:
    return f"pocketlens-{run}"


def servable(project: Path, run: str) -> Servable | None:
    """What of a run can be registered: None where `verify` did not pass, or none of its files runs in Python.

    The files of the first engine in the table of targets that has any here and names its packages: ONNX Runtime is the
    smallest. The int8 file comes first: it is the one that ships.
    """
    exports, verdict = project / "exports" / run, read_json(project / "reports/verify" / run / "verdict.json")
    made = read_made(exports)["targets"]
    rows = {name: row for name, row in TARGETS.items() if name in made and row.engine.packages}
    if not rows or not verdict["passed"]:
        return None
    engine = next(iter(rows.values())).engine
    own = sorted((name for name, row in rows.items() if row.engine == engine), key=lambda name: not rows[name].int8)
    metric, judged = verdict["main_metric"], verdict["targets"][own[0]]
    task = read_json(exports / "model.json")["task"]
    files, nothing = {name: made[name]["file"] for name in own}, verdict.get("nothing", "")
    return Servable(exports, task, files, metric, judged["metrics"][metric], nothing)


def save(model: Servable, folder: Path, run_id: str) -> None:
    """Write `model` into the new `folder` in MLflow's form, with the code that runs it."""
    import mlflow.pyfunc
    from mlflow.models import Model

    for chatty in ("mlflow.pyfunc", "mlflow.utils.environment"):  # steps; that an environment made by uv has no pip
        logging.getLogger(chatty).setLevel(logging.ERROR)
    packages = (*PACKAGES, *TARGETS[next(iter(model.files))].engine.packages)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "model")
        data.mkdir()
        for name in ("model.json", *model.files.values()):
            link_or_copy(model.exports / name, data / name)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=serving_package.LOADER,
            data_path=str(data),
            code_paths=[str(serving_package.write_package(Path(scratch)))],
            mlflow_model=Model(artifact_path=PLACE, run_id=run_id),
            model_config={"files": model.files},
            signature=_signature(model),
            input_example=_example(model.exports),
            pip_requirements=[f"{package}=={installed(package).split('+')[0]}" for package in packages],
        )


def register(client: "MlflowClient", source: "Run", state: RunState, model: Servable) -> Registered:
    """The version of the registered model that is this state's, made if there is none; then its aliases.

    `source` is whole, with the model in it: whatever stops this leaves no version that cannot be loaded, and the next
    call goes on.
    """
    name, run_id = model_name(state.run), source.info.run_id
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    alike = list(client.search_model_versions(f"name = '{name}' AND tags.`{LOCK}` = '{state.lock}'"))
    mine = [v for v in alike if v.run_id == run_id]
    if not mine:
        tags = {LOCK: state.lock, TEST: state.test, f"pocketlens.{model.metric}": str(model.figure)}
        place = f"{source.info.artifact_uri}/{PLACE}"
        said = f"{next(iter(model.files))}: {model.metric} {model.figure}"
        mine = [client.create_model_version(name, place, run_id, tags, description=said, await_creation_for=0)]
    version = mine[0]
    gone = [str(v.version) for v in alike if v.run_id != run_id and not _lives(client, v.run_id or "")]
    client.set_registered_model_alias(name, CANDIDATE, version.version)
    said = _crown(client, client.get_model_version(name, version.version), model, gone)
    for number in gone:
        client.delete_model_version(name, number)
    return Registered(str(version.version), said)


def _lives(client: "MlflowClient", run_id: str) -> bool:
    """Whether the MLflow run is there: not deleted, as one that was left half-written is."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _crown(client: "MlflowClient", version: "ModelVersion", model: Servable, gone: list[str]) -> str:
    """Move `champion` to `version` if it finds something and is not worse; says what was done.

    That is asked once for a version, so that a champion chosen by hand stays when nothing new is tracked.
    """
    name = version.name
    # a database has numbers where a server has texts
    number = str(client.get_registered_model(name).aliases.get(CHAMPION, ""))
    if number == str(version.version):
        return "candidate and champion"
    number = "" if number in gone else number
    if VERDICT in version.tags and number:
        return f"candidate; champion is version {number}"
    better, verdict = _better(client, version, model, number)
    if better:
        client.set_registered_model_alias(name, CHAMPION, version.version)
    client.set_model_version_tag(name, version.version, VERDICT, verdict)
    return f"candidate{' and ' if better and not number else '; '}{verdict}"


def _better(client: "MlflowClient", version: "ModelVersion", model: Servable, number: str) -> tuple[bool, str]:
    """Whether `version` becomes champion in place of version `number` ("": there is none), and what is said of it."""
    if model.nothing:
        return False, f"champion stays version {number}: {model.nothing}" if number else f"no champion: {model.nothing}"
    if not number:
        return True, "champion, as there was none"
    present = client.get_model_version(version.name, number)
    theirs = present.tags.get(f"pocketlens.{model.metric}")
    if theirs is None or present.tags.get(TEST) != version.tags[TEST]:
        return False, f"champion stays version {number}: judged on other test data, or by another metric"
    if model.figure < float(theirs):
        return False, f"champion stays version {number}: {model.metric} {theirs}, this one's {model.figure}"
    return True, f"champion in place of version {number}: {model.metric} {model.figure}, before {theirs}"


def _signature(model: Servable) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array, Map, Object, Property

    number = DataType.double
    answer: list[ColSpec | TensorSpec]
    if model.task == "classify":
        answer = [ColSpec(DataType.string, "label", False), ColSpec(Map(number), "scores", False)]
    else:
        found = [Property("label", DataType.string), Property("score", number), Property("box", Array(number))]
        found.append(Property("landmarks", Array(Array(number)), required=False))
        answer = [ColSpec(Array(Object(found)), "objects", False)]
    answer.append(ColSpec(DataType.string, "error", False))  # in place of the others, of a row that is no image
    target = ParamSpec("target", DataType.string, next(iter(model.files)))
    return ModelSignature(Schema([ColSpec(DataType.string, "image")]), Schema(answer), ParamSchema([target]))


def _example(exports: Path) -> Any:
    """The first golden image as a request has it: a small JPEG in base64."""
    import pandas as pd

    jpeg = BytesIO()
    open_image(exports / "golden" / "0.png").save(jpeg, "JPEG")
    return pd.DataFrame({"image": [base64.b64encode(jpeg.getvalue()).decode()]})
