"""A file that no runtime here can run, judged by what it says of itself."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.files import open_file, read_json
from pipeline.core.lazy import load
from pipeline.runtimes.targets import Engine

INT8_WEIGHTS = 0.9  # of all numbers in the file, at least; the rest are scales, biases and the normalization
NOT_MEASURED = (
    *("metrics", "drop", "drops", "drop_per_class", "drop_interval", "drop_intervals", "too_small"),
    *("agreement", "golden_difference"),
    *("operators", "int8_operators", "int8_layers", "delegated_operators"),
    *("peak_memory_bytes", "latency_ms", "latency_ms_by_threads"),
)


def not_run_row(exports: Path, path: Path, engine: Engine, wrong: list[str]) -> dict[str, Any]:
    """The row of verify.json for the file `path` of the folder `exports`: what is measured is None.

    `checked` has what the engine's `inspect` finds in it, `reason` what is wrong (what the caller found `wrong`
    already, first) and, always, that it was `not_run`. Raises InputError naming `path` if it is not a whole program.
    """
    found = load(engine.inspect)(path)
    contract = read_json(exports / "preprocess.json")
    side = contract["input"]["shape"][1]
    with open_file(exports / "golden" / "golden.npz") as opened, np.load(opened) as golden:
        outputs = {name: [1, *golden[name].shape[1:]] for name in contract["outputs"]}
    wrong = [*wrong]
    if [found["input"]["width"], found["input"]["height"]] != [side, side]:
        wrong.append(
            f"takes images of {found['input']['width']} x {found['input']['height']}, expected {side} x {side}"
        )
    if found["outputs"] != outputs:
        wrong.append(f"outputs {found['outputs']}, expected {outputs}")
    if found["int8_weights"] < INT8_WEIGHTS:
        wrong.append(f"{found['int8_weights']} of its numbers are int8 weights, expected at least {INT8_WEIGHTS}")
    reason = "; ".join([*wrong, engine.not_run])
    return {**dict.fromkeys(NOT_MEASURED), "checked": found, "passed": not wrong, "reason": reason}
