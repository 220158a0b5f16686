"""Several people's answers on one image: which one counts, and how far they agree."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import Any

from pipeline.annotation.answers import Answer
from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.matching import iou
from pipeline.metrics.metrics import score

ALIKE = 0.7  # IoU from which two people's boxes are of one thing, drawn alike


def one_of(answers: list[Answer], reviewers: list[str]) -> Answer:
    """The answer that counts, of one by each person: a reviewer's, else one that is marked as ground truth, else one of
    those that most agree on, else the newest. Of several such the newest; of skips and answers, an answer.

    >>> a, b, c = (Answer(by, at, by, Sample("1", "1.jpg", 8, 8, label=label)) for by, at, label in
    ...            (("ann", "1", "cow"), ("bob", "2", "cow"), ("cy", "3", "goat")))
    >>> one_of([a, b, c], []).by, one_of([a, c], []).by, one_of([a, b, c], ["ann"]).by
    ('bob', 'cy', 'ann')
    """
    said = [a for a in answers if a.sample is not None] or answers
    for wanted in (
        [a for a in said if a.by in reviewers],
        [a for a in said if a.ground_truth],
        _most_agreed(said),
    ):
        if wanted:
            said = wanted
            break
    return max(said, key=lambda a: a.age)


def _most_agreed(answers: list[Answer]) -> list[Answer]:
    """Those that agree, if they are more than any others that do."""
    groups: list[list[Answer]] = []
    for answer in sorted(answers, key=lambda a: a.age):
        group = next((g for g in groups if agree(g[0].sample, answer.sample)), None)
        if group is None:
            groups.append([answer])
        else:
            group.append(answer)
    sizes = Counter(map(len, groups))
    most = max(sizes)
    return next(g for g in groups if len(g) == most) if most > 1 and sizes[most] == 1 else []


def agree(a: Sample | None, b: Sample | None) -> bool:
    """Whether two people said the same: the same label, and as many objects, each with one of its label in its place.

    >>> from pipeline.core.sample import Object
    >>> left, right = (Sample("1", "1.jpg", 8, 8, objects=[Object("cow", (x, 0, 0.5, 1))]) for x in (0, 0.5))
    >>> agree(left, left), agree(left, right), agree(None, left)
    (True, False, False)
    """
    if a is None or b is None or a.label != b.label or len(a.objects) != len(b.objects):
        return False
    left = list(b.objects)
    for o in a.objects:
        near = [(float(iou([o], [other])[0, 0]), i) for i, other in enumerate(left) if other.label == o.label]
        most, place = max(near, default=(0.0, 0))
        if most < ALIKE:
            return False
        del left[place]
    return True


def ceilings(answers: dict[str, dict[str, Sample]], dataset: Dataset, classify: bool) -> list[dict[str, Any]]:
    """Of each two people the second one judged as a model against the first, on the images that both have answered:
    what a model can at best be expected to reach. `answers` are by person and id.

    >>> cow = Sample("1", "1.jpg", 8, 8, label="cow")
    >>> [found] = ceilings({"ann": {"1": cow}, "bob": {"1": cow}}, Dataset("herd", ["cow"]), True)
    >>> found["truth"], found["judged"], found["figures"]["accuracy"]
    ('ann', 'bob', 1.0)
    """
    rows = []
    for first, second in combinations(sorted(answers), 2):
        both = sorted(answers[first].keys() & answers[second].keys())
        truth, judged = ([answers[who][id] for id in both] for who in (first, second))
        if classify:
            told = [t.label is not None and j.label is not None for t, j in zip(truth, judged, strict=True)]
            truth, judged = ([s for s, yes in zip(some, told, strict=True) if yes] for some in (truth, judged))
        if not truth:
            continue
        sure = [replace(s, objects=[replace(o, score=1.0) for o in s.objects]) for s in judged]
        figures = score("classify" if classify else "detect", truth, sure, dataset)
        rows.append({"truth": first, "judged": second, "images": len(truth), "figures": figures})
    return rows
