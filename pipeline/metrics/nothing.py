"""What is to be said where a net finds nothing: its figures are 0 or undefined, and say nothing else."""

from collections.abc import Sequence

from pipeline.core.sample import Sample
from pipeline.metrics.matching import MATCH_IOU, match
from pipeline.metrics.metrics import one_object

NOTHING_TO_LOSE = "nothing to lose"  # of a file that passes, as the trained model finds nothing either
TOUCHING = 1e-9  # the IoU that counts where there is one object an image


def nothing_found(task: str, truth: Sequence[Sample], shown: Sequence[Sample], score: float | None) -> str:
    """Why the objects that are `shown`, from `score` on, find none of `truth`; "" where one is found, where there is
    nothing to find, and of a classifier. Both lists are in one order.

    >>> from pipeline.core.sample import Object
    >>> truth = Sample("a", "a.jpg", 8, 8, objects=[Object("cow", (0, 0, 0.5, 0.5))])
    >>> nothing_found("detect", [truth], [Sample("a", "a.jpg", 8, 8)], 0.4)
    'nothing is found: no object has a score of 0.4 or more'
    """
    wanted = sum(not o.crowd for t in truth for o in t.objects)
    if task == "classify" or not wanted:
        return ""
    if any(_finds(task, t, p) for t, p in zip(truth, shown, strict=True)):
        return ""
    many = sum(len(p.objects) for p in shown)
    if not many:
        above = "" if score is None else f" has a score of {score:g} or more"
        return f"nothing is found: no object{above or ' is answered'}"
    where = "touches one" if task == "localize" else f"lies on one of its label, at an IoU of {MATCH_IOU:g}"
    return f"nothing is found: there are {wanted} objects, and of the {many} that are answered none {where}"


def _finds(task: str, truth: Sample, shown: Sample) -> bool:
    """A localizer the one object, whatever it calls it; a detector one of the label."""
    if task != "localize":
        return bool(match(truth.objects, shown.objects))
    wanted, found = one_object(truth), one_object(shown)
    return bool(wanted and found and match([wanted], [found], by_label=False, least=TOUCHING))
