"""python -m stages.augment DATASET: the ingested train split -> data/augmented/DATASET/, reports/augment/DATASET/."""

from pathlib import Path

from pipeline.augment.params import AugmentParams
from pipeline.augment.steps import Steps
from pipeline.core.machine import MachineParams
from pipeline.core.parallel import over
from pipeline.core.resolved import Resolved
from stages import run


def main(name: str) -> str:
    resolved = Resolved()
    params = resolved.block(AugmentParams, "datasets", name, "augment")
    steps = resolved.block(Steps, "datasets", name, "preprocess")
    machine = resolved.block(MachineParams, "machine", default=MachineParams())
    from pipeline.augment.offline import augment_dataset

    out = Path("data/augmented") / name
    with over(machine.parallel):
        made = augment_dataset(Path("data/ingested") / name, out, Path("reports/augment") / name, params, steps)
    stayed = f" ({made['stayed']} unmoved)" if made["stayed"] else ""
    policy = params.policy if isinstance(params.policy, str) else "of params.yaml"
    varied = made["copies"] - made["filtered"]
    line = f"{out}: {made['originals']} images and {varied} copies{stayed} by policy {policy}"
    if made["filtered"]:
        names = ", ".join(step.step for step in steps if step.train_only)
        cut = f" ({made['ellipses']} foregrounds are an ellipse)" if made["ellipses"] else ""
        line += f", {made['filtered']} by {names}{cut}"
    return line


if __name__ == "__main__":
    run(main)
