"""What comes back from people, out of whatever tool: statements, rows on what was not taken, and who did how much."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.annotation.project import Project
from pipeline.core.errors import shown
from pipeline.core.layer import Statement
from pipeline.core.sample import Object, Sample
from pipeline.datasets.formats.drawn import Drawing, Drawn
from pipeline.datasets.formats.reading import Problem


@dataclass(slots=True)
class Shown:
    """Of one person: images answered, objects that were shown on them, how many were left as they were, seconds."""

    images: int = 0
    objects: int = 0
    kept: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Fetched:
    """`rows` say what was not taken, or not as it is; `answers` are all people's, by person and id; `drafts`, which are
    never taken, are counted.
    """

    statements: list[Statement] = field(default_factory=list)
    rows: list[Problem] = field(default_factory=list)
    answers: dict[str, dict[str, Sample]] = field(default_factory=lambda: defaultdict(dict))
    people: dict[str, Shown] = field(default_factory=lambda: defaultdict(Shown))
    drafts: int = 0


def drop_strange(drawing: Drawing, drawn: Drawn, project: Project) -> None:
    """Take out points of a name that the dataset does not have, with a row each."""
    for point in [p for p in drawing.points if p.name not in project.dataset.landmarks]:
        drawing.points.remove(point)
        known = ", ".join(project.dataset.landmarks) or "none"
        drawn.problem(drawing.name, point.key, "unknown_landmark", f"{shown(point.name)}; expected one of {known}")


def unknown_class(
    id: str, by: str, labels: Iterable[str], objects: Iterable[Object], project: Project
) -> Problem | None:
    """The row on an answer with a class that the dataset does not have, of which nothing is taken; None if it has all.
    A new class comes into the dataset first.
    """
    if strange := sorted({*labels, *(o.label for o in objects)} - set(project.dataset.labels)):
        return Problem(id, by, "unknown_class", f"{shown(strange[0])}: not among the dataset's", "refused")
    return None


def not_there(missing: int, where: str) -> list[Problem]:
    """A row on images that were sent and did not come back."""
    found = f"{missing} images that were sent are not in {where}"
    return [Problem("", "", "not_there", found, "noted")] if missing else []
