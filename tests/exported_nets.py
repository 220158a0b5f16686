"""Nets with boxes, random but for their batch norms, and a file of each for a target, made once for all tests."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heads import DETECTORS, head_of
from PIL import Image
from safetensors.torch import save_file
from shared import exported_here, made_once
from shipped import LABELS, shipped, spec_of

from pipeline.core.files import read_json, write_json
from pipeline.core.sample import Dataset, read_samples, write_dataset, write_samples
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.evaluation.evaluate import write_report
from pipeline.export.export import export_run
from pipeline.export.params import ExportParams
from pipeline.models.localizer import Localizer
from pipeline.models.nets import Deployed, build
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.targets import TARGETS, open_runtime

NETS = ("localize", *DETECTORS)
CALIBRATION = 8  # images


def images_of_test(factory: pytest.TempPathFactory) -> np.ndarray:
    """uint8 [48, S, S, 3]: the test split that comes with `shipped`."""
    test = shipped(factory) / "data" / "test"
    return np.stack([np.asarray(Image.open(test / s.file_name)) for s in read_samples(test)])


def net_of(name: str, images: np.ndarray) -> tuple[Deployed, ModelSpec]:
    """One of `NETS`, and its spec. The localizer's keypoints lie at fixed places in its box."""
    spec = spec_of("localize" if name == "localize" else "detect")
    if name not in ("localize", "anchor_free"):
        spec.head = head_of(name)
    made = build(spec)
    spec.outputs = list(made.outputs)
    if name != "localize":
        spec.strides, spec.boxes = list(made.strides), made.boxes
    net = warmed(spec, images)
    if isinstance(net.net, Localizer):
        assert net.net.landmarks is not None
        torch.nn.init.zeros_(net.net.landmarks.weight)
        torch.nn.init.zeros_(net.net.landmarks.bias)
        net.net.shape.copy_(torch.tensor([[0.123, 0.456], [0.789, 0.321]]))
    return net, spec


def warmed(spec: ModelSpec, images: np.ndarray) -> Deployed:
    """A net with random weights whose batch norms have seen images, so that folding them matters."""
    torch.manual_seed(0)
    net = Deployed(build(spec), spec)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, torch.nn.Linear):  # some begin at zero
            torch.nn.init.normal_(module.weight, std=0.05)
    net.train()
    with torch.no_grad():
        net(torch.from_numpy(images[:32]))
    return net.eval()


def shipped_localizer(factory: pytest.TempPathFactory) -> Path:
    """Like `shipped`, of a localizer with landmarks whose own answers are the truth: it makes no mistake."""

    def ship(root: Path) -> None:
        images, model = images_of_test(factory), root / "models" / "shapes"
        spec = spec_of("localize")
        net = warmed(spec, images)
        assert isinstance(net.net, Localizer)
        torch.nn.init.constant_(net.net.presence.bias, 6.0)
        model.mkdir(parents=True)
        save_file(net.net.state_dict(), model / "model.safetensors")
        spec.outputs = list(net.net.outputs)
        write_spec(model / "model.json", spec)
        shutil.copytree(shipped(factory) / "data", root / "data")
        write_dataset(root / "data", Dataset("shapes", LABELS, spec.landmarks))
        runtime, test = open_runtime("torch", model), root / "data" / "test"
        for split in ("train", "test"):
            folder = root / "data" / split
            said = predict_samples(runtime, spec, folder, read_samples(folder))
            objects = [[replace(o, score=None) for o in sample.objects] for sample in said]
            truth = [replace(s, label=None, scores=None, objects=o) for s, o in zip(said, objects, strict=True)]
            write_samples(folder, truth)
        (root / "evaluated").mkdir()
        write_report(root / "evaluated", spec, test, read_samples(test), said)
        params = ExportParams(targets=["onnx_float", "onnx_int8"], calibration_images=24)
        with exported_here():
            export_run(model, root / "data" / "train", root / "exports", params)

    return made_once(factory, "shipped-localizer", ship)


def exported_net(factory: pytest.TempPathFactory, name: str, target: str) -> tuple[Path, dict[str, Any]]:
    """The file for `target` of one of `NETS`, and what its exporter says of it."""

    def export(folder: Path) -> None:
        images = images_of_test(factory)
        net, spec = net_of(name, images)
        folder.mkdir()
        row = TARGETS[target]
        facts = row.export(net, [image[None] for image in images[:CALIBRATION]], folder / row.file, spec.outputs)
        write_json(folder / "facts.json", facts)

    folder = made_once(factory, f"{name}-{target}", export)
    return folder / TARGETS[target].file, read_json(folder / "facts.json")
