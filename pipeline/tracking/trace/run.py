"""What is known of a run's files beside their making: lock state, MLflow runs, the verdict of `verify`."""

from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.tracking.dvc_state import state_of
from pipeline.tracking.trace.recorded import Stages, outs_with, recorded_json


def run_facts(project: Path, run: str, dataset: str, stages: Stages, place: str, uri: str | None) -> dict[str, Any]:
    """The lock state, the MLflow runs that have it, and what `verify` said of the run's files."""
    exports = [out for out in stages.get(f"export@{run}", {}).get("outs", []) if out["path"] == f"exports/{run}"]
    made = recorded_json(project, exports[0], "/export.json") if exports else None
    targets = {f"exports/{run}/{row['file']}": target for target, row in made["targets"].items()} if made else {}
    found: dict[str, Any] = {"target": targets.get(place), "verdict": _verdict(project, run, stages, exports)}
    try:
        state = state_of(stages, run, dataset, project / "dvc.lock")
    except InputError:  # the chain has not come that far
        return {**found, "lock": None, "mlflow": []}
    from pipeline.tracking.track import tracked_as

    found |= {"lock": state.lock, "run_params": state.params}
    try:
        return {**found, "mlflow": tracked_as(state, project, uri)}
    except InputError as error:  # the rest is known without the store
        return {**found, "mlflow": [], "mlflow_error": str(error)}


def _verdict(project: Path, run: str, stages: Stages, exports: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What verdict.json says; `recorded` is whether dvc.lock has it for these exports: of a verify that failed it has
    nothing. None where there is no verdict.
    """
    name = f"reports/verify/{run}/verdict.json"
    deps = stages.get(f"verify@{run}", {"deps": []})["deps"]
    judged = [dep["md5"] for dep in deps if dep["path"] == f"exports/{run}"]
    kept = [recorded_json(project, out, name.removeprefix(out["path"])) for _, out in outs_with(name, stages)]
    verdict = kept[0] if kept else None
    recorded = verdict is not None and judged == [out["md5"] for out in exports]
    if not recorded:
        verdict = read_json(project / name) if (project / name).is_file() else None
    if verdict is None:
        return None
    main = verdict["main_metric"]
    rows = {
        target: {
            main: (row["metrics"] or {}).get(main),  # a file that cannot be run here has none
            **{key: row[key] for key in ("drop", "size_ratio", "passed", "reason")},
        }
        for target, row in verdict["targets"].items()
    }
    return {"recorded": recorded, "passed": verdict["passed"], "metric": main, "targets": rows}
