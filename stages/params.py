"""python -m stages.params: params.yaml with every default filled in -> resolved.yaml."""

from pathlib import Path

from pipeline.config.resolve import INGEST, resolve, resolved_text
from pipeline.core.files import write_text
from pipeline.core.resolved import FILE
from pipeline.datasets.formats.reading import refuse_names
from stages import run


def params(_: str) -> str:
    resolved = resolve("params.yaml")
    for dataset in resolved["datasets"].values():
        for key in ("path", "labels"):
            refuse_names(Path(dataset[INGEST][key]))
    write_text(FILE, resolved_text(resolved))
    return f"{FILE}: {len(resolved['datasets'])} datasets, {len(resolved['runs'])} runs"


if __name__ == "__main__":
    run(params)
