"""What takes long to make is made once, by the first worker that asks, and read by all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`, which `make` has filled. It is every worker's: a test that changes it takes a copy.

    Where `make` fails, the next one that asks begins anew.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / name, base / f"{name}.made"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


@contextmanager
def exported_here() -> Iterator[None]:
    """Targets are exported in this process, which has imported what each forked one would import anew: seconds each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.export.export.each_forked", lambda function, items, _: [function(i) for i in items])
        yield
