"""A small run, trained and exported to every target: what the tests of export, runtimes and verify look at."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from shared import exported_here, made_once

from pipeline.core.files import read_json, sha256, write_json
from pipeline.core.room import size_bytes
from pipeline.core.sample import Dataset, Sample, read_samples, write_dataset, write_samples
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.evaluation.evaluate import write_report
from pipeline.export.export import export_run
from pipeline.export.params import ExportParams, Ptq
from pipeline.models.nets import Deployed, build
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.targets import open_runtime
from pipeline.training.loading import ImageDataset
from pipeline.verification.params import VerifyParams

SMALL = "mobilenetv1_050_shallow"  # few layers, so that an export takes seconds
SIDE = 64
LABELS = ["circle", "cross", "square"]
COUNTS = {"train": 96, "val": 12, "test": 48}
TARGETS = ["onnx_float", "onnx_int8", "executorch_float", "executorch_int8"]
QUANTIZE = Ptq()
PARAMS = ExportParams(targets=TARGETS, calibration_images=24)
VERIFY = VerifyParams(tolerance=0.1, size_ratio=0.35)


def shipped(factory: pytest.TempPathFactory) -> Path:
    """data/, models/shapes, evaluated/ and exports/ in one folder, made once for all workers."""
    return made_once(factory, "shipped", _ship)


def _ship(root: Path) -> None:
    draw_shapes(root / "data")
    train_shapes(root / "models" / "shapes", root / "data" / "train", spec_of("classify"))
    evaluate_shapes(root / "models" / "shapes", root / "data" / "test", root / "evaluated")
    with exported_here():
        export_run(root / "models" / "shapes", root / "data" / "train", root / "exports", PARAMS)


def relist(exports: Path, target: str) -> None:
    """Have export.json list the file of `target` as it is now: what a test spoils is found by what it answers."""
    facts = read_json(exports / "export.json")
    path = exports / facts["targets"][target]["file"]
    facts["targets"][target] |= {"sha256": sha256(path), "size_bytes": size_bytes(path)}
    write_json(exports / "export.json", facts)


def spec_of(task: str, size: int = SIDE, backbone: str = SMALL) -> ModelSpec:
    head = {
        "classify": {"kind": "pool", "dropout": 0.1},
        "localize": {"channels": 16, "dropout": 0.1},
        "detect": {"kind": "anchor_free", "strides": [8, 16, 32], "neck": 16, "channels": 16},
    }
    spec = ModelSpec(
        run="shapes",
        dataset="shapes",
        task=task,
        labels=LABELS,
        landmarks=[] if task == "classify" else ["top", "left"],
        pairs=[],
        skeleton=[],
        backbone=backbone,
        head=head[task],
        size=size,
        resize="stretch",
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        predict={"score": 0.3, "nms": "hard", "nms_iou": 0.6, "max_objects": 10},
    )
    torch.manual_seed(0)
    net = build(spec)
    spec.outputs, spec.strides, spec.boxes = list(net.outputs), list(net.strides), net.boxes
    return spec


def draw_shapes(folder: Path) -> None:
    rng = np.random.default_rng(5)
    write_dataset(folder, Dataset("shapes", LABELS))
    for split, count in COUNTS.items():
        (folder / split).mkdir(parents=True)
        samples = []
        for i in range(count):
            label = LABELS[i % 3]
            _shape(rng, label).save(folder / split / f"{i:03}.png")
            samples.append(Sample(f"{split}-{i:03}", f"{i:03}.png", SIDE, SIDE, split=split, label=label))
        write_samples(folder / split, samples)


def _shape(rng: np.random.Generator, label: str) -> Image.Image:
    image = Image.fromarray(rng.integers(90, 166, (SIDE, SIDE, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    x, y, r = (int(v) for v in rng.integers((22, 22, 12), (42, 42, 20)))
    tint = rng.integers(0, 90, 3)
    tint[LABELS.index(label)] += 150
    colour = tuple(int(v) for v in tint)
    if label == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif label == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    else:
        pen.line((x - r, y - r, x + r, y + r), fill=colour, width=9)
        pen.line((x - r, y + r, x + r, y - r), fill=colour, width=9)
    return image


def train_shapes(folder: Path, data: Path, spec: ModelSpec) -> None:
    """A few seconds of training: int8 is close to float only where the net has learnt to be sure."""
    torch.set_num_threads(1)  # two threads that wait for each other on a busy machine take minutes
    torch.manual_seed(0)
    net = Deployed(build(spec), spec)
    samples = read_samples(data)
    pictures = ImageDataset(data, samples, spec)
    images = torch.from_numpy(np.stack([pictures[i][0] for i in range(len(samples))]))
    labels = torch.tensor([LABELS.index(str(s.label)) for s in samples])
    steps = 60
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    net.train()
    for step in range(steps):
        batch = torch.randperm(len(samples), generator=torch.Generator().manual_seed(step))[:32]
        flipped = images[batch].flip([1] if step % 2 else [2])
        loss = torch.nn.functional.cross_entropy(net(flipped)[0], labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    folder.mkdir(parents=True)
    save_file(net.net.state_dict(), folder / "model.safetensors")
    write_spec(folder / "model.json", spec)


def evaluate_shapes(model: Path, test: Path, report: Path) -> None:
    spec, truth = spec_of("classify"), read_samples(test)
    predicted = predict_samples(open_runtime("torch", model), spec, test, truth)
    report.mkdir()
    write_report(report, spec, test, truth, predicted)
