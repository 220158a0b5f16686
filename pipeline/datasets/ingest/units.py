"""Whether a whole set looks like labels in another unit, or another convention, than its format has.

One box of a third of a pixel is a slip; a set of nothing else is a set of shares that were read as pixels. No rule on
single labels sees that, so the set is asked as a whole.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.core.sample import ABSENT
from pipeline.datasets.formats.points import UNSET
from pipeline.datasets.formats.reading import Candidate, Problem, Reading
from pipeline.datasets.ingest.take import Taken

TINY = 2.0  # pixels
SPILL = 1.0  # pixels over the edge
FEW = 5  # boxes or images, with fewer of which little can be said of most
PERCENT, FAR = 100.0, 200  # boxes that all end before this pixel, on images whose sides are at least so long
MANY = 20  # boxes, of which the same cannot be by chance
SAME_SPOT = 0.1  # of the objects that have the landmark
DIM = 255 // 16  # the brightest value of an image that uses a sixteenth of its range


@dataclass(slots=True)
class _Seen:
    """An image that was decoded, and what holds an object of it with its landmarks, in pixels of the labels' size."""

    candidate: Candidate
    taken: Taken
    box: tuple[float, float, float, float]
    size: tuple[int, int]

    def spills(self) -> bool:
        x, y, w, h = self.box
        return min(x, y) < -SPILL or x + w > self.size[0] + SPILL or y + h > self.size[1] + SPILL

    def __str__(self) -> str:
        shown = ", ".join(f"{v:.4g}" for v in self.box)
        return f"x, y, w, h of {shown} px in {self.candidate.name} ({self.size[0]} x {self.size[1]})"


def doubts(reading: Reading, taken: Sequence[Taken]) -> list[str]:
    """What makes the set look like one in another unit or convention: a sentence each, with the numbers.

    >>> from pathlib import Path
    >>> from pipeline.core.sample import Object
    >>> box = Object("cow", (0.001, 0.001, 0.002, 0.004))
    >>> reading = Reading([Candidate(Path("a.jpg"), "a.jpg", objects=[box], size=(100, 100))], ["cow"])
    >>> doubts(reading, [Taken(size=(100, 100))])[0][:34]
    'all 1 boxes are below two pixels, '
    """
    said = [_of_boxes(list(_boxes(reading, taken))), _of_landmarks(reading), _of_pixels(reading, taken)]
    return [sentence for sentence in said if sentence]


def _of_boxes(boxes: list[_Seen]) -> str | None:
    tiny = [b for b in boxes if max(b.box[2:]) < TINY]
    spilling = [b for b in boxes if b.spills()]
    turned = [b for b in boxes if b.taken.orientation > 1 and b.candidate.unsized]
    sideways = [b for b in turned if b.spills()]
    if boxes and len(tiny) == len(boxes):
        found = f"all {len(boxes)} boxes are below two pixels, such as {tiny[0]}"
        return f"{found}: are they in another unit, as shares (0 to 1) for pixels?"
    if len(turned) >= FEW and 2 * len(sideways) > len(turned) and len(sideways) == len(spilling):
        found = f"{len(sideways)} of {len(turned)} boxes on images that EXIF turns reach over the edge"
        return f"{found}, such as {sideways[0]}: were they made for the images as they are stored?"
    if len(boxes) >= FEW and 2 * len(spilling) > len(boxes):
        found = f"{len(spilling)} of {len(boxes)} boxes reach over the edge or lie outside, such as {spilling[0]}"
        return (
            f"{found}: are they in another unit, as pixels or percent for shares, or corners for a corner and a size?"
        )
    if len(boxes) >= MANY and all(_as_percent(b) for b in boxes):
        found = f"all {len(boxes)} boxes lie in the first {PERCENT:.0f} pixels of images of {FAR} and more"
        return f"{found}, such as {boxes[0]}: are they percent for pixels?"
    return None


def _of_landmarks(reading: Reading) -> str | None:
    if not reading.unseen or any(p.visibility for c in reading.candidates for o in c.objects for p in o.landmarks):
        return None
    found = f"none of {reading.unseen} landmarks that have a place counts as labelled, for their visibility is 0"
    return f"{found}: expected 1 (hidden) or 2 (visible) for those that are"


