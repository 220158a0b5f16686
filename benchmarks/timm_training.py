"""An epoch of training from JPEG files: timm's training script against `pipeline.training.loop`.

    python -m benchmarks.timm_training [--backbone NAME] [--size PIXELS] [--batch N] [--images N] [--repeats N]

timm's script is not in its package; the peer here is what the script does, by timm's own parts: its data set, loader
with its default augmentation and prefetching, optimizer, loss, and its loop over them, with --amp bfloat16 and
--channels-last and without. Ours is the whole of an epoch: augmentation, average of the weights and all. Repetitions
are interleaved, a first one is not counted, and the medians are printed.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2

from pipeline.augment.policies import augmenter
from pipeline.core.sample import Dataset, Sample
from pipeline.models.nets import build
from pipeline.training import loading
from pipeline.training.devices import launch, together
from pipeline.training.loop import fit
from pipeline.training.optimization import Phase
from pipeline.training.params import ClassifyModel, ClassifyOnline, ClassifyRun, ClassifyTrain
from pipeline.training.progress import SoFar
from pipeline.training.train import make_spec

LABELS = ["a", "b", "c", "d"]
CPU = torch.device("cpu")


def photos(folder: Path, count: int, side: int) -> list[Sample]:
    """JPEG files of smooth noise in class folders, `side` pixels high and a third wider."""
    draw, samples = np.random.default_rng(0), []
    for i in range(count):
        coarse = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        name = f"{LABELS[i % len(LABELS)]}/{i}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((side * 4 // 3, side), Image.Resampling.BICUBIC).save(folder / name)
        samples.append(Sample(str(i), name, side * 4 // 3, side, label=name[0]))
    return samples


def timms(folder: Path, asked: argparse.Namespace, half: bool) -> Callable[[], None]:
    net = timm.create_model(asked.backbone, num_classes=len(LABELS)).train()
    if half:
        net = net.to(memory_format=torch.channels_last)
    data = create_dataset("", root=str(folder), split="", is_training=True)
    side = (3, asked.size, asked.size)
    loader = create_loader(data, side, asked.batch, is_training=True, num_workers=1, device=CPU)
    optimizer = create_optimizer_v2(net, opt="sgd", lr=0.05, momentum=0.9, weight_decay=2e-5)
    loss_of = torch.nn.CrossEntropyLoss()

    def epoch() -> None:
        for images, labels in loader:
            inputs = images.contiguous(memory_format=torch.channels_last) if half else images
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = loss_of(net(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def ours(folder: Path, samples: list[Sample], asked: argparse.Namespace, scratch: Path) -> Callable[[], None]:
    run = ClassifyRun(
        dataset="d",
        task="classify",
        model=ClassifyModel(backbone=asked.backbone, size=asked.size, pretrained=False),
        train=ClassifyTrain(epochs=1, batch_size=asked.batch, online=ClassifyOnline(policy="photo_geometry")),
    )
    dataset = Dataset("d", LABELS)
    spec = make_spec("r", run, dataset, [0.5] * 3, [0.5] * 3)
    net = build(spec)
    spec.outputs = list(net.outputs)
    varied = loading.ImageDataset(folder, samples, spec, augmenter(run.train.online.policy, dataset))
    varied.room = loading.KEEP_BYTES
    loaders = loading.Loaders(
        loading.train_loader(varied, run.train.batch_size, 1, run.train.seed),
        loading.eval_loader(loading.ImageDataset(folder, samples[:1], spec), run.train.batch_size),
    )

    fabric = launch(run.train.precision)

    def epoch() -> None:
        scratch_folder = tempfile.TemporaryDirectory(dir=scratch)
        with scratch_folder as resume, contextlib.redirect_stdout(io.StringIO()), together(fabric):
            fit(fabric, net, spec, run, dataset, Phase(False, 1, 0.001), loaders, Path(resume), SoFar())

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        samples = photos(scratch / "photos", asked.images, 320)
        epochs = {
            "timm": timms(scratch / "photos", asked, half=False),
            "timm --amp --channels-last": timms(scratch / "photos", asked, half=True),
            "ours, precision auto": ours(scratch / "photos", samples, asked, scratch),
        }
        seconds: dict[str, list[float]] = {name: [] for name in epochs}
        for repeat in range(asked.repeats + 1):
            for name, epoch in epochs.items():
                start = time.perf_counter()
                epoch()
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
    speed = {name: asked.images / statistics.median(times) for name, times in seconds.items()}
    print(f"{asked.backbone} at {asked.size}, batch {asked.batch}, {asked.images} JPEG files, {asked.repeats} repeats")
    for name, value in speed.items():
        print(f"  {name:28} {value:6.1f} images/s  {value / speed['timm']:.2f} x timm")


if __name__ == "__main__":
    main()
