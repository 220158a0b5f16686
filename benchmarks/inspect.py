"""What it takes to bring a dataset of N images with two boxes each into FiftyOne: seconds, and megabytes in MongoDB.

python -m benchmarks.inspect [--sizes 2000,5000,20000] [--map]

With --map also the map, likeness and uniqueness, of vectors of 1280 random numbers in place of a backbone's.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.files import write_text
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, write_dataset, write_samples
from pipeline.inspection.database import close, connect
from pipeline.inspection.dataset_view import DatasetFiles, name_of_dataset, open_dataset

CHANNELS = 1280  # of MobileNetV2's last map


def draw(root: Path, count: int) -> DatasetFiles:
    """A dataset of `count` small images, three quarters of them for training."""
    random = np.random.default_rng(count)
    ingested = root / "data"
    for split, share in zip(SPLITS, (0.75, 0.1, 0.15), strict=True):
        (ingested / split).mkdir(parents=True)
        samples = []
        for i in range(round(count * share)):
            name = f"{split}-{i}"
            Image.new("RGB", (32, 24), tuple(random.integers(0, 255, 3).tolist())).save(
                ingested / split / f"{name}.jpg"
            )
            boxes = [tuple(random.uniform(0, 0.5, 4).tolist()) for _ in range(2)]
            samples.append(Sample(name, f"{name}.jpg", 32, 24, split, objects=[Object("cow", box) for box in boxes]))
        write_samples(ingested / split, samples)
    write_dataset(ingested, Dataset("many", ["cow"]))
    write_text(root / "ledger.csv", "file,key,rule,found,done\n")
    return DatasetFiles("many", ingested, root / "ledger.csv", root / "mistakes.csv", root / "labels")


def vectors(samples: list[Sample]) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(len(samples), CHANNELS)).astype(np.float32)


def measure(files: DatasetFiles, database: Path) -> tuple[float, float]:
    """Seconds, and megabytes of data in MongoDB, with what FiftyOne keeps of vectors."""
    fo = connect(database)
    before = megabytes()
    start = perf_counter()
    open_dataset(files, database)
    seconds = perf_counter() - start
    found = seconds, megabytes() - before
    fo.delete_dataset(name_of_dataset(files.name))
    return found


def megabytes() -> float:
    from fiftyone.core.odm import get_db_conn

    return float(get_db_conn().command("dbstats")["dataSize"]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="2000,5000,20000")
    parser.add_argument("--map", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database"
        connect(database)
        try:
            for count in map(int, args.sizes.split(",")):
                files = draw(Path(folder) / str(count), count)
                seconds, size = measure(replace(files, vectors=vectors) if args.map else files, database)
                print(f"{count} images: {seconds:.1f} s, {1000 * seconds / count:.2f} ms an image, {size:.1f} MB")
        finally:
            close()


if __name__ == "__main__":
    main()
