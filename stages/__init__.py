"""One script a stage: read its blocks of resolved.yaml, call the library, write. `python -m stages.<stage> [name]`."""

import os
import sys
from collections.abc import Callable

from pipeline.core.errors import InputError


def run(body: Callable[[str], str]) -> None:
    """Run `body(name)` and print what it says it made.

    `name` is the dataset or run on the command line ("" for stages without one). What the user can mend is shown
    without a traceback; the exit code is 1 then.
    """
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "1")
    try:
        print(body(sys.argv[1] if len(sys.argv) > 1 else ""), flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
