"""What one person said of one image in Label Studio, as labels and objects of this project."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.annotation.project import Project
from pipeline.annotation.sent import Sent
from pipeline.core.errors import shown
from pipeline.core.sample import Landmark, Object, Sample
from pipeline.datasets.formats.drawn import Drawing, Drawn
from pipeline.datasets.formats.label_studio_regions import Regions
from pipeline.datasets.formats.reading import Problem, Reading

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


def answer_of(annotation: dict[str, Any], sent: Sent, by: str, project: Project) -> tuple[Answer | None, list[Problem]]:
    """The answer, and rows on what of it could not be taken as it is; None if nothing of it could.

    What was not touched gets the very numbers that were sent.
    """
    seconds = annotation.get("lead_time")
    answer = Answer(
        by,
        str(annotation.get("updated_at") or annotation.get("created_at") or ""),
        str(annotation.get("unique_id") or annotation.get("id")),
        None,
        ground_truth=bool(annotation.get("ground_truth")),
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
    )
    if annotation.get("was_cancelled"):
        return answer, []
    found = annotation.get("result")
    regions = [r for r in found if isinstance(r, dict)] if isinstance(found, list) else []
    size = sent.sample.width, sent.sample.height
    if other := [r for r in regions if _size(r) not in (None, size)]:
        said = f"drawn on {_size(other[0])} pixels; {size} were sent"
        return None, [Problem(sent.sample.id, by, "other_size", said, "refused")]
    reading = Reading([], [], project.dataset.landmarks)
    drawn, drawing = Drawn(reading), Drawing(sent.sample.id, size, by)
    Regions(regions, drawing, drawn).read()
    drop_strange(drawing, drawn, project)
    labels = sorted(set(drawing.labels))
    objects, answer.kept = _as_sent(drawn.objects_of(drawing), sent.sample.objects)
    answer.sample = replace(sent.sample, label=None, objects=objects)
    rows = [replace(p, key=f"{by}: {p.key}") for p in reading.problems]
    rows += [Problem(sent.sample.id, by, rule, f"{n} {words}", "noted") for (rule, words), n in drawn.notes.items()]
    if project.classify:
        answer.sample = replace(sent.sample, label=labels[0] if len(labels) == 1 else None, objects=[])
        if len(labels) > 1:
            rows.append(Problem(sent.sample.id, by, "several_labels", f"{', '.join(labels)}; expected one", "refused"))
    said_nothing = answer.sample.label is None and not answer.sample.objects
    return (None if regions and said_nothing else answer), rows


def _size(region: dict[str, Any]) -> tuple[Any, Any] | None:
    if "original_width" not in region:
        return None
    return region["original_width"], region.get("original_height")


def drop_strange(drawing: Drawing, drawn: Drawn, project: Project) -> None:
    """Take out points of a name that the dataset does not have, with a row each; of boxes that name is a new class,
    which it may get.
    """
    for point in [p for p in drawing.points if p.name not in project.dataset.landmarks]:
        drawing.points.remove(point)
        known = ", ".join(project.dataset.landmarks) or "none"
        drawn.problem(drawing.name, point.key, "unknown_landmark", f"{shown(point.name)}; expected one of {known}")


def _as_sent(objects: list[Object], sent: list[Object]) -> tuple[list[Object], int]:
    """The objects, with those that are as they were sent first, in the order of what was sent; and how many. One
    that got another label or other landmarks may have its box, and the rest of its landmarks, as they were.
    """
    left, kept = list(objects), []
    for before in sent:
        now = next((o for o in left if _same(o, before)), None)
        if now is not None:
            left.remove(now)
            kept.append(replace(before, score=None))
    for i, now in enumerate(left):
        there = next((o for o in sent if _near(_corners(now), _corners(o))), None)
        if there is not None:
            points = [_point(*pair) for pair in zip(now.landmarks, there.landmarks or now.landmarks, strict=True)]
            left[i] = replace(now, box=there.box, crowd=there.crowd, landmarks=points)
    return [*kept, *left], len(kept)


def _point(now: Landmark, before: Landmark) -> Landmark:
    absent = not now.visibility and not before.visibility
    if absent or (before.visibility and _near((now.x, now.y), (before.x, before.y))):
        return replace(before, visibility=now.visibility)
    return now


def _near(a: Iterable[float], b: Iterable[float]) -> bool:
    return all(abs(x - y) <= SAME for x, y in zip(a, b, strict=True))


def _same(now: Object, before: Object) -> bool:
    if now.label != before.label:
        return False
    points = {i: (p.x, p.y, p.visibility) for i, p in enumerate(now.landmarks) if p.visibility}
    known = {i: (p.x, p.y, p.visibility) for i, p in enumerate(before.landmarks) if p.visibility}
    if points.keys() != known.keys() or any(points[i][2] != known[i][2] for i in known):
        return False
    near = all(_near(points[i][:2], known[i][:2]) for i in known)
    return near and _near(_corners(now), _corners(before))


def _corners(o: Object) -> tuple[float, float, float, float]:
    """Within the image, as an editor shows them."""
    x, y, w, h = o.box
    return max(x, 0.0), max(y, 0.0), min(x + w, 1.0), min(y + h, 1.0)
