"""python -m stages.augment DATASET: the ingested train split -> data/augmented/DATASET/, reports/augment/DATASET/."""

from pathlib import Path

from pipeline.augment.params import AugmentParams
from pipeline.core.resolved import Resolved
from stages import run


def main(name: str) -> str:
    params = Resolved().block(AugmentParams, "datasets", name, "augment")
    from pipeline.augment.offline import augment_dataset

    out = Path("data/augmented") / name
    made = augment_dataset(Path("data/ingested") / name, out, Path("reports/augment") / name, params)
    stayed = f" ({made['stayed']} unmoved)" if made["stayed"] else ""
    return f"{out}: {made['originals']} images and {made['copies']} copies{stayed} by policy {params.policy}"


if __name__ == "__main__":
    run(main)
