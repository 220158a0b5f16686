"""python -m stages.ingest DATASET: its owner's data -> data/ingested/DATASET/, reports/ingest/DATASET/, splits/."""

from pathlib import Path
from typing import Any

from pipeline.core.files import content_of_file
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
    from pipeline.datasets.ingest.record import read_record

    data, reports, record = Path("data/ingested") / name, Path("reports/ingest") / name, Path("splits") / f"{name}.csv"
    before = content_of_file(record) if record.exists() else b""
    anew = bool(read_record(record, params.splits).before)
    with over(machine.parallel):
        summary = ingest(name, params, data, reports, record, Path("labels"))
    said = [_counts(data, summary)]
    for layer, counts in summary.get("layers", {}).items():
        done = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items() if count)
        said.append(f"layer {layer}: {done or 'nothing said'}")
    if rows := sum(summary["by_rule"].values()):
        said.append(f"{rows} row{'s' * (rows > 1)} in {reports / 'ledger.csv'}, see `pocketlens ledger {name}`")
    if empty := [split for split, count in summary["splits"].items() if not count]:
        said.append(f"warning: no image in {' and '.join(empty)}")
    if summary["by_rule"].get("left_empty"):
        said.append("warning: labelled images are left without objects")
    if anew:
        said.append(f"other val, test or seed: {summary['recorded']['moved']} files have moved to another split")
    if summary["recorded"]["files"] and record.read_bytes() != before:
        said.append(f"{record} is to be committed")
    return "; ".join(said)


def _counts(data: Path, summary: dict[str, Any]) -> str:
    splits = ", ".join(f"{count} {split}" for split, count in summary["splits"].items())
    return f"{data}: {summary['kept']} of {summary['seen']} images ({splits}), {summary['refused']} refused"


if __name__ == "__main__":
    run(main)
