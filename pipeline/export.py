"""A trained run in the forms that ship, with what an app needs to feed them and to prove that it does so rightly."""

import json
import shutil
import tempfile
from collections import defaultdict
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import bundle
from pipeline.errors import InputError
from pipeline.files import link_or_copy, new_folder, read_json, sha256, write_json, write_text
from pipeline.parallel import each_forked
from pipeline.params import ExportParams, Learning
from pipeline.preprocess import FILL, open_image, resize
from pipeline.sample import Sample, read_samples

if TYPE_CHECKING:
    from pipeline.models.spec import ModelSpec

GOLDEN = 4
# How far a float file's outputs may be from the trained net's. An int8 file has no such bound: its metrics are
# compared, and `verify` records how far it is.
FLOAT_TOLERANCE = 1e-3
INT8_TOLERANCE = 0.05  # of an output's range, from what the same file said here: room for kernels that round otherwise
LEARNING = Learning(batch_size=16, seed=0, class_weights="none")
LIBRARIES = ("torch", "onnx", "onnxruntime", "executorch", "torchao")


def export_run(
    model_folder: Path, train_folder: Path, out: Path, params: ExportParams, learning: Learning = LEARNING
) -> str:
    """Write the folder `out` with a file per target; returns a line that says what it holds.

    `train_folder` is the ingested train split: calibration and quantization-aware training never see val, test, or
    augmented copies. Raises InputError if it is empty, the model is missing, or the loss of that training not finite.
    """
    from pipeline.models.spec import read_spec

    spec = read_spec(model_folder / "model.json")
    samples = read_samples(train_folder)
    if not samples:
        raise InputError(f"{train_folder}: no pictures to calibrate with")
    chosen = choose(samples, params.calibration_images)
    images = [_canvas(train_folder, s, spec)[None] for s in chosen]
    with new_folder(out) as folder, tempfile.TemporaryDirectory() as scratch:
        tuned, tuning = None, {}
        if params.quantize.mode == "qat":
            from pipeline import qat

            tuned = Path(scratch) / "tuned.pt"
            tuning = {"quantize": qat.tune(model_folder, train_folder, images, params.quantize, learning, tuned)}
        targets = _export_all(model_folder, images, folder, params.targets, tuned)
        _write_golden(folder, model_folder, train_folder, choose(chosen, GOLDEN), spec, targets)
        write_text(folder / "labels.txt", "".join(f"{label}\n" for label in spec.labels))
        write_json(folder / "preprocess.json", preprocessing(spec))
        link_or_copy(model_folder / "model.json", folder / "model.json")
        facts = {
            "run": spec.run,
            "targets": targets,
            "calibration": {
                "split": "train",
                "asked": params.calibration_images,
                "used": len(chosen),
                "ids": [s.id for s in chosen],
            },
            **tuning,
            "made_from": {
                "model.safetensors": sha256(model_folder / "model.safetensors"),
                "model.json": sha256(model_folder / "model.json"),
                "train/metadata.jsonl": sha256(train_folder / "metadata.jsonl"),
            },
            "cost": _cost(model_folder, spec),
            "float_weights_bytes": (model_folder / "model.safetensors").stat().st_size,
            "versions": {name: version(name) for name in LIBRARIES},
        }
        write_json(folder / "export.json", facts)
        write_text(folder / "README.md", _model_card(spec, facts))
    sizes = ", ".join(f"{row['file']} {row['size_bytes'] / 1e6:.2f} MB" for row in targets.values())
    return f"{out}: {sizes}; calibrated on {len(chosen)} of {len(samples)} train pictures"


def exported_file(folder: Path, target: str) -> Path:
    """The file of `target` in an export folder. Raises InputError if it was not exported."""
    targets = read_json(folder / "export.json")["targets"]
    if target not in targets:
        raise InputError(f"{folder}: has no {target}; export.targets of the run made {', '.join(targets)}")
    return folder / str(targets[target]["file"])


