"""What of the chain is not made: the last line of a `make repro` that did not come to its end."""

from pathlib import Path

from pipeline.core.errors import InputError

UNRESOLVED = (
    "missing: what params.yaml, weights or code have changed since the last run is not known before stage params has "
    "run; `make repro` does that and goes on from there, or says what is wrong in params.yaml"
)
NEVER = "nothing has run yet: `make repro` runs the chain, or says what is wrong in params.yaml"
NOTHING = "nothing is missing: every stage is up to date"
RUNNING = "not known yet: DVC runs in this project; `pocketlens missing` says it when that is over"
VIEWS = (
    "missing: inspect, the FiftyOne datasets of the runs and reports/inspect; every figure, export and MLflow run is "
    "made. Where the database does not start, read .fiftyone/log/mongo.log or set FIFTYONE_DATABASE_URI to a MongoDB "
    "of your own; then `make repro` makes them"
)


def missing_line(project: Path) -> str:
    """The stages of the project that DVC would run now, and what to do about it, in one line.

    Raises InputError if there is no params.yaml, or DVC cannot read dvc.yaml or what it names.
    """
    if not (project / "params.yaml").is_file():
        raise InputError(f"{project / 'params.yaml'}: no such file; run this in the project's folder")
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(project)) as repo:
            # from another folder DVC puts the way to dvc.yaml before the name
            stages = [stage.rpartition(":")[2] for stage in repo.status()]
    except LockError:
        return RUNNING
    except DvcException as error:
        raise InputError(f"{project / 'dvc.yaml'}: {error}") from None
    if not stages:
        return NOTHING
    if not (project / "dvc.lock").is_file():
        return NEVER
    if "params" in stages:
        return UNRESOLVED
    if stages == ["inspect"]:
        return VIEWS
    return f"missing: {', '.join(stages)}. `make repro` makes them, or says with an error each why it cannot"
