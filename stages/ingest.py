"""python -m stages.ingest <dataset>: data in its owner's format -> data/ingested/<dataset>/, reports/ingest/."""

from pathlib import Path

from pipeline.config.params import Params
from stages import run


def main(params: Params, name: str) -> str:
    block = params.dataset(name)
    from pipeline.datasets.ingest.ingest import ingest

    data = Path("data/ingested") / name
    summary = ingest(name, block, data, Path("reports/ingest") / name)
    splits = ", ".join(f"{count} {split}" for split, count in summary["splits"].items())
    return f"{data}: {summary['kept']} of {summary['seen']} pictures ({splits}), {summary['refused']} refused"


if __name__ == "__main__":
    run(main)
