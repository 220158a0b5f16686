"""How much memory a whole training takes at its highest, in a process of its own.

    python -m benchmarks.training_memory [--backbone NAME] [--size PIXELS] [--batch N] [--images N] [--precision P]
                                         [--workers N]

A classifier learns with all of its blocks, for two epochs, from JPEG files of noise. Prints what training.json says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timm_training import LABELS, photos
from pipeline.core.sample import Dataset, write_dataset, write_samples
from pipeline.training.params import ClassifyModel, ClassifyRun, ClassifyTrain

CHILD = "--in-folder"


def train(asked: argparse.Namespace) -> None:
    from pipeline.training.train import train_run

    root = Path(asked.in_folder)
    run = ClassifyRun(
        dataset="d",
        task="classify",
        model=ClassifyModel(backbone=asked.backbone, size=asked.size),
        train=ClassifyTrain(epochs=2, batch_size=asked.batch, precision=asked.precision),
    )
    train_run(
        "r", run, root / "train", root / "val", root / "model", root / "report", root / "resume", root / "features",
        asked.workers,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument(CHILD, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.in_folder:
        train(asked)
        return
    if asked.images < len(LABELS):
        parser.error(f"--images {asked.images}: expected {len(LABELS)} at least, one of each label")
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", asked.images), ("val", asked.images // 4)):
            samples = photos(Path(folder) / split, count, 320)
            write_samples(Path(folder) / split, samples)
            write_dataset(Path(folder) / split, Dataset("d", LABELS))
        command = [sys.executable, "-m", "benchmarks.training_memory", *sys.argv[1:], CHILD, folder]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{done.stderr}\nerror: the training ended with {done.returncode}")
        taken = json.loads((Path(folder) / "report/training.json").read_text(encoding="utf-8"))
    own, loading = (_megabytes(taken[key]) for key in ("peak_memory_bytes", "loaders_peak_memory_bytes"))
    print(f"{asked.backbone} at {asked.size}, batch {asked.batch}, {taken['precision']}, {asked.workers} loaders")
    print(f"  {own}, {loading} of those that load; {taken['images_per_second']} images/s")


def _megabytes(value: int | None) -> str:
    return "memory that the system does not tell" if value is None else f"{value / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