def _of_pixels(reading: Reading, taken: Sequence[Taken]) -> str | None:
    brightest = {c.name: t.brightest for c, t in zip(reading.candidates, taken, strict=True) if t.brightest is not None}
    dim = [name for name, most in brightest.items() if most <= DIM]
    if len(dim) < FEW or 2 * len(dim) <= len(brightest):
        return None
    found = f"{len(dim)} of {len(brightest)} images use a sixteenth of their range or less, such as {dim[0]}"
    return f"{found}: are they 12 bits in 16, or masks? Values that fill the range are expected"


def notes(reading: Reading, taken: Sequence[Taken]) -> list[Problem]:
    """Rows for the ledger: landmarks that lie at one spot in many objects, images that EXIF turns under labels which do
    not say for what size they were made.

    >>> from pathlib import Path
    >>> from pipeline.core.sample import Object, Sample
    >>> box, sample = Object("cow", (0, 0, 1, 1)), Sample("1", "1.jpg", 9, 6)
    >>> cow = Candidate(Path("1.jpg"), "1.jpg", objects=[box], unsized=True)
    >>> [row.rule for row in notes(Reading([cow] * 5, ["cow"]), [Taken([sample], orientation=6)] * 5)]
    ['turned_unsized']
    """
    found = []
    spots = {name: Counter(_spots(reading, place)) for place, name in enumerate(reading.landmarks)}
    often = {name: count for name, count in spots.items() if count.total() >= FEW}
    fixed = {name: spot for name, count in often.items() if (spot := _fixed(count))}
    if len(fixed) < len(often):  # where no landmark varies, the images are aligned, or drawn
        found = [Problem("", name, "landmark_same_spot", spot, "noted") for name, spot in fixed.items()]
    turned = [
        c.name
        for c, t in zip(reading.candidates, taken, strict=True)
        if c.objects and t.orientation > 1 and c.unsized and t.samples
    ]
    if len(turned) >= FEW:
        what = f"{len(turned)} images are turned by EXIF, under labels without a size; taken as made for what is seen"
        found.append(Problem(turned[0], "", "turned_unsized", what, "noted"))
    return found


def _boxes(reading: Reading, taken: Sequence[Taken]) -> Iterator[_Seen]:
    for candidate, one in zip(reading.candidates, taken, strict=True):
        size = candidate.size or one.size
        if size is None or one.size is None or candidate.crop:
            continue
        for o in (o for marks in (candidate.marks or {}).values() for o in marks):  # in pixels
            if min(o.box[2:]) > 0 and all(map(math.isfinite, o.box)):
                yield _Seen(candidate, one, o.box, size)
        for o in candidate.objects:
            x, y, w, h = o.box
            points = [(p.x * size[0], p.y * size[1]) for p in o.landmarks if p.visibility]
            points = [p for p in points if (round(p[0], 3), round(p[1], 3)) not in UNSET]
            if min(w, h) > 0:
                points += [(x * size[0], y * size[1]), ((x + w) * size[0], (y + h) * size[1])]
            xs, ys = ([p[axis] for p in points] for axis in (0, 1))
            if len(points) > 1 and all(map(math.isfinite, xs + ys)):
                yield _Seen(candidate, one, (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), size)


def _fixed(spots: Counter[tuple[float, float]]) -> str | None:
    """Where the landmark lies again and again, in words."""
    ((x, y), count), *_ = spots.most_common(1)
    if count < max(FEW, SAME_SPOT * spots.total()):
        return None
    return f"at {x:g}, {y:g} in {count} of {spots.total()} objects that have it"


def _as_percent(seen: _Seen) -> bool:
    x, y, w, h = seen.box
    return min(seen.size) >= FAR and max(x + w, y + h) <= PERCENT


def _spots(reading: Reading, place: int) -> Iterator[tuple[float, float]]:
    """Where the landmark lies in each object that has it, in pixels where the labels' size is known."""
    for candidate in reading.candidates:
        w, h = candidate.size or (1, 1)
        for o in candidate.objects:
            if place < len(o.landmarks) and (p := o.landmarks[place]).visibility != ABSENT:
                yield round(p.x * w, 3), round(p.y * h, 3)
