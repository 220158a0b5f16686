"""Which commit of git a folder is at."""

import shutil
import subprocess
from pathlib import Path


def git_revision(project: Path) -> tuple[str, bool] | None:
    """The commit, and whether files differ from it, but for dvc.lock, which a repro writes; None outside of git.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     git_revision(Path(folder)) is None
    True
    """
    if shutil.which("git") is None:
        return None
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=False)
    if head.returncode:
        return None
    command = ["git", "status", "--porcelain", "--", ".", ":!dvc.lock"]
    status = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return head.stdout.strip(), bool(status.stdout)


def git_has(project: Path, file: Path) -> bool:
    """Whether git has stored the content of `file`, by a commit or as staged; not outside of git.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     git_has(Path(folder), Path(__file__))
    False
    """
    if shutil.which("git") is None:
        return False
    command = ["git", "hash-object", str(file.absolute())]
    name = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).stdout.strip()
    command = ["git", "cat-file", "-e", name]
    return bool(name) and subprocess.run(command, cwd=project, capture_output=True, check=False).returncode == 0
