"""One script a stage: read its blocks of resolved.yaml, call the library, write. `python -m stages.<stage> [name]`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.core.boundary import exit_code
from pipeline.core.lock_copy import keep_lock
from pipeline.core.names import check_name


def run(body: Callable[[str], str]) -> None:
    """Run `body(name)` and print what it says it made.

    `name` is the dataset or run on the command line ("" for stages without one), and none that would lead out of its
    folders. An error is shown without a traceback (see `core.boundary`), and the log has it for `pocketlens missing`.
    Of several processes that torchrun started the first one speaks. DVC has written the entries of all stages before
    this one: that dvc.lock is kept.
    """
    first = os.environ.get("RANK", "0") == "0"

    def made() -> None:
        name = check_name(sys.argv[1], "name") if len(sys.argv) > 1 else ""
        if first and (lost := keep_lock(Path.cwd())):
            print(lost, file=sys.stderr, flush=True)
        said = body(name)
        if first:
            print(said, flush=True)

    if code := exit_code(made, speaks=first, logged=True):
        sys.exit(code)
