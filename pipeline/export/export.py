"""A trained run in the forms that ship, with what an app needs to feed them and to prove that it does so rightly."""

import errno
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.calibrated import calibrated
from pipeline.core.errors import InputError
from pipeline.core.files import md5_of, new_folder, read_json, sha256, write_json, write_text
from pipeline.core.image_file import open_image
from pipeline.core.links import link_or_copy
from pipeline.core.parallel import each_forked
from pipeline.core.room import is_full, need_room, size_bytes
from pipeline.core.sample import Sample, read_samples
from pipeline.export import bundle
from pipeline.export.calibration import blank, choose, described, stored
from pipeline.export.card.card import model_card
from pipeline.export.card.contract import preprocessing
from pipeline.export.card.limits import read_evidence
from pipeline.export.card.sbom import LIST, sbom
from pipeline.export.params import ExportParams, Qat
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import prepare
from pipeline.ops.steps import check_steps
from pipeline.runtimes.targets import TARGETS, TORCH, not_installed, open_runtime

if TYPE_CHECKING:
    from torch import nn

    from pipeline.core.spec import ModelSpec

GOLDEN = 4
# How far a float file's outputs may be from the trained net's. An int8 file has no such bound: its metrics are
# compared, and `verify` records how far it is.
FLOAT_TOLERANCE = 1e-3
INT8_TOLERANCE = 0.2  # of the range of an output of the same file here: other kernels round otherwise, and it adds up
PAGE = "onnx_int8"  # the target that the page in the bundle runs
LIBRARIES = ("torch", "onnx", "onnxruntime", "executorch", "torchao", "coremltools")
log = logging.getLogger(__name__)


