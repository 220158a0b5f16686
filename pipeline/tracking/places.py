"""Where the files of a project lie: DVC's cache, and what has the name of a file or folder and is none."""

import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import InputError

FOLDERS = (
    *(".dvc", ".dvc/cache", ".dvc/cache/files", ".dvc/tmp", ".features", ".resume", ".fetched"),
    *("data", "data/*", "models", "models/*", "exports", "exports/*", "reports", "reports/*", "splits"),
    *("labels", "weights"),
)
AWAY = "move it away: the chain makes its own"


def misplaced(project: Path, files: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Of each that is there: its path, what was found and expected, and what to do. `files` are patterns of what is to
    be a file. A link to one of the right kind is one.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "mlflow.db").mkdir()
    ...     next(misplaced(Path(folder), ("mlflow.db",)))
    ('mlflow.db', 'a folder; expected a file', 'move it away: the chain makes its own')
    """
    for patterns, expected in ((files, "file"), (FOLDERS, "folder")):
        for path in sorted({path for pattern in patterns for path in _there(project, pattern)}):
            found = _kind(path)
            if found not in (expected, ""):
                yield str(path.relative_to(project)), f"a {found}; expected a {expected}", AWAY


def _there(project: Path, pattern: str) -> Iterator[Path]:
    """Without what is hidden, where the pattern says a part of the name only, and with links to nowhere. What has a
    suffix and is to be a folder is the user's: no dataset and no run is called so.
    """
    if "*" not in pattern:
        yield project / pattern
    else:
        yield from (
            p for p in project.glob(pattern) if not p.name.startswith(".") and (p.suffix == "" or "." in pattern)
        )


def _kind(path: Path) -> str:
    """What is there, by whatever links; "" for nothing."""
    try:
        mode = path.stat().st_mode
    except NotADirectoryError:  # what it lies in is named
        return ""
    except OSError:
        return "link to what is not there" if path.is_symlink() else ""
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"))
    return next((kind for is_one, kind in kinds if is_one(mode)), "pipe, a device or a socket")


def dvc_cache(project: Path) -> Path | None:
    """The folder of DVC's cache, by its hashes; None where there is none. Raises InputError for settings that DVC does
    not read.

    >>> dvc_cache(Path("no such project"))
    """
    if not (project / ".dvc").is_dir():
        return None
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(project)) as repo:
            folder = Path(repo.cache.local.path)
    except (DvcException, OSError) as error:
        raise InputError(f"DVC does not read it: {' '.join(str(error).split())}") from None
    return folder if folder.is_dir() else None
