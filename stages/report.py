"""python -m stages.report RUN: what is known of a run, on one page -> reports/evaluate/RUN/report.html."""

from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_text
from pipeline.core.resolved import Resolved
from pipeline.core.yaml_text import yaml_value
from pipeline.report.page import write_page
from stages import run


def report(name: str) -> str:
    knobs = Resolved().block(dict[str, Any], "runs", name)
    return write_page(Path.cwd(), name, knobs, _stated(name))


def _stated(name: str) -> dict[str, Any]:
    """What params.yaml states of the run, as it is now; it is only shown."""
    file = Path("params.yaml")
    block = yaml_value(read_text(file), str(file)) if file.is_file() else {}
    for key in ("", "runs", name):
        block = block.get(key, {}) if key else block
        if not isinstance(block, dict):
            raise InputError(f"{file}: {key or 'the file'}: found {block!r:.40}, expected keys with values")
    return dict(block)


if __name__ == "__main__":
    run(report)
