"""A detection run against SSDLite on its backbone and Ultralytics' nano: `make compare-detectors RUN=herd`.

    python -m benchmarks.detectors RUN [--seconds N] [--seeds N] [--peer-seeds N] [--without ssdlite,ultralytics]

All learn from the run's train split and are judged on its test split by our AP (which is pycocotools'), at its side,
on the same threads. Ours trains its epochs, or as many as fit into --seconds; the others get the time that it took.
`scratch` is ours from random weights, as Ultralytics' is here (its weights cannot be had without a download). Latency:
an image on the canvas through the float or int8 file, two threads, each in a row, in several rounds.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import torch

from benchmarks.timing import milliseconds
from benchmarks.yardsticks import Peer, Ultralytics, predict_ssdlite, train_ssdlite, write_yolo
from pipeline.config.params import DetectRun, changed, read_params
from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image
from pipeline.core.sample import Dataset, Sample, read_dataset, read_samples
from pipeline.core.spec import read_spec
from pipeline.graph.cost import cost
from pipeline.metrics.metrics import judged, score
from pipeline.models.backbones import read_pretrained
from pipeline.models.nets import Deployed, load_model
from pipeline.ops.preprocess import prepare
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.runtime import Runtime
from pipeline.runtimes.targets import TARGETS, open_runtime
from pipeline.training.optimization import VALIDATIONS
from pipeline.training.train import make_spec, train_run

THREADS = 2
CALIBRATION = 64


@dataclass(slots=True)
class Row:
    name: str
    ap: list[float]
    ap50: list[float]
    seconds: list[float]
    rate: list[float]
    params: int
    macs: int | None
    int8_bytes: int | None = None
    int8_ap: float | None = None
    ms: float | None = None
    run: Callable[[], Any] | None = None


class Data:
    """The three splits of a run's dataset, the train split as training sees it."""

    def __init__(self, run: DetectRun) -> None:
        whole = Path("data/ingested") / run.dataset
        self.folders = {"train": Path("data/augmented") / run.dataset, "val": whole / "val", "test": whole / "test"}
        for folder in self.folders.values():
            if not folder.exists():
                raise InputError(f"{folder}: not there; dvc repro augment@{run.dataset}")
        self.samples = {name: read_samples(folder) for name, folder in self.folders.items()}
        self.dataset: Dataset = read_dataset(whole)

    def judged(self, predicted: list[Sample]) -> tuple[float, float]:
        figures = score("detect", self.samples["test"], predicted, self.dataset)
        return figures["AP"], figures["AP50"]


def train_ours(name: str, run: DetectRun, data: Data, folder: Path) -> tuple[float, float, list[Sample]]:
    """Seconds and images per second of training, and what the kept weights say of the test images."""
    with contextlib.redirect_stdout(io.StringIO()):
        train_run(
            name, run, data.folders["train"], data.folders["val"], folder / "model", folder / "report",
            folder / "resume", folder / "features",
        )  # fmt: skip
    facts = json.loads((folder / "report" / "training.json").read_text())
    runtime = open_runtime("torch", folder / "model", THREADS)
    spec = read_spec(folder / "model" / "model.json")
    spec = judged(replace(spec, predict=run.predict.model_dump()))
    predicted = predict_samples(runtime, spec, data.folders["test"], data.samples["test"])
    return facts["seconds"], facts["images_per_second"] or 0.0, predicted


def with_knobs(run: DetectRun, **knobs: Any) -> DetectRun:
    """The run with other knobs of `train`; a level below is after two underscores."""
    settings = {f"train.{name.replace('__', '.')}": value for name, value in knobs.items()}
    return cast(DetectRun, changed(run, settings, "benchmark"))


