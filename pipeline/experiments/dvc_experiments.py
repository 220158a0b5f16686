"""DVC experiments: stages of the chain run with other params in a folder apart, and the files that came of it.

DVC keeps an experiment as a commit on the current one, under a name of its own, and its outs in the cache. The
workspace stays as it is. A stage that ran with the same params and deps before is taken from the run cache.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.core.errors import InputError

LAST_BYTES = 20_000  # of a command's output, in which its error is looked for
LOCK = "dvc.lock"


def check_git(project: Path) -> None:
    """Raises InputError if `project` is not in git or has no commit: an experiment is a change to one."""
    try:
        done = _git(project, "rev-parse", "--verify", "--quiet", "HEAD")
    except FileNotFoundError:
        raise InputError("git: no such program; DVC keeps experiments in git") from None
    if done.returncode:
        raise InputError(
            f"{project}: not a git repository with a commit; DVC keeps experiments in git: "
            "git init && git add -A && git commit -m start"
        )


def repro(project: Path, stage: str, environment: Mapping[str, str]) -> None:
    """Bring a stage of the workspace up to date. Raises InputError with what DVC or the stage said."""
    _dvc(project, ["repro", stage], environment)


def run_experiment(
    project: Path,
    name: str,
    stages: Sequence[str],
    changes: Mapping[str, Any],
    files: Sequence[str],
    environment: Mapping[str, str],
) -> str:
    """Run `stages`, in that order and no others, with `changes` to params.yaml (by dotted key), as experiment `name`.

    What the workspace has changed in files that git knows counts, and of the others dvc.lock and `files`, paths in the
    project. One of this name on the same commit is replaced. Returns the experiment's commit. Raises InputError with
    what DVC or the stage said if it did not succeed.
    """
    from dvc.repo import Repo
    from dvc.repo.experiments.utils import exp_refs_by_baseline, remove_exp_refs

    arguments = ["exp", "run", "--temp", "--single-item", "--name", name]
    for key, value in changes.items():
        arguments += ["--set-param", f"params.yaml:++{key}={_override(value)}"]
    for path in (LOCK, *files):
        if _is_left_behind(project, path):
            arguments += ["--copy-paths", path]
    with Repo(str(project)) as repo:
        head = repo.scm.get_rev()
        # with --force, which replaces it too, DVC would take nothing from the run cache
        remove_exp_refs(repo.scm, [r for r in exp_refs_by_baseline(repo.scm, {head})[head] if r.name == name])
    _dvc(project, [*arguments, *stages], environment)
    with Repo(str(project)) as repo:
        made = [r for r in exp_refs_by_baseline(repo.scm, {head})[head] if r.name == name]
        return str(repo.scm.get_ref(str(made[0])))


def fetch(project: Path, commit: str, paths: Sequence[str], folder: Path) -> None:
    """Copy `paths` as they are at `commit`, files of git or outs of DVC, into `folder`."""
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(str(project), rev=commit)
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get(f"/{path}", str(target), recursive=True)


def locked_stages(project: Path, commit: str) -> list[str] | None:
    """The stages in dvc.lock as it is at `commit`; None if that has none."""
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(str(project), rev=commit)
    if not files.isfile(f"/{LOCK}"):
        return None
    lock: dict[str, Any] = YAML(typ="safe").load(files.read_text(f"/{LOCK}")) or {}
    return [*lock.get("stages", {})]


def _dvc(project: Path, arguments: list[str], environment: Mapping[str, str]) -> None:
    """Run DVC, showing what it says. Raises InputError with the end of it if it fails."""
    # stages call `python`: it has to be this one
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", *arguments]
    process = subprocess.Popen(
        command, cwd=project, env={**environment, "PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = b""
    assert process.stdout is not None
    try:
        while part := os.read(process.stdout.fileno(), 4096):
            sys.stderr.write(part.decode(errors="replace"))
            sys.stderr.flush()
            said = (said + part)[-LAST_BYTES:]
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
    if process.returncode:
        raise InputError(_reason(said.decode(errors="replace")) or f"dvc {arguments[0]}: exit {process.returncode}")


def _reason(said: str) -> str:
    """The stage's own error; else the last line of a traceback or of DVC's."""
    lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    if starts:
        return lines[starts[-1]].removeprefix("error: ")
    dvc = [line for line in lines if line.startswith("ERROR: ")]
    # above DVC's own "failed to reproduce" stands why the stage's program ended
    before = lines[: lines.index(dvc[0])] if dvc else lines
    raised = [line for line in before if line.split(":")[0].endswith(("Error", "Exception"))]
    return (raised or dvc or lines or [""])[-1].removeprefix("ERROR: ")


def _is_left_behind(project: Path, path: str) -> bool:
    """Whether an experiment's folder lacks this file of the project because git does not bring it along. A file with an
    absolute path is found from there too.
    """
    if Path(path).is_absolute() or not (project / path).is_file():
        return False
    return bool(_git(project, "ls-files", "--error-unmatch", path).returncode)


def _override(value: Any) -> str:
    """A value as `dvc exp run --set-param` reads it (Hydra's grammar)."""
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{quoted}'"
    if isinstance(value, list):
        return f"[{','.join(map(_override, value))}]"
    if isinstance(value, dict):  # keys are bare: Hydra takes no quotes there
        return f"{{{','.join(f'{key}:{_override(one)}' for key, one in value.items())}}}"
    return json.dumps(value)


def _git(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
