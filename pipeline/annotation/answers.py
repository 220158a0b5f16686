"""What one person said of one image in Label Studio, as labels and objects of this project."""

from dataclasses import dataclass, replace
from typing import Any

from pipeline.annotation.fetched import drop_strange, unknown_class
from pipeline.annotation.outgoing import clipped
from pipeline.annotation.project import Project
from pipeline.annotation.sent import Sent
from pipeline.annotation.snap import snap
from pipeline.core.sample import Sample
from pipeline.datasets.formats.drawn import Drawing, Drawn
from pipeline.datasets.formats.label_studio_regions import BESIDE, Regions
from pipeline.datasets.formats.reading import Problem, Reading

LONGEST = 1e9  # seconds: what is more is none, nor is NaN
SAME = 1e-4  # of a side: what comes back this near to what was sent was not touched


@dataclass(slots=True)
class Answer:
    """`sample` has the labels; None: the image was skipped. `kept` of the objects that were shown are as they were."""

    by: str
    at: str
    key: str
    sample: Sample | None
    kept: int = 0
    ground_truth: bool = False
    seconds: float | None = None

    @property
    def age(self) -> tuple[str, int, str]:
        """Sorts the newest last: of two of one moment the one with the larger number."""
        return self.at, len(self.key), self.key


def answer_of(annotation: dict[str, Any], sent: Sent, by: str, project: Project) -> tuple[Answer | None, list[Problem]]:
    """The answer, and rows on what of it could not be taken as it is; None if nothing of it could.

    What was not touched gets the very numbers that were sent.
    """
    answer = Answer(
        by,
        str(annotation.get("updated_at") or annotation.get("created_at") or ""),
        str(annotation.get("unique_id") or annotation.get("id")),
        None,
        ground_truth=bool(annotation.get("ground_truth")),
        seconds=_seconds(annotation.get("lead_time")),
    )
    if annotation.get("was_cancelled"):
        return answer, []
    found = annotation.get("result")
    regions = [r for r in found if isinstance(r, dict)] if isinstance(found, list) else []
    if not isinstance(found, list) or len(regions) < len(found):
        said = f"result {found!r:.60}; expected a list of regions"
        return None, [Problem(sent.sample.id, by, "bad_row", said, "refused")]
    size = sent.sample.width, sent.sample.height
    if other := [r for r in regions if _size(r) not in (None, size)]:
        said = f"drawn on {_size(other[0])} pixels; {size} were sent"
        return None, [Problem(sent.sample.id, by, "other_size", said, "refused")]
    reading = Reading([], [], project.dataset.landmarks)
    drawn, drawing = Drawn(reading), Drawing(sent.sample.id, size, by)
    Regions(regions, drawing, drawn).read()
    drop_strange(drawing, drawn, project)
    labels = sorted(set(drawing.labels))
    shown_then = clipped(sent.sample).objects
    objects, answer.kept = snap(drawn.objects_of(drawing), shown_then, sent.sample.objects, (SAME, SAME))
    answer.sample = replace(sent.sample, label=None, objects=objects)
    if strange := unknown_class(sent.sample.id, by, labels if project.classify else [], objects, project):
        return None, [strange]
    rows = [replace(p, key=f"{by}: {p.key}") for p in reading.problems]
    rows += [Problem(sent.sample.id, by, rule, f"{n} {words}", "noted") for (rule, words), n in drawn.notes.items()]
    if project.classify:
        answer.sample = replace(sent.sample, label=labels[0] if len(labels) == 1 else None, objects=[])
        if len(labels) > 1:
            rows.append(Problem(sent.sample.id, by, "several_labels", f"{', '.join(labels)}; expected one", "refused"))
    said_nothing = answer.sample.label is None and not answer.sample.objects
    spoken = any(str(r.get("type")) not in BESIDE for r in regions)  # a comment alone is not
    return (None if spoken and said_nothing else answer), rows


def _seconds(found: Any) -> float | None:
    return float(found) if isinstance(found, int | float) and 0 <= found < LONGEST else None


def _size(region: dict[str, Any]) -> tuple[Any, Any] | None:
    if "original_width" not in region:
        return None
    return region["original_width"], region.get("original_height")
