"""What dvc.lock, DVC's cache and git's history of dvc.lock have recorded."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pipeline.core.files import md5_of, read_json

Stages = dict[str, Any]  # the entries of a dvc.lock by address
CACHE = ".dvc/cache/files/md5"


def outs_with(place: str, stages: Stages) -> list[tuple[str, dict[str, Any]]]:
    """(address, out) of the stage that makes the file at `place`."""
    return [
        (address, out)
        for address, entry in stages.items()
        for out in entry.get("outs", [])
        if place == out["path"] or place.startswith(f"{out['path']}/")
    ]


def listed(project: Path, out: dict[str, Any]) -> dict[str, str]:
    """Path -> md5 of the files in a folder as DVC recorded it; {} where the project's cache does not have the list."""
    path = cached(project, out["md5"])
    if not out["md5"].endswith(".dir") or not path.is_file():
        return {}
    return {f"{out['path']}/{row['relpath']}": row["md5"] for row in json.loads(path.read_text(encoding="utf-8"))}


def cached(project: Path, md5: str) -> Path:
    return project / CACHE / md5[:2] / md5[2:]


def recorded_json(project: Path, out: dict[str, Any], rest: str = "") -> Any:
    """The JSON file at `rest` in an out, as dvc.lock has it: from its place or from DVC's cache; else None."""
    place = out["path"] + rest
    md5 = listed(project, out).get(place) if rest else out["md5"]
    for path in (project / place, cached(project, md5)) if md5 else [project / place]:
        if path.is_file() and (md5 is None or md5_of(path) == md5):
            return read_json(path)
    return None


def commits(project: Path, md5: str) -> list[str]:
    """The commits that changed how often dvc.lock names the hash, the newest first; [] outside of git."""
    return git(project, "log", "--format=%H", f"-S{md5}", "--", "dvc.lock").split()


def git(project: Path, *arguments: str) -> str:
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout
