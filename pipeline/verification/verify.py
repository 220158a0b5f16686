"""The files that ship, each in its own runtime on the test split, against the float model: may they ship?"""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, open_file, read_json, write_json
from pipeline.core.image_file import open_image
from pipeline.core.sample import Dataset, Sample, read_dataset, read_samples, seen_from, write_samples
from pipeline.metrics.bootstrap import Draws, draws, resampled
from pipeline.metrics.metrics import judged, main_metric, paired, score, shown
from pipeline.metrics.nothing import nothing_found
from pipeline.ops.preprocess import prepare
from pipeline.runtimes.exported import exported_file, read_made
from pipeline.runtimes.targets import TARGETS, open_runtime, target_row
from pipeline.verification.comparison import agreement, drop, drop_per_class, drops, reported, worse
from pipeline.verification.gate import falls, size_of, tolerances, too_large
from pipeline.verification.memory import memory_growth
from pipeline.verification.not_run import NOT_MEASURED, not_run_row
from pipeline.verification.operators import operators
from pipeline.verification.params import VerifyParams
from pipeline.verification.resampling import certainty, drop_intervals
from pipeline.verification.said import failed_text, passed_line
from pipeline.viz.mistakes import few_of_each, side_by_side_sheet

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec
    from pipeline.runtimes.runtime import Outputs, Runtime
    from pipeline.verification.diagnosis import Golden

NAMED, DRAWN, COMPARED = 5, 10, 8  # images that a failure names, draws and compares layers on
THREADS = (1, 2)  # that latency is measured with
TIMED = ("latency_ms", "latency_ms_by_threads", "peak_memory_bytes")  # no two runs measure the same


