"""Objects that come back from a tool, which rounds: what nobody moved gets the very numbers that were sent."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.core.sample import Landmark, Object
from pipeline.metrics.matching import iou

MOVED = 0.5  # IoU from which a box may be one that was moved
Near = tuple[float, float]  # how far x and y may be off, in shares of the sides


def snap(
    objects: Sequence[Object], shown: Sequence[Object], sent: Sequence[Object], near: Near
) -> tuple[list[Object], int]:
    """The objects, with those that are as they were shown first, in their order; and how many these are.

    `sent` are the objects of the dataset, `shown` the same as the tool had them, within the image. Of an object that is
    not as it was, each number that is `near` to that of the changed one which it is most alike is that one's.

    >>> cow = Object("cow", (0.1, 0.1, 1 / 3, 0.5))
    >>> snap([Object("cow", (0.1, 0.1, 0.3333, 0.5))], [cow], [cow], (1e-4, 1e-4)) == ([cow], 1)
    True
    """
    left, kept, changed = list(objects), [], []
    for before, exact in zip(shown, sent, strict=True):
        now = next((o for o in left if _same(o, before, near)), None)
        if now is None:
            changed.append((before, exact))
        else:
            left.remove(now)
            kept.append(replace(exact, score=None))
    return [*kept, *(_most_like(o, changed, near) for o in left)], len(kept)


def _same(o: Object, before: Object, near: Near) -> bool:
    visible, known = ({i: p for i, p in enumerate(x.landmarks) if p.visibility} for x in (o, before))
    return (
        o.label == before.label
        and _alike(o, before, near) == 4 + 2 * len(known)
        and {i: p.visibility for i, p in visible.items()} == {i: p.visibility for i, p in known.items()}
    )


def _most_like(o: Object, changed: Sequence[tuple[Object, Object]], near: Near) -> Object:
    """`o` with what it shares with the one of those that were shown, and changed, that it shares most with."""
    alike = [_alike(o, before, near) + (o.label == before.label) / 2 for before, _ in changed]
    if max(alike, default=0) < 2:  # a side by chance
        return replace(o, crowd=_is_crowd(o, changed))
    before, exact = changed[alike.index(max(alike))]
    points = [_point(*pair, near) for pair in zip(o.landmarks, before.landmarks, exact.landmarks, strict=False)]
    points += o.landmarks[len(points) :]
    if not exact.landmarks and not any(p.visibility for p in points):
        points = []
    (x, w), (y, h) = (_side(o.box, before.box, exact.box, axis, near[axis]) for axis in (0, 1))
    return replace(o, box=(x, y, w, h), landmarks=points, crowd=exact.crowd)


def _is_crowd(o: Object, changed: Sequence[tuple[Object, Object]]) -> bool:
    """Whether the one that it lies on most was a crowd, which no tool can say: a box that was moved on both axes."""
    near = [(float(iou([before], [o])[0, 0]), exact.crowd) for before, exact in changed if before.label == o.label]
    overlap, crowd = max(near, default=(0.0, False))
    return crowd and overlap >= MOVED


def _alike(o: Object, before: Object, near: Near) -> int:
    """How many numbers of the two are near each other: sides, and both coordinates of landmarks."""
    sides = zip(_corners(o), _corners(before), near * 2, strict=True)
    points = zip(o.landmarks, before.landmarks, strict=False)
    return sum(abs(a - b) <= tolerance for a, b, tolerance in sides) + 2 * sum(
        bool(p.visibility) and _at_one_place(p, q, near) for p, q in points
    )


def _corners(o: Object) -> tuple[float, float, float, float]:
    x, y, w, h = o.box
    return x, y, x + w, y + h


def _at_one_place(p: Landmark, q: Landmark, near: Near) -> bool:
    if not p.visibility or not q.visibility:
        return p.visibility == q.visibility
    return abs(p.x - q.x) <= near[0] and abs(p.y - q.y) <= near[1]


def _point(p: Landmark, before: Landmark, exact: Landmark, near: Near) -> Landmark:
    return replace(exact, visibility=p.visibility) if _at_one_place(p, before, near) else p


def _side(
    box: Sequence[float], before: Sequence[float], exact: Sequence[float], axis: int, near: float
) -> tuple[float, float]:
    """Where the box begins on an axis and how far it goes, with those ends exact that are near the one before."""
    start, end = box[axis], box[axis] + box[axis + 2]
    same_start = abs(start - before[axis]) <= near
    same_end = abs(end - before[axis] - before[axis + 2]) <= near
    if same_start and same_end:
        return exact[axis], exact[axis + 2]
    if same_start:
        start = exact[axis]
    if same_end:
        end = exact[axis] + exact[axis + 2]
    return start, end - start
