"""python -m stages.report RUN: what is known of a run, on one page -> reports/evaluate/RUN/report.html."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.core.resolved import Resolved
from pipeline.report.page import write_page
from stages import run


def report(name: str) -> str:
    knobs = Resolved().block(dict[str, Any], "runs", name)
    return write_page(Path.cwd(), name, knobs, _stated(name))


def _stated(name: str) -> dict[str, Any]:
    """What params.yaml states of the run, as it is now; it is only shown."""
    file = Path("params.yaml")
    params = YAML(typ="safe").load(file) if file.is_file() else {}
    return dict(params.get("runs", {}).get(name, {}))


if __name__ == "__main__":
    run(report)