def with_epochs(run: DetectRun, epochs: int) -> DetectRun:
    quiet = min(run.train.online.quiet_epochs, epochs // 3)
    return with_knobs(run, epochs=epochs, patience=epochs, online__quiet_epochs=quiet)


def ours(name: str, run: DetectRun, data: Data, scratch: Path, seeds: int, seconds: float | None) -> Row:
    """A row of our run; with `seconds`, of as many epochs as fit, which a short training tells."""
    if seconds is not None:
        pilot, _, _ = train_ours(name, with_epochs(run, 2), data, scratch / f"{name}-pilot2")
        longer, _, _ = train_ours(name, with_epochs(run, 4), data, scratch / f"{name}-pilot4")
        epoch = (longer - pilot) / 2
        epochs = max(1, int((seconds - pilot) / epoch) + 2)
        run = with_epochs(run, epochs - epochs % max(1, epochs // VALIDATIONS))  # else each epoch would be validated
    row = Row(name, [], [], [], [], 0, None)
    for seed in range(seeds):
        own = with_knobs(run, seed=seed)
        taken, rate, predicted = train_ours(name, own, data, scratch / f"{name}{seed}")
        _add(row, data, predicted, taken, rate)
    folder = scratch / f"{name}0" / "model"
    net, spec = load_model(folder)
    spec = judged(replace(spec, predict=run.predict.model_dump()))
    counted = cost(net, (3, spec.size, spec.size))
    row.params, row.macs = counted.params, counted.macs
    pictures = [prepare(open_image(data.folders["train"] / s.file_name), spec)[0][None]
                for s in data.samples["train"][:CALIBRATION]]  # fmt: skip
    runtimes: dict[str, Runtime] = {}
    for target in ("onnx_int8", "executorch_int8"):
        file, export = TARGETS[target].file, TARGETS[target].export
        export(Deployed(net, spec), pictures, folder / file, spec.outputs)
        runtimes[target] = open_runtime(target, folder / file, THREADS)
    best = min(runtimes, key=lambda t: milliseconds({t: lambda: runtimes[t].run(pictures[0])})[t])
    row.run = lambda: runtimes[best].run(pictures[0])
    row.int8_bytes = (folder / TARGETS[best].file).stat().st_size
    row.int8_ap, _ = data.judged(predict_samples(runtimes[best], spec, data.folders["test"], data.samples["test"]))
    return row


def _add(row: Row, data: Data, predicted: list[Sample], seconds: float, rate: float) -> None:
    ap, ap50 = data.judged(predicted)
    print(f"{row.name}: AP {ap:.3f}, AP50 {ap50:.3f}, {seconds:.0f} s", file=sys.stderr, flush=True)
    for values, value in ((row.ap, ap), (row.ap50, ap50), (row.seconds, seconds), (row.rate, rate)):
        values.append(value)


def ssdlite_row(run: DetectRun, data: Data, seeds: int, seconds: float) -> Row:
    pretrained = read_pretrained(run.model.backbone, run.model.pretrained)
    spec = make_spec("ssdlite", run, data.dataset, pretrained.mean, pretrained.std)
    spec = replace(spec, predict=run.predict.model_dump())
    row = Row("SSDLite, same backbone", [], [], [], [], 0, None)
    for seed in range(seeds):
        own = with_knobs(run, seed=seed)
        train = data.folders["train"], data.samples["train"]
        net, taken, rate = train_ssdlite(spec, own, data.dataset, train, seconds)
        _add(row, data, predict_ssdlite(net, spec, data.folders["test"], data.samples["test"]), taken, rate)
    row.params = sum(p.numel() for p in net.parameters())
    return row


def ultralytics_row(run: DetectRun, data: Data, scratch: Path, seeds: int, seconds: float) -> Row:
    program = Ultralytics(Path(".yardsticks").resolve(), scratch)
    exported = scratch / "yolo"
    write_yolo(exported, data.dataset, {s: (data.folders[s], data.samples[s]) for s in data.folders})
    row = Row("Ultralytics YOLO11n, scratch", [], [], [], [], 0, None)
    for seed in range(seeds):
        peer: Peer = program.run(exported, data.dataset.labels, data.samples["test"], run.model.size, seed, seconds)
        _add(row, data, peer.predicted, peer.seconds, peer.rate)
        row.params, row.macs = peer.params, peer.macs
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(peer.float_file, options, providers=["CPUExecutionProvider"])
    picture = np.zeros((1, 3, run.model.size, run.model.size), np.float32)
    row.run = lambda: session.run(None, {session.get_inputs()[0].name: picture})
    return row


def table(rows: list[Row]) -> str:
    lines = [
        f"{'net':30} {'AP':>6} {'AP50':>6} {'in int8':>7} {'M params':>8} {'M macs':>7} {'int8 MB':>7} {'ms':>6} "
        f"{'images/s':>8} {'train s':>7}"
    ]
    for r in rows:
        cells = [
            f"{statistics.median(r.ap):6.3f}", f"{statistics.median(r.ap50):6.3f}", _cell(r.int8_ap, 7, 3),
            f"{r.params / 1e6:8.2f}", _cell(r.macs and r.macs / 1e6, 7, 0),
            _cell(r.int8_bytes and r.int8_bytes / 1e6, 7, 2), _cell(r.ms, 6, 1),
            f"{statistics.median(r.rate):8.1f}", f"{statistics.median(r.seconds):7.0f}",
        ]  # fmt: skip
        lines.append(f"{r.name:30} " + " ".join(cells))
    return "\n".join(lines)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, help="of scratch, SSDLite and Ultralytics; --seeds unless given")
    parser.add_argument("--without", default="", help="ssdlite, ultralytics, scratch; with commas between")
    asked = parser.parse_args()
    run = read_params().run(asked.run)
    if not isinstance(run, DetectRun):
        raise InputError(f"runs.{asked.run} is to {run.task}; expected detect")
    torch.set_num_threads(THREADS)
    data, left_out, rows = Data(run), asked.without.split(","), []
    others = asked.peer_seeds or asked.seeds
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        rows.append(ours(asked.run, run, data, scratch, asked.seeds, asked.seconds))
        taken = statistics.median(rows[0].seconds)
        if "scratch" not in left_out and run.model.pretrained is not False:
            start = {"backbone_norm": "batch", "tuned_blocks": "all", "frozen_epochs": 0, "backbone_rate": 1.0}
            blank = cast(DetectRun, changed(with_knobs(run, **start), {"model.pretrained": False}, "benchmark"))
            rows.append(ours(f"{asked.run}, scratch", blank, data, scratch, others, taken))
        if "ssdlite" not in left_out:
            rows.append(ssdlite_row(run, data, others, taken))
        if "ultralytics" not in left_out:
            rows.append(ultralytics_row(run, data, scratch, others, taken))
        calls = {r.name: r.run for r in rows if r.run is not None}
        for row_name, value in milliseconds(calls).items():
            next(r for r in rows if r.name == row_name).ms = value
    counts = ", ".join(f"{len(samples)} {split}" for split, samples in data.samples.items())
    print(
        f"{asked.run}: {run.model.backbone} at {run.model.size}, {counts}; {asked.seeds} seeds "
        f"({others} of the others), medians; {THREADS} threads"
    )
    print(table(rows))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
