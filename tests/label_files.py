"""What tests of label formats share: files are drawn and read."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.reading import Reading


def make(root: Path, files: dict[str, Any]) -> Path:
    """Write files: a size makes an image, a string text, anything else JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            Image.new("RGB", content).save(path, "JPEG")
        else:
            path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return root


def read(form: str, root: Path, labels: Path | None = None, **options: Any) -> Reading:
    """What the format reads; the source is as before, and what ingest counts on holds."""
    before = {f: f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}
    row = FORMATS[form]
    reading = row.read(root, labels or root, row.Options(**options))
    assert {f: f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()} == before
    assert all(len(c.objects) == len(c.keys) and c.file.is_absolute() for c in reading.candidates)
    assert len({c.id for c in reading.candidates}) == len({c.name for c in reading.candidates})
    assert {o.label for c in reading.candidates for o in c.objects} <= set(reading.labels)
    assert all(len(o.landmarks) == len(reading.landmarks) for c in reading.candidates for o in c.objects)
    return reading


def boxes(reading: Reading) -> dict[str, list[Any]]:
    """Image -> label and box of its objects."""
    return {c.name: [(o.label, *(round(v, 6) for v in o.box)) for o in c.objects] for c in reading.candidates}


def rows(reading: Reading) -> list[tuple[str, str, str]]:
    """The ledger's, without those that are noted for the whole set."""
    return [(p.file, p.rule, p.done) for p in reading.problems if p.file or p.done != "noted"]


def notes(reading: Reading) -> dict[str, str]:
    return {p.rule: p.found for p in reading.problems if not p.file and p.done == "noted"}
