"""What our detector is measured against: SSDLite on the same backbone, and Ultralytics' nano by its own program.

Ultralytics is installed into `.yardsticks/`, an environment of its own, and called as a command: it is AGPL, and no
part of this project. Both get the images, the split, the side, the cores and the wall time that ours had.
"""

import csv
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

from pipeline.augment.policies import augmenter
from pipeline.config.params import DetectRun
from pipeline.core.image_file import open_image
from pipeline.core.sample import Dataset, Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.models.backbones import feature_maps, read_pretrained, thaw_last
from pipeline.models.blocks import separable
from pipeline.ops.preprocess import Frame, prepare
from pipeline.training import loading
from pipeline.training.devices import choose_precision, keep_freed_memory
from pipeline.training.loop import CLIP_NORM
from pipeline.training.optimization import WARM_UP
from pipeline.training.quick import join_frozen_norms, quicken

ULTRALYTICS = ("ultralytics==8.4.190", "opencv-python-headless", "onnx", "onnxslim")
WEIGHTS = "yolo11n"
FLOOR = 0.01  # least score of an object that counts for AP
COARSE = (96, 64, 64)  # channels of SSDLite's maps beyond the backbone's


@dataclass(slots=True)
class Peer:
    """What came of a peer: predictions for the test images, seconds and images per second of training, its size."""

    predicted: list[Sample]
    seconds: float
    rate: float
    params: int
    macs: int | None
    float_file: Path | None = None


class SsdLite(nn.Module):
    """torchvision's SSD with its SSDLite head on the backbone's maps at strides 16 and 32 and three coarser ones."""

    def __init__(self, spec: ModelSpec, pretrained: Any) -> None:
        super().__init__()
        body, widths = feature_maps(spec.backbone, pretrained, (16, 32))
        self.body = body
        self.extra = nn.ModuleList()
        for before, after in zip([widths[-1], *COARSE], COARSE, strict=False):
            self.extra.append(separable(before, after, 3, 2))
        self.out_channels = [*widths, *COARSE]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = list(self.body(images))
        for step in self.extra:
            maps.append(step(maps[-1]))
        return OrderedDict((str(i), m) for i, m in enumerate(maps))


def ssdlite(spec: ModelSpec, pretrained: Any) -> SSD:
    maps = SsdLite(spec, pretrained)
    anchors = DefaultBoxGenerator([[2, 3] for _ in maps.out_channels], min_ratio=0.2, max_ratio=0.95)
    kinds = len(spec.labels) + 1
    head = SSDLiteHead(maps.out_channels, anchors.num_anchors_per_location(), kinds, nn.BatchNorm2d)
    options: dict[str, Any] = {"score_thresh": FLOOR, "nms_thresh": spec.predict["nms_iou"], "detections_per_img": 100}
    side = (spec.size, spec.size)
    return SSD(maps, anchors, side, kinds, spec.mean, spec.std, head, **options)


