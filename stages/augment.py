"""python -m stages.augment DATASET: the ingested train split -> data/augmented/DATASET/, reports/augment/DATASET/."""

from pathlib import Path

from pipeline.augment.params import AugmentParams
from pipeline.core.machine import MachineParams
from pipeline.core.parallel import over
from pipeline.core.resolved import Resolved
from stages import run


def main(name: str) -> str:
    resolved = Resolved()
    params = resolved.block(AugmentParams, "datasets", name, "augment")
    machine = resolved.block(MachineParams, "machine", default=MachineParams())
    from pipeline.augment.offline import augment_dataset

    out = Path("data/augmented") / name
    with over(machine.parallel):
        made = augment_dataset(Path("data/ingested") / name, out, Path("reports/augment") / name, params)
    stayed = f" ({made['stayed']} unmoved)" if made["stayed"] else ""
    policy = params.policy if isinstance(params.policy, str) else "of params.yaml"
    return f"{out}: {made['originals']} images and {made['copies']} copies{stayed} by policy {policy}"


if __name__ == "__main__":
    run(main)
