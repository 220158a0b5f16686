"""The places of a file among those of the chain, found by its content."""

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.files import md5_of, sha256
from pipeline.core.yaml_text import yaml_value
from pipeline.tracking.trace.recorded import CACHE, Stages, commits, git, outs_with

FIRST = ("exports", "models", "reports", "data/ingested", "data/augmented")  # of equal files, the one that is told of


def places_of(file: Path, project: Path, stages: Stages) -> list[str]:
    """The chain's files that are `file` or equal to it, relative to the project; `file` itself first."""
    whole, root = file.resolve(), project.resolve()
    own = whole.relative_to(root).as_posix() if whole.is_relative_to(root) else ""
    size, digest = file.stat().st_size, sha256(file)
    same = [
        place
        for place in _files(project, stages)
        if place != own and (project / place).stat().st_size == size and sha256(project / place) == digest
    ]
    return [own, *same] if own and outs_with(own, stages) else same


def _files(project: Path, stages: Stages) -> Iterator[str]:
    """All files of the chain that are there."""
    outs = {out["path"] for entry in stages.values() for out in entry.get("outs", [])}
    for out in sorted(outs, key=lambda path: (next((i for i, r in enumerate(FIRST) if path.startswith(r)), 9), path)):
        path = project / out
        for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if found.is_file():
                yield found.relative_to(project).as_posix()


def earlier(file: Path, project: Path, now: Stages) -> tuple[str, Stages, str]:
    """The place of `file` in a state that git's history of dvc.lock has, its stages and commit."""
    md5 = md5_of(file)
    hashes = {md5: ""}
    for path in sorted((project / CACHE).glob("??/*.dir")):
        text = path.read_text(encoding="utf-8")
        if md5 in text:
            rows = {row["md5"]: row["relpath"] for row in json.loads(text)}
            hashes[path.parent.name + path.name] = f"/{rows[md5]}"
    for known, rest in hashes.items():
        for commit in commits(project, known):
            stages = yaml_value(git(project, "show", f"{commit}:./dvc.lock"), f"{commit}:dvc.lock")["stages"]
            for entry in stages.values():
                for out in entry.get("outs", []):
                    if out["md5"] == known:
                        return f"{out['path']}{rest}", stages, commit
    roots = sorted({"/".join(out["path"].split("/")[:2]) for entry in now.values() for out in entry.get("outs", [])})
    raise InputError(
        f"{file}: not a file of this chain; looked for its content in {', '.join(roots)}, "
        "and among what DVC's cache and git's history of dvc.lock keep of earlier states"
    )