def train_ssdlite(
    spec: ModelSpec, run: DetectRun, dataset: Dataset, train: tuple[Path, list[Sample]], seconds: float
) -> tuple[SSD, float, float]:
    """The net after `seconds`, the seconds that it took, and images per second; with the run's knobs that apply."""
    torch.manual_seed(run.train.seed)
    keep_freed_memory()
    net = ssdlite(spec, read_pretrained(run.model.backbone, run.model.pretrained)).to(memory_format=torch.channels_last)
    quicken(net)
    if isinstance(run.train.tuned_blocks, int):
        net.backbone.body.requires_grad_(False)
        thaw_last(run.model.backbone, net.backbone.body, run.train.tuned_blocks)
    if run.train.backbone_norm == "frozen":
        join_frozen_norms(net.backbone.body, torch.rand(1, 3, run.model.size, run.model.size))
    folder, samples = train
    pictures = loading.ImageDataset(folder, samples, spec, augmenter(run.train.online.policy, dataset))
    pictures.room = loading.KEEP_BYTES
    loader = loading.train_loader(pictures, run.train.batch_size, 1, run.train.seed, run.train.online.mosaic, 10**6)
    body = {id(p) for p in net.backbone.body.parameters()}
    learning = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if (id(p) in body) == own], "share": run.train.backbone_rate if own else 1.0}
        for own in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, run.train.learning_rate, weight_decay=run.train.weight_decay, fused=True)
    start, seen, half = time.perf_counter(), 0, choose_precision(run.train.precision) == "bf16-mixed"
    net.train()
    for images, target in _without_end(loader):
        share = (time.perf_counter() - start) / seconds
        if share >= 1:
            break
        warm = min(1.0, (share + 1e-3) / WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = run.train.learning_rate * group["share"] * warm * 0.5 * (1 + math.cos(math.pi * share))
        inputs = list(images.permute(0, 3, 1, 2).float() / 255)
        wanted = [
            {"boxes": target["box"][target["image"] == i], "labels": target["label"][target["image"] == i] + 1}
            for i in range(len(inputs))
        ]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses = net(inputs, wanted)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
        seen += len(inputs)
    taken = time.perf_counter() - start
    return net.eval(), taken, seen / taken


def predict_ssdlite(net: SSD, spec: ModelSpec, folder: Path, samples: list[Sample]) -> list[Sample]:
    predicted = []
    with torch.inference_mode():
        for sample in samples:
            canvas, frame = prepare(open_image(folder / sample.file_name), spec)
            (found,) = net([torch.from_numpy(canvas.copy()).permute(2, 0, 1).float() / 255])
            objects = [
                _object(spec, frame, label - 1, [v / spec.size for v in box], score)
                for box, label, score in zip(*(found[k].tolist() for k in ("boxes", "labels", "scores")), strict=True)
            ]
            predicted.append(replace(sample, objects=objects))
    return predicted


def _object(spec: ModelSpec, frame: Frame, label: int, corners: list[float], score: float) -> Object:
    x0, y0, x1, y1 = corners
    placed = frame.to_image(Object(spec.labels[label], (x0, y0, x1 - x0, y1 - y0), score=score))
    x, y, w, h = placed.box
    left, top = max(x, 0.0), max(y, 0.0)
    return replace(placed, box=(left, top, max(0.0, min(x + w, 1) - left), max(0.0, min(y + h, 1) - top)))


def _without_end(loader: Any) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    epoch = 0
    while True:
        loader.batch_sampler.begin(epoch)
        for images, target, _ in loader:
            yield images, target
        epoch += 1


class Ultralytics:
    """Its command, in an environment of its own under `root`; `scratch` takes what it writes."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.scratch = scratch
        self._bin = root / "ultralytics" / "bin"
        # its settings, and its log-ins, where nobody else's are
        self._environment = os.environ | {"YOLO_CONFIG_DIR": str(scratch), "YOLO_OFFLINE": "true"}
        if not (self._bin / "yolo").exists():
            self._install(root / "ultralytics")

    def _install(self, folder: Path) -> None:
        uv = Path(sys.executable).with_name("uv")
        override = self.scratch / "overrides.txt"
        override.write_text('opencv-python ; sys_platform == "never"\n')
        same = [f"{name}=={_version(name)}" for name in ("torch", "torchvision")]
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        what = [*ULTRALYTICS, *same]
        python = folder / "bin" / "python"
        subprocess.run([uv, "pip", "install", "-q", "--python", python, "--override", override, *what], check=True)

    def _yolo(self, *words: str) -> str:
        done = subprocess.run(
            [self._bin / "yolo", "detect", *words], cwd=self.scratch, env=self._environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        if done.returncode:
            raise RuntimeError(f"yolo {' '.join(words)}: {said[-3000:]}")
        return said

    def run(self, data: Path, labels: list[str], truth: list[Sample], size: int, seed: int, seconds: float) -> Peer:
        """Train the nano net from scratch for `seconds` on `data` (see `write_yolo`), and predict its test images."""
        out = self.scratch / f"run{seed}"
        said = self._yolo(
            "train", f"model={WEIGHTS}.yaml", f"data={data / 'data.yaml'}", f"imgsz={size}", "batch=16", "device=cpu",
            f"time={seconds / 3600}", f"seed={seed}", "workers=1", "amp=False", "plots=False", "val=False",
            f"project={self.scratch}", f"name={out.name}", "exist_ok=True",
        )  # fmt: skip
        rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
        taken = float(rows[-1]["time"])
        params = re.search(r"([\d,]+) parameters", said)
        flops = re.search(r"([\d.]+) GFLOPs", said)
        best = out / "weights" / "last.pt"
        self._yolo(
            "predict", f"model={best}", f"source={data / 'images' / 'test'}", f"imgsz={size}", f"conf={FLOOR}",
            "iou=0.6", "max_det=100", "save=False", "save_txt=True", "save_conf=True", "device=cpu",
            f"project={self.scratch}", f"name=predict{seed}", "exist_ok=True",
        )  # fmt: skip
        self._yolo("export", f"model={best}", "format=onnx", f"imgsz={size}", "device=cpu")
        predicted = [
            replace(s, objects=_yolo_objects(self.scratch / f"predict{seed}" / "labels" / f"{i:06}.txt", labels))
            for i, s in enumerate(truth)
        ]
        images = len(list((data / "images" / "train").iterdir()))
        return Peer(
            predicted,
            taken,
            images * len(rows) / taken,
            int(params.group(1).replace(",", "")) if params else 0,
            # it counts two operations per multiply-add, at 640 pixels
            round(float(flops.group(1)) * 1e9 / 2 * (size / 640) ** 2) if flops else None,
            best.with_suffix(".onnx"),
        )


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _yolo_objects(path: Path, labels: list[str]) -> list[Object]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        label, x, y, w, h, score = (float(v) for v in line.split())
        left, top = max(x - w / 2, 0.0), max(y - h / 2, 0.0)
        box = (left, top, min(x + w / 2, 1.0) - left, min(y + h / 2, 1.0) - top)
        found.append(Object(labels[int(label)], box, score=score))
    return sorted(found, key=lambda o: -(o.score or 0))


def write_yolo(folder: Path, dataset: Dataset, splits: dict[str, tuple[Path, list[Sample]]]) -> None:
    """The images and boxes as Ultralytics wants them: images/<split>/, labels/<split>/, data.yaml."""
    for split, (source, samples) in splits.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i, s in enumerate(samples):
            picture = source / s.file_name
            shutil.copy(picture, folder / "images" / split / f"{i:06}{picture.suffix}")
            rows = [
                f"{dataset.labels.index(o.label)} {x + w / 2:.6f} {y + h / 2:.6f} {w:.6f} {h:.6f}"
                for o in s.objects
                if not o.crowd
                for x, y, w, h in (o.box,)
            ]
            (folder / "labels" / split / f"{i:06}.txt").write_text("\n".join(rows))
    names = "\n".join(f"  {i}: {label}" for i, label in enumerate(dataset.labels))
    (folder / "data.yaml").write_text(
        f"path: {folder}\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n{names}\n"
    )
