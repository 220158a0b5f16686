"""python quick_stage.py STAGE [NAME]: the outs that dvc.yaml lists for the stage, made in no time.

It stands in for the scripts of stages/ where the graph is what is tested. As theirs, its outs are the same for the same
params and data, whatever the code; what a clock measures differs each time; images and plots are new after a change in
pipeline/viz.
"""

import hashlib
import re
import sys
import time
from pathlib import Path
from typing import Any

import yaml

CODE = ("pipeline", "stages")
# what other stages read of an out, and the images in it; the other folders have one file
PARTS = {
    "data/ingested": ("dataset.json", "train/0", "val/0", "test/0"),
    "reports/ingest": ("summary.json", "contact_sheet.jpg"),
    "reports/augment": ("contact_sheet.jpg", "self_test.json"),
    "models": ("model.json", "model.safetensors"),
}
TIMED = ("training.json", "verify.json")


def load(file: str) -> Any:
    return yaml.load(Path(file).read_text(encoding="utf-8"), yaml.CSafeLoader)


def filled(text: str, name: str, item: dict[str, Any]) -> str:
    """${key} and ${item.path} as DVC fills them in."""
    return re.sub(r"\$\{(\w+)\.?(\w*)\}", lambda found: str(item[found[2]]) if found[2] else name, text)


def at(tree: Any, key: str) -> Any:
    for step in key.split("."):
        tree = tree[step]
    return tree


def files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def is_drawn(path: Path) -> bool:
    return path.suffix in (".jpg", ".html") or path.name == "plots"


def digest(paths: list[Path]) -> str:
    made = hashlib.sha256()
    for path in paths:
        made.update(path.read_bytes())
    return made.hexdigest()


def write(path: Path, inputs: str) -> None:
    drawn = digest(files(Path("pipeline/viz"))) if is_drawn(path) else ""
    clock = time.time_ns() if path.name in TIMED else ""
    path = path / "drawn.png" if path.name == "plots" else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{path}\n{inputs}\n{drawn}\n{clock}\n", encoding="utf-8")


def main(stage: str, name: str) -> None:
    body = load("dvc.yaml")["stages"][stage]
    item = load("params.yaml")[body["foreach"].strip("${}")][name] if "foreach" in body else {}
    body = body.get("do", body)
    keys = [filled(key, name, item) for block in body.get("params", []) for key in block["resolved.yaml"]]
    resolved = load("resolved.yaml")
    deps = [filled(dep, name, item) for dep in body["deps"]]
    data = [file for dep in deps if dep.split("/")[0] not in CODE for file in files(Path(dep))]
    read = digest([p for p in data if not is_drawn(p) and "plots" not in p.parts])
    inputs = f"{[(key, at(resolved, key)) for key in keys]} {read}"
    for listed in (out for kind in ("outs", "metrics", "plots") for out in body.get(kind, [])):
        kept = isinstance(listed, dict) and next(iter(listed.values())).get("persist")
        out = Path(filled(next(iter(listed)) if isinstance(listed, dict) else listed, name, item))
        if kept and out.exists():
            continue  # what the stage itself reads, and adds to when there is more data
        if out.suffix or is_drawn(out):
            write(out, inputs)
        else:
            for part in PARTS.get(str(out.parent), ("0",)):
                write(out / part, inputs)
    with Path(".ran").open("a", encoding="utf-8") as log:
        log.write(f"{stage}@{name}\n" if name else f"{stage}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
