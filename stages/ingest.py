"""python -m stages.ingest DATASET: its owner's data -> data/ingested/DATASET/, reports/ingest/DATASET/, splits/."""

from pathlib import Path

from pipeline.core.machine import MachineParams
from pipeline.core.parallel import over
from pipeline.core.resolved import Resolved
from pipeline.datasets.params import AnyDataset, DatasetParams
from stages import run


def main(name: str) -> str:
    resolved = Resolved()
    params: DatasetParams = resolved.block(AnyDataset, "datasets", name, "ingest")
    machine = resolved.block(MachineParams, "machine", default=MachineParams())
    from pipeline.datasets.ingest.ingest import ingest

    data = Path("data/ingested") / name
    with over(machine.parallel):
        summary = ingest(name, params, data, Path("reports/ingest") / name, Path("splits") / f"{name}.csv")
    splits = ", ".join(f"{count} {split}" for split, count in summary["splits"].items())
    return f"{data}: {summary['kept']} of {summary['seen']} images ({splits}), {summary['refused']} refused"


if __name__ == "__main__":
    run(main)