def verify_run(exports: Path, evaluated: Path, truth_folder: Path, report: Path, params: VerifyParams) -> str:
    """Judge every target that was asked for in folder `exports`; returns a line that says how far each one falls.

    `evaluated` holds the trained model's metrics and predictions on the same images. Writes `report`: verify.json;
    verdict.json, the same without what another run measures anew (`TIMED`); metrics.json, its main figures;
    predictions/<target>/metadata.jsonl; and, of a target that fails, the images that it does worse on and the noise of
    its layers. Raises InputError, after writing, that names what failed, the class, the images and the cause where it
    can be known.
    """
    made = read_made(exports)
    asked = [*made["targets"], *made["not_made"]]
    side = int(read_json(exports / "preprocess.json")["input"]["shape"][1])
    with ThreadPoolExecutor(1) as beside:  # torch takes seconds to import here, and again in the other process
        memory = {
            target: beside.submit(memory_growth, path, side, TARGETS[target].engine.memory)
            for target in asked
            if (path := _measurable(exports, target))
        }
        case = _read_case(exports, made, evaluated, truth_folder, params, memory)
        with new_folder(report) as folder:
            (folder / "predictions").mkdir()
            targets: dict[str, dict[str, Any]] = {t: _row(case, t, folder) for t in asked}
            verdict = {
                "passed": all(row["passed"] for row in targets.values()),
                "main_metric": case.main,
                "float": reported(case.metrics),
                **({"nothing": case.nothing} if case.nothing else {}),
                "targets": targets,
            }
            write_json(folder / "verify.json", verdict)
            write_json(folder / "verdict.json", {**verdict, "targets": {t: _untimed(r) for t, r in targets.items()}})
            write_json(folder / "metrics.json", _steady(case, targets))
    if not verdict["passed"]:
        raise InputError(failed_text(report, verdict, case.spec.run, params))
    return passed_line(report, verdict, len(case.truth), params)


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What all targets of a run are judged by; `exact` is what the trained net predicts for `truth`."""

    exports: Path
    made: dict[str, Any]  # its export.json
    truth_folder: Path
    spec: "ModelSpec"
    dataset: Dataset
    truth: list[Sample]
    exact: list[Sample]
    metrics: dict[str, Any]
    main: str
    params: VerifyParams
    memory: dict[str, Future[int | None]]
    golden: "Golden"
    tolerances: dict[str, float]  # of the golden answers, by target
    held: dict[str, float]  # how far each figure may fall
    draws: Draws
    resampled: dict[str, NDArray[np.float64]]  # the figures of `exact` on samples of the images
    nothing: str  # why the float model finds nothing, so that no file has anything to lose; else ""


def _read_case(
    exports: Path,
    made: dict[str, Any],
    evaluated: Path,
    truth_folder: Path,
    params: VerifyParams,
    memory: dict[str, Future[int | None]],
) -> _Judgement:
    from pipeline.core.spec import read_spec
    from pipeline.verification.diagnosis import Golden

    spec = read_spec(exports / "model.json")
    truth, exact = paired(read_samples(truth_folder), read_samples(evaluated / "predictions"))
    with open_file(exports / "golden" / "golden.npz") as opened, np.load(opened) as arrays:
        golden = Golden(arrays["image"], [arrays[name] for name in spec.outputs])
    dataset, metrics = read_dataset(truth_folder.parent), read_json(evaluated / "metrics.json")
    drawn, seen = draws(truth), [shown(s, spec) for s in exact]
    return _Judgement(
        exports=exports,
        made=made,
        truth_folder=truth_folder,
        spec=spec,
        dataset=dataset,
        truth=truth,
        exact=exact,
        metrics=metrics,
        main=main_metric(spec.task),
        params=params,
        memory=memory,
        golden=golden,
        tolerances=read_json(exports / "golden" / "golden.json")["tolerances"],
        held=tolerances(metrics, params),
        draws=drawn,
        resampled=resampled(spec.task, truth, exact, dataset, drawn.weights),
        nothing=nothing_found(spec.task, truth, seen, spec.predict.get("score")),
    )


def _measurable(exports: Path, target: str) -> Path | None:
    """The file of `target`, if it is whole and there is a way to measure its memory."""
    try:
        engine, path = target_row(target).engine, exported_file(exports, target)
    except InputError:  # _row says it
        return None
    return path if engine.memory else None


def _row(case: _Judgement, target: str, folder: Path) -> dict[str, Any]:
    """The target's row of verify.json. A file that is not there, broken or cannot be run here has no
    figures, nor has one with answers that are not finite."""
    try:
        engine, path = target_row(target).engine, exported_file(case.exports, target)
        if engine.not_run:
            size = size_of(case.made, target, path)
            large = too_large(case.made, target, size["size_bytes"], case.params.size_ratio)
            row = not_run_row(case.exports, path, engine, large)
            return {**row, "tolerance": case.held[case.main], **size}
        return _judge(case, target, path, open_runtime(target, path), folder)
    except InputError as error:
        empty = dict.fromkeys((*NOT_MEASURED, "size_bytes", "size_ratio", "size_ratio_to"))
        return {**empty, "tolerance": case.held[case.main], "passed": False, "reason": str(error)}


def _judge(case: _Judgement, target: str, path: Path, runtime: "Runtime", folder: Path) -> dict[str, Any]:
    """The row of a target that runs; draws what is wrong into `folder` if it fails."""
    from pipeline.runtimes.answers import predict_samples

    close = predict_samples(runtime, judged(case.spec), case.truth_folder, case.truth)
    kept = folder / "predictions" / target
    write_samples(kept, seen_from(kept, close, case.truth_folder))
    metrics = score(case.spec.task, case.truth, close, case.dataset)
    answers = runtime.run(case.golden.images)
    both = (case.exact, close)
    by = drop(case.metrics[case.main], metrics[case.main])
    samples = (case.resampled, resampled(case.spec.task, case.truth, close, case.dataset, case.draws.weights))
    fallen = drops(case.metrics, metrics)
    row = {
        "metrics": metrics,
        "drop": by,
        **certainty(case.truth, by, (samples[0][case.main], samples[1][case.main]), case.held[case.main]),
        "drops": fallen,
        "drop_intervals": drop_intervals(fallen, samples, case.draws.groups),
        "drop_per_class": drop_per_class(case.spec.task, case.truth, both, (case.metrics, metrics), case.dataset),
        "tolerance": case.held[case.main],
        "tolerances": case.held,
        "agreement": agreement(case.spec, *both),
        **size_of(case.made, target, path),
        **operators(TARGETS[target].engine, path),
        # the largest absolute one from the trained net's outputs on the golden inputs
        "golden_difference": round(
            max(float(np.abs(a - b).max()) for a, b in zip(answers, case.golden.answers, strict=True)), 7
        ),
        **_cost(case, target, runtime, path),
    }
    if case.nothing:  # what cannot fall lies nowhere
        lost = row["drop_intervals"]
        row |= {"drop_interval": None, "too_small": None, "drop_intervals": dict.fromkeys(lost)}
    reasons = _reasons(case, target, row)
    if reasons:
        worst = worse(case.spec, case.truth, *both)
        row |= _explain(case, target, path, runtime, answers, close, worst, folder)
        reasons += row["causes"]
        if worst:
            reasons.append(f"worst images: {', '.join(t.id for t, _, _ in _few(worst, NAMED))}")
    return {**row, "metrics": reported(metrics), "passed": not reasons, "reason": "; ".join(reasons)}


def _cost(case: _Judgement, target: str, runtime: "Runtime", path: Path) -> dict[str, Any]:
    """What the file takes of this machine; measured once no other process measures."""
    from pipeline.runtimes.runtime import latency

    wait(case.memory.values())
    canvas = _canvas(case, case.truth[:1])
    return {
        "peak_memory_bytes": case.memory[target].result() if target in case.memory else None,
        "latency_ms": latency(runtime, canvas),
        "latency_ms_by_threads": {str(n): latency(open_runtime(target, path, n), canvas) for n in THREADS},
    }


def _canvas(case: _Judgement, samples: list[Sample]) -> NDArray[np.uint8]:
    """[N, S, S, 3]."""
    images = [open_image(case.truth_folder / s.file_name) for s in samples]
    return np.stack([prepare(image, case.spec)[0] for image in images])


def _reasons(case: _Judgement, target: str, row: dict[str, Any]) -> list[str]:
    """Why a file may not ship; empty if it may."""
    reasons = falls(row, case.metrics, case.params.per_class)
    if row["too_small"] and case.params.small_test == "fail":
        reasons.append(row["too_small"])
    if TARGETS[target].int8 and not row["int8_layers"]:
        reasons.append("none of its layers is in int8: a float file by the name of an int8 one")
    reasons += too_large(case.made, target, row["size_bytes"], case.params.size_ratio)
    if not TARGETS[target].int8 and not row["golden_difference"] <= case.tolerances[target]:
        found, bound = row["golden_difference"], case.tolerances[target]
        reasons.append(f"{found} from the trained net on the golden inputs, expected {bound}")
    return reasons


def _explain(
    case: _Judgement,
    target: str,
    path: Path,
    runtime: "Runtime",
    answers: "Outputs",
    close: list[Sample],
    worst: list[tuple[Sample, Sample, Sample]],
    folder: Path,
) -> dict[str, Any]:
    """What is known of why a file fails, for verify.json; draws its worst images and the noise of its layers."""
    from pipeline.verification.diagnosis import causes, misfits
    from pipeline.verification.layer_noise import APART, Layer, first_apart, layers_of, sqnr
    from pipeline.viz.plots import plot_noise

    if worst:
        sheet = folder / f"worst_{target}.jpg"
        side_by_side_sheet(case.spec.task, case.truth_folder, _few(worst, DRAWN), case.dataset, target, sheet)
    off = misfits(runtime, path, case.spec, case.golden, answers)
    found = causes(case.spec, path, off, answers, case.golden, (case.exact, close))
    compared = [t for t, _, _ in worst[:COMPARED]] or case.truth[:COMPARED]
    layers = layers_of(case.exports, target, _canvas(case, compared))
    apart = first_apart(layers)
    outputs = zip(case.spec.outputs, case.golden.answers, answers, strict=True)
    noise = layers or [Layer(name, sqnr(a, b)) for name, a, b in outputs]
    if apart is not None:
        names, sqnr_db = zip(*layers, strict=True)
        plot_noise(names, sqnr_db, APART, layers.index(apart), folder / f"sqnr_{target}.png")
    return {
        "causes": found,
        "golden_misfit": off,
        "sqnr_of": "layers" if layers else "outputs",
        "sqnr_db": {layer.name: layer.sqnr_db for layer in noise},
        "first_layer_apart": None if apart is None else apart._asdict(),
    }


def _few(worst: list[tuple[Sample, Sample, Sample]], count: int) -> list[tuple[Sample, Sample, Sample]]:
    return [worst[i] for i in few_of_each([t for t, _, _ in worst], count)]


def _untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in TIMED}


def _steady(case: _Judgement, targets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A line per file for `dvc metrics show`, and what the net costs; without what is measured anew each time."""
    name = case.main
    rows = {
        t: {name: (r["metrics"] or {}).get(name), **{k: r[k] for k in ("drop", "size_ratio")}}
        for t, r in targets.items()
    }
    cost = {key: case.made["cost"][key] for key in ("macs", "params")}
    return {"float": {name: case.metrics[name]}, "cost": cost, **rows}
