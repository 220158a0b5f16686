"""python -m stages.augment <dataset>: the ingested train split -> data/augmented/, reports/augment/<dataset>/."""

from pathlib import Path

from pipeline.config.params import Params
from stages import run


def main(params: Params, name: str) -> str:
    block = params.dataset(name).augment
    from pipeline.augment.offline import augment_dataset

    out = Path("data/augmented") / name
    made = augment_dataset(Path("data/ingested") / name, out, Path("reports/augment") / name, block)
    stayed = f" ({made['stayed']} unmoved)" if made["stayed"] else ""
    return f"{out}: {made['originals']} images and {made['copies']} copies{stayed} by policy {block.policy}"


if __name__ == "__main__":
    run(main)
