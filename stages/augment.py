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
    from pipeline.augment.policies import unpaired
    from pipeline.core.sample import read_dataset

    out, ingested = Path("data/augmented") / name, Path("data/ingested") / name
    with over(machine.parallel):
        made = augment_dataset(ingested, out, Path("reports/augment") / name, params)
    stayed = f" ({made['stayed']} unmoved)" if made["stayed"] else ""
    policy = params.policy if isinstance(params.policy, str) else "of params.yaml"
    mirrors = f"; {why}" if params.policy != "none" and (why := unpaired(read_dataset(ingested))) else ""
    return f"{out}: {made['originals']} images and {made['copies']} copies{stayed} by policy {policy}{mirrors}"


if __name__ == "__main__":
    run(main)