def export_run(
    model_folder: Path,
    train_folder: Path,
    out: Path,
    params: ExportParams,
    predict: Mapping[str, Any] | None = None,
    reports: Path | None = None,
) -> str:
    """Write the folder `out` with a file per target; returns a line that says what it holds.

    `train_folder` is the ingested train split: calibration and quantization-aware training never see val, test, or
    augmented copies. `predict` is the run's block of that name, which the files bring along; None takes that of
    model.json. `reports` is the folder of the reports of ingest and evaluate, for the model card; without it the
    card has no figures. Raises InputError if `train_folder` is empty, the model, a report or `predict` is missing, a
    step of its `preprocess` is none that a phone has, or the loss of that training is not finite; and, after writing
    the others, one that says which targets could not be made and why. Where none could, nothing is written.
    """
    spec = _spec(model_folder / "model.json", predict)
    samples = read_samples(train_folder)
    if not samples:
        raise InputError(f"{train_folder}: no images to calibrate with")
    evidence = read_evidence(spec, train_folder.parent, reports) if reports else None
    chosen = choose(samples, params.calibration_images)
    calibration = described(chosen, params.calibration_images, spec)
    need_room(out, len(params.targets) * size_bytes(model_folder / "model.safetensors") // 4)  # in int8
    with new_folder(out) as folder, tempfile.TemporaryDirectory(prefix=".", dir=folder) as aside:  # gone after a kill
        images = stored(Path(aside) / "calibration.npy", train_folder, chosen, spec)
        calibration["warnings"] += blank(images)
        tuned, tuning = None, {}
        if isinstance(params.quantize, Qat):
            from pipeline.export import qat

            tuned = Path(aside) / "tuned.pt"
            tuning = {"quantize": qat.tune(model_folder, train_folder, images, params.quantize, tuned)}
        targets, not_made, costs = _export_all(model_folder, images, folder, params, tuned)
        if not targets:
            raise InputError(_said(not_made))
        _write_golden(folder, model_folder, train_folder, choose(chosen, GOLDEN), spec, targets)
        _write_spec(folder, spec, targets)
        _write_bundle(folder, targets)
        facts: dict[str, Any] = {"run": spec.run, "targets": targets, "not_made": not_made, "calibration": calibration}
        facts |= {**tuning, **_origin(model_folder, train_folder), "cost": costs}
        write_json(folder / "export.json", facts)
        write_text(folder / "README.md", model_card(spec, facts, evidence))
        write_json(folder / LIST, sbom(folder, spec, facts["versions"]))
    if not_made:
        raise InputError(f"{_said(not_made)}\n{out}: holds the others: {', '.join(targets)}")
    sizes = ", ".join(f"{row['file']} {row['size_bytes'] / 1e6:.2f} MB" for row in targets.values())
    line = f"{out}: {sizes}; calibrated on {len(chosen)} of {len(samples)} train images"
    return "; ".join([line, *calibration["warnings"]])


def _spec(path: Path, predict: Mapping[str, Any] | None) -> "ModelSpec":
    from pipeline.core.spec import read_spec

    spec = read_spec(path)
    spec = replace(spec, predict=dict(predict or spec.predict))
    try:
        check_steps(spec.preprocess)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not spec.predict:
        raise InputError(f"{path}: no block 'predict', and none is given to export with: what are the files to show?")
    return spec


def _write_spec(folder: Path, spec: "ModelSpec", targets: dict[str, Any]) -> None:
    """What an app needs to run the files, to feed them and to read their answers."""
    from pipeline.core.spec import write_spec

    write_text(folder / "labels.txt", "".join(f"{label}\n" for label in spec.labels))
    write_json(folder / "preprocess.json", preprocessing(spec, targets))
    write_spec(folder / "model.json", spec)


def _origin(model_folder: Path, train_folder: Path) -> dict[str, Any]:
    """What the files were made from, and with; for export.json."""
    weights, card = model_folder / "model.safetensors", model_folder / "model.json"
    return {
        "made_from": {
            weights.name: sha256(weights),
            card.name: sha256(card),
            "train/metadata.jsonl": sha256(train_folder / "metadata.jsonl"),
            "dvc": {"data": md5_of(train_folder.parent), "model": md5_of(model_folder)},
        },
        "float_weights_bytes": weights.stat().st_size,
        "versions": _versions(),
    }


def _cost(model_folder: Path) -> dict[str, int]:
    """Of the whole trained net, for one image."""
    from pipeline.graph.cost import cost
    from pipeline.models.nets import load_model

    net, spec = load_model(model_folder)
    found = cost(net, (3, spec.size, spec.size))
    return {name: getattr(found, name) for name in ("macs", "params", "activation_bytes", "peak_bytes")}


def _export_all(
    model_folder: Path, images: NDArray[np.uint8], folder: Path, params: ExportParams, tuned: Path | None
) -> tuple[dict[str, Any], dict[str, str], dict[str, int]]:
    """The row of export.json for each target that could be made, why not for each other one, and the net's cost."""
    import pipeline.models.nets  # noqa: F401  # once, for the processes to share

    order = sorted(params.targets, key=lambda target: -TARGETS[target].slow)  # they run side by side
    one = partial(_export_one, model_folder, images, folder, params.quantize.budget, tuned)
    jobs: list[Callable[[], Any]] = [*(partial(one, target) for target in order), partial(_cost, model_folder)]
    *made, costs = each_forked(_call, jobs, "export")
    rows = dict(zip(order, made, strict=True))
    return (
        {target: row for target in params.targets if isinstance(row := rows[target], dict)},
        {target: row for target in params.targets if isinstance(row := rows[target], str)},
        costs,
    )


def _call(job: Callable[[], Any]) -> Any:
    return job()


def _export_one(
    model_folder: Path, images: NDArray[np.uint8], folder: Path, budget: float, tuned: Path | None, target: str
) -> dict[str, Any] | str:
    """The target's row of export.json, or why it could not be made; nothing of it is in `folder` then. Raises
    OSError where the disk is full, which says nothing of the target.

    What is in int8 has the weights that quantization-aware training wrote to `tuned`, where there was any.
    """
    from pipeline.models.nets import Deployed, load_model

    row = TARGETS[target]
    path = folder / row.file
    facts: dict[str, Any] = {}
    more = {"budget": budget} if row.budgeted else {}
    try:
        net, spec = load_model(model_folder)
        deployed: nn.Module = Deployed(net, spec)
        if learnt := tuned if row.int8 else None:
            from pipeline.export import qat

            deployed = qat.tuned_net(net, spec, learnt)
        facts = row.export(deployed, images, path, spec.outputs, **more)
        if learnt:
            facts["settings"] += "; quantization-aware training"
        if row.engine.not_run:
            facts["not_run"] = row.engine.not_run
        else:
            open_runtime(target, path)
    except Exception as error:  # a converter's own, of any kind; the other targets go on  # noqa: BLE001
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        if is_full(error):
            raise OSError(errno.ENOSPC, f"no room for {row.file}") from None
        return _why(target, error, facts.get("outside_backend", [])).replace(f"{folder}/", "")
    listed = {"file": row.file, "int8": row.int8, "replay": row.engine.replay or None}
    listed |= {"runtime": row.engine.name, "oldest_version": row.engine.oldest_version}
    return {**listed, "size_bytes": size_bytes(path), "sha256": sha256(path), **facts}


def _why(target: str, error: BaseException, outside: list[str]) -> str:
    """In one line, with the operators that a backend did not take; an unforeseen error is logged whole."""
    if isinstance(error, ModuleNotFoundError):
        return not_installed(error)
    if not isinstance(error, InputError):
        log.warning("%s could not be made", target, exc_info=error)
        while error.__cause__:  # the first error in the chain names the operator
            error = error.__cause__
    left = f"; operators outside the backend: {', '.join(outside)}" if outside else ""
    return (" ".join(str(error).split()) or type(error).__name__) + left


def _said(not_made: dict[str, str]) -> str:
    return "\n".join(f"{target}: not made: {why}" for target, why in not_made.items())


def _versions() -> dict[str, str]:
    """Of those that are installed."""
    installed = {name: list(distributions(name=name)) for name in LIBRARIES}
    return {name: found[0].version for name, found in installed.items() if found}


def _write_golden(
    out: Path,
    model_folder: Path,
    train_folder: Path,
    samples: list[Sample],
    spec: "ModelSpec",
    targets: dict[str, Any],
) -> None:
    """A few images as lossless PNG, what the model takes of them, what the trained net and each file of `targets`
    in `out` say to that.
    """
    folder = out / "golden"
    folder.mkdir()
    prepared = [prepare(open_image(train_folder / s.file_name), spec) for s in samples]
    inputs = np.stack([canvas for canvas, _ in prepared])

    def answers(target: str, path: Path, arrays: str, **more: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        found = open_runtime(target, path).run(inputs)
        np.savez(folder / arrays, allow_pickle=False, **more, **dict(zip(spec.outputs, found, strict=True)))
        return found

    outputs = answers(TORCH, model_folder, "golden.npz", image=inputs)
    run_here = [target for target in targets if not TARGETS[target].engine.not_run]
    for target in run_here:
        answers(target, out / targets[target]["file"], f"{target}.npz")
    names = [f"{i}.png" for i in range(len(samples))]
    for sample, name in zip(samples, names, strict=True):
        open_image(train_folder / sample.file_name).save(folder / name)
    decoded = [
        calibrated(Sample(s.id, name, s.width, s.height, label=label, scores=scores, objects=objects), spec.predict)
        for i, (s, name, (_, frame)) in enumerate(zip(samples, names, prepared, strict=True))
        for label, scores, objects in [decode([o[i] for o in outputs], spec, frame)]
    ]
    write_json(folder / "decoded.json", [s.to_json() for s in decoded])
    note = {
        "images": names,
        "arrays": "golden.npz",
        "image": "the model's input for each image, uint8 [n, S, S, 3]: an app's resize should be within 2 of it",
        "outputs": "the trained float net's answer to it, by the names of model.json",
        "decoded": "decoded.json: what preprocess.json's steps make of these outputs, boxes as shares of the image",
        "tolerances": {t: INT8_TOLERANCE if TARGETS[t].int8 else FLOAT_TOLERANCE for t in run_here},
        "answers": "of a file itself, in <target>.npz; its tolerance is a share of an output's range",
    }
    write_json(folder / "golden.json", note)


def _write_bundle(folder: Path, targets: dict[str, Any]) -> None:
    """What is the same for all runs: the script that replays the golden files, the samples, and, with the target
    `PAGE`, the page that runs it, with all that it reads (but for onnxruntime-web) in its own folder.
    """
    source = Path(bundle.__file__).parent
    shutil.copyfile(source / "replay.py", folder / "replay.py")
    shutil.copytree(source / "samples", folder / "samples")
    if PAGE not in targets:
        return
    file, page = targets[PAGE]["file"], folder / "web"
    shutil.copytree(source / "web", page)
    for name in (file, "model.json", "preprocess.json"):
        link_or_copy(folder / name, page / name)
    (page / "golden").mkdir()
    golden = read_json(folder / "golden" / "golden.json")
    for name in ("golden.json", f"{PAGE}.npz", golden["arrays"], *golden["images"]):
        link_or_copy(folder / "golden" / name, page / "golden" / name)
