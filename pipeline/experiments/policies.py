"""One run under one augmentation policy after another, each trained with several seeds: luck is not taken for gain."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.sample import read_dataset, read_samples
from pipeline.experiments.compare import Row, compare, table_lines
from pipeline.experiments.paired import Behind, Paired
from pipeline.metrics.metrics import main_metric
from pipeline.training.params import RunParams


class Tried(NamedTuple):
    """A policy with the rows of its trainings that succeeded, and how far it is `behind` the best one."""

    policy: str
    rows: list[Row]
    behind: Behind | None

    @property
    def figure(self) -> float | None:
        """The mean of its trainings."""
        return mean(figures) if (figures := self.figures) else None

    @property
    def figures(self) -> list[float]:
        return [row.figure for row in self.rows if row.figure is not None]


def compare_policies(
    project: Path,
    run: str,
    base: RunParams,
    compared: Mapping[str, Mapping[int, RunParams]],
    uri: str | None,
    environment: Mapping[str, str],
) -> Iterator[str]:
    """A line per training as it is done, then a table of the policies; `compared` are the params of each by its seeds.

    reports/compare/<run>/policies.csv has a row per training, and is written after each: a comparison that is stopped
    shows what it has. Raises InputError at the end if a training failed, and as `compare` does.
    """
    metric = main_metric(base.task)
    flat = {f"{policy}-{seed}": params for policy, seeds in compared.items() for seed, params in seeds.items()}
    what = {f"{policy}-{seed}": (policy, seed) for policy, seeds in compared.items() for seed in seeds}
    table = project / "reports/compare" / run / "policies.csv"  # another run may be called <run>-policies
    rows = list[Row]()
    for row in compare(project, run, base, flat, uri, environment, f"policies-{run}", files=False):
        rows.append(row)
        _write(table, rows, what, metric)
        said = f"failed: {row.note}" if row.note else f"{metric} {row.figure}"
        yield f"{len(rows)} of {len(flat)}: {row.model}: {said}"
    ingested = project / "data/ingested" / base.dataset
    judged = Paired(base.task, read_samples(ingested / "test"), read_dataset(ingested))
    tried = by_policy({policy: [r for r in rows if what[r.model][0] == policy] for policy in compared}, judged)
    place = table.relative_to(project).as_posix()
    yield f"{policy_table(tried, metric)}\n{place}; MLflow: make ui, experiment policies-{run}; dvc exp show"
    if failed := [row.model for row in rows if row.note]:
        raise InputError(f"{len(failed)} of {len(rows)} trainings failed: {', '.join(failed)}")


def by_policy(rows: Mapping[str, list[Row]], judged: Paired) -> list[Tried]:
    """The policies with what each of their trainings reached, the best on average first."""
    done = {policy: [row for row in own if row.answers is not None] for policy, own in rows.items()}
    figures = {policy: f for policy, own in done.items() if (f := Tried(policy, own, None).figure) is not None}
    answers = {policy: [row.answers for row in own if row.answers is not None] for policy, own in done.items()}
    behind = judged.behind_best(answers, figures)
    tried = [Tried(policy, own, behind.get(policy)) for policy, own in done.items()]
    return sorted(tried, key=lambda t: (t.figure is None, -(t.figure or 0.0), t.policy))


def policy_table(tried: list[Tried], metric: str) -> str:
    """The policies for a terminal, and which of them the test images cannot tell from the best one."""
    head = ("policy", metric, "lowest", "highest", "behind", "trainings", "train s")
    lines = table_lines([head, *(_cells(one) for one in tried)])
    near = [one.policy for one in tried if one.behind is not None and not one.behind.told]
    if near:
        best = tried[0].policy
        lines.append(f"no difference in {metric} from {best} can be told on these test images: {', '.join(near)}")
    return "\n".join(lines)


def _cells(one: Tried) -> tuple[str, ...]:
    if not one.figures:
        return (one.policy, "-", "-", "-", "-", "0", "-")
    behind = "-" if one.behind is None else "{:.4f} [{:.4f}, {:.4f}]".format(*one.behind[1:])
    reached = (f"{value:.4f}" for value in (mean(one.figures), min(one.figures), max(one.figures)))
    seconds = mean(row.train_seconds or 0.0 for row in one.rows)
    return (one.policy, *reached, behind, f"{len(one.rows)}", f"{seconds:.0f}")


def _write(table: Path, rows: list[Row], what: Mapping[str, tuple[str, int]], metric: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["policy", "seed", metric, "train_seconds", "experiment", "note"])
    for row in rows:
        writer.writerow([*what[row.model], row.figure, row.train_seconds, row.experiment, row.note])
    write_text(table, text.getvalue())
