"""python -m stages.params: params.yaml with every default filled in -> resolved.yaml."""

from pipeline.config.resolve import resolve, resolved_text
from pipeline.core.files import write_text
from pipeline.core.resolved import FILE
from stages import run


def params(_: str) -> str:
    resolved = resolve("params.yaml")
    write_text(FILE, resolved_text(resolved))
    return f"{FILE}: {len(resolved['datasets'])} datasets, {len(resolved['runs'])} runs"


if __name__ == "__main__":
    run(params)