def choose(samples: list[Sample], count: int) -> list[Sample]:
    """`count` samples, or all if there are fewer: as many of each label as there are, evenly spaced within it.

    Where images have no label of their own, their largest object's counts; those without any are a kind too.
    """
    kinds: dict[str, list[Sample]] = defaultdict(list)
    for s in sorted(samples, key=lambda s: s.id):
        largest = max(s.objects, key=lambda o: o.box[2] * o.box[3], default=None)
        kinds[s.label or (largest.label if largest else "")].append(s)
    left = sorted(kinds.values(), key=len)  # the rare kinds give all they have, the others fill up
    chosen: list[Sample] = []
    for i, kind in enumerate(left):
        share = min(len(kind), -(-(count - len(chosen)) // (len(left) - i)))
        chosen += [kind[(2 * n + 1) * len(kind) // (2 * share)] for n in range(share)]
    return sorted(chosen, key=lambda s: s.id)


def preprocessing(spec: "ModelSpec") -> dict[str, Any]:
    """What an app does with a picture before it runs the model, in words that need no Python."""
    return {
        "input": {"name": "image", "dtype": "uint8", "shape": [1, spec.size, spec.size, 3], "layout": "NHWC"},
        "colour": "RGB, upright (EXIF orientation applied)",
        "resize": spec.resize,
        "filter": "bilinear, antialiased when shrinking (Pillow's BILINEAR)",
        "fill": [FILL] * 3 if spec.resize == "letterbox" else None,
        "normalization": {"inside_the_graph": True, "mean": spec.mean, "std": spec.std},
        "outputs": spec.outputs,
    }


def _cost(model_folder: Path, spec: "ModelSpec") -> dict[str, int]:
    """Of the whole trained net, for one picture."""
    from pipeline.cost import cost
    from pipeline.models import load_model

    found = cost(load_model(model_folder)[0], (3, spec.size, spec.size))
    return {name: getattr(found, name) for name in ("macs", "params", "activation_bytes", "peak_bytes")}


def _export_all(
    model_folder: Path, images: list[NDArray[np.uint8]], folder: Path, wanted: list[Any], tuned: Path | None
) -> dict[str, Any]:
    import pipeline.models  # noqa: F401  # once, for the processes to share
    from pipeline.exporters import EXPORTERS

    order = [target for target in EXPORTERS if target in wanted]
    made = each_forked(partial(_export_one, model_folder, images, folder, tuned), order, "export")
    rows = dict(zip(order, made, strict=True))
    return {target: rows[target] for target in wanted}


def _export_one(
    model_folder: Path, images: list[NDArray[np.uint8]], folder: Path, tuned: Path | None, target: str
) -> dict[str, Any]:
    from pipeline.exporters import EXPORTERS
    from pipeline.models import Deployed, load_model

    file, export = EXPORTERS[target]
    if tuned and target.endswith("_int8"):
        from pipeline import qat

        facts = qat.export(model_folder, tuned, target, images, folder / file)
    else:
        net, spec = load_model(model_folder)
        facts = export(Deployed(net, spec), images, folder / file, spec.outputs)
    return {"file": file, "size_bytes": (folder / file).stat().st_size, "sha256": sha256(folder / file), **facts}


def _write_golden(
    out: Path,
    model_folder: Path,
    train_folder: Path,
    samples: list[Sample],
    spec: "ModelSpec",
    targets: dict[str, Any],
) -> None:
    """A few pictures as lossless PNG, what the resize makes of them, what the trained net and each file of `targets`
    in `out` say to that, and the script that replays it all.
    """
    from pipeline.runtimes import open_runtime

    folder = out / "golden"
    folder.mkdir()
    inputs = np.stack([_canvas(train_folder, s, spec) for s in samples])

    def answers(target: str, path: Path, arrays: str, **more: NDArray[np.uint8]) -> None:
        found = open_runtime(target, path).run(inputs)
        np.savez(folder / arrays, allow_pickle=False, **more, **dict(zip(spec.outputs, found, strict=True)))

    answers("torch", model_folder, "golden.npz", image=inputs)
    for target, row in targets.items():
        answers(target, out / row["file"], f"{target}.npz")
    pictures = [f"{i}.png" for i in range(len(samples))]
    for sample, picture in zip(samples, pictures, strict=True):
        open_image(train_folder / sample.file_name).save(folder / picture)
    note = {
        "pictures": pictures,
        "arrays": "golden.npz",
        "image": "the model's input for each picture, uint8 [n, S, S, 3]: an app's resize should be within 2 of it",
        "outputs": "the trained float net's answer to it, by the names of model.json",
        "float_tolerance": FLOAT_TOLERANCE,
        "int8_tolerance": INT8_TOLERANCE,
        "answers": "of a file itself, in <target>.npz; the tolerances are shares of an output's range",
    }
    write_json(folder / "golden.json", note)
    shutil.copyfile(Path(bundle.__file__).parent / "replay.py", out / "replay.py")


def _canvas(folder: Path, sample: Sample, spec: "ModelSpec") -> NDArray[np.uint8]:
    # a copy: what comes from Pillow is read-only, which torch warns of
    return np.array(resize(open_image(folder / sample.file_name), spec.size, spec.resize)[0])


def _model_card(spec: "ModelSpec", facts: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| `{row['file']}` | {target} | {row['size_bytes'] / 1e6:.2f} MB | {row.get('settings', 'float32')} |"
        for target, row in facts["targets"].items()
    )
    used, asked = facts["calibration"]["used"], facts["calibration"]["asked"]
    hashes = "\n".join(f"- `{name}`: sha256 {digest}" for name, digest in facts["made_from"].items())
    described = {k: v for k, v in asdict(spec).items() if k in ("backbone", "head", "size", "resize", "predict")}
    return f"""# {spec.run}: {spec.task} on {spec.dataset}

Labels: {", ".join(spec.labels)}. Outputs: {", ".join(f"`{name}`" for name in spec.outputs)}.

| file | target | size | numbers |
|---|---|---|---|
{rows}

Every file takes uint8 RGB [1, {spec.size}, {spec.size}, 3] and has the normalization inside. `preprocess.json`
says how a picture becomes that; `golden/` has pictures, inputs and outputs to prove an app with, and `python replay.py`
proves this folder with them where only numpy, Pillow and a runtime are installed.

## Model

```json
{json.dumps(described, indent=1)}
```

Training:

```json
{json.dumps(spec.trained, indent=1)}
```

## Data

Trained on the train split of `{spec.dataset}`, measured on its test split. Int8 ranges come from {used} train pictures
({asked} were asked for).

## Metrics

Of the trained model: `reports/evaluate/{spec.run}/metrics.json`. Of these files, on the same pictures, with size and
latency: `reports/verify/{spec.run}/verify.json`.

## Licence

Not stated. The data's licence and that of any pretrained weights apply; fill this in before you publish the model.

## Made from

{hashes}
"""
