"""Reports and costs as pandas tables, for notebooks."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.core.files import read_json
from pipeline.core.sample import Object


def verify_table(reports: Path) -> Any:
    """A pandas DataFrame of all runs' verify.json: a row per run and model, the float one first.

    `figure` is the run's main metric from 0 to 1, `drop` how far it fell from the float model's, `megabytes` 10^6
    bytes, `latency_ms` the median for one image; a cell is empty (NaN) where the report has none.
    """
    import pandas as pd

    rows = []
    for path in sorted((reports / "verify").glob("*/verify.json")):
        verdict = read_json(path)
        metric = verdict["main_metric"]
        same = {"run": path.parent.name, "metric": metric}
        rows.append({**same, "model": "float", "figure": verdict["float"][metric]})
        for target, found in verdict["targets"].items():
            rows.append(
                {
                    **same,
                    "model": target,
                    "figure": (found["metrics"] or {}).get(metric),
                    "drop": found["drop"],
                    "tolerance": found["tolerance"],
                    "megabytes": (found["size_bytes"] or math.nan) / 1e6,
                    "latency_ms": (found["latency_ms"] or {}).get("median"),
                    "passed": found["passed"],
                }
            )
    columns = ["run", "metric", "model", "figure", "drop", "tolerance", "megabytes", "latency_ms", "passed"]
    return pd.DataFrame(rows, columns=columns)


def comparison_table(reports: Path, run: str) -> Any:
    """A pandas DataFrame of what `make compare` found for a run, a row per model; empty if it has not run."""
    import pandas as pd

    path = reports / "compare" / f"{run}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def cost_table(nets: Iterable[tuple[str, int]], labels: int = 1000) -> Any:
    """A pandas DataFrame, a row per (backbone, resolution): millions of multiply-adds and of parameters, the megabytes
    (10^6) that activations need at once in float32, ImageNet top-1 in per cent as published (NaN where it is not).
    """
    import pandas as pd

    from pipeline.experiments.budget import published
    from pipeline.graph.cost import backbone_cost

    rows = []
    for backbone, size in nets:
        found = backbone_cost(backbone, size, labels)
        figures = (found.macs / 1e6, found.params / 1e6, found.peak_bytes / 1e6, published(backbone, size))
        rows.append((backbone, size, *figures))
    return pd.DataFrame(rows, columns=["backbone", "size", "M_macs", "M_params", "peak_MB", "top1"])


def layer_table(backbone: str, size: int) -> Any:
    """A pandas DataFrame of the layers of a backbone: name, kind, output (C, H, W), multiply-adds, parameters."""
    import pandas as pd

    from pipeline.graph.cost import backbone_cost

    return pd.DataFrame([asdict(layer) for layer in backbone_cost(backbone, size).layers])


def target_table(objects: list[Object], labels: list[str], cells: int) -> Any:
    """A pandas DataFrame of what a net with YOLO's first head should say of `objects` on a grid of `cells` x `cells`: a
    row per cell (row, column) with p_c, x, y of the centre in the cell, w, h as shares of the image, and each label.
    """
    import pandas as pd
    import torch

    from pipeline.models.yolov1 import target_tensor

    boxes = torch.tensor([o.box for o in objects]).view(-1, 4) * cells  # on a canvas of a pixel a cell
    target = {
        "image": torch.zeros(len(objects), dtype=torch.int64),
        "box": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
        "label": torch.tensor([labels.index(o.label) for o in objects], dtype=torch.int64),
    }
    wanted, _ = target_tensor(target, (1, cells, cells, len(labels)), 1, cells)
    places = pd.MultiIndex.from_product([range(cells), range(cells)], names=["row", "column"])
    return pd.DataFrame(wanted[0].flatten(0, 1).numpy(), places, ["p_c", "x", "y", "w", "h", *labels])
