"""What one XML file of Pascal VOC says: the size of its image, and its objects."""

import math
from pathlib import Path
from xml.etree.ElementTree import Element

from pipeline.core.sample import Object
from pipeline.datasets.formats.reading import Candidate, Problem, Reading, label_text, upright_size
from pipeline.datasets.formats.values import number
from pipeline.datasets.formats.voc_write import SPACE

CORNERS = ("xmin", "ymin", "xmax", "ymax")
SIDES = 1 << 24  # pixels; a larger side is a mistake


def twice(element: Element, *tags: str) -> str:
    """What is to be said of an element that has one of `tags` more than once: which is meant nobody can say."""
    counts = {tag: len(element.findall(tag)) for tag in tags}
    return ", ".join(f"{count} <{tag}>, expected one" for tag, count in counts.items() if count > 1)


def has_zero(root: Element) -> bool:
    """Whether a corner is at 0, or above by less than a pixel, as where pixels count from 1 none is."""
    corners = (_number(box, corner) for box in root.iter("bndbox") for corner in ("xmin", "ymin"))
    return any(0 <= corner < 1 for corner in corners)


def _number(element: Element, name: str) -> float:
    try:
        return number(element.findtext(name), finite=False)
    except ValueError:
        return math.nan


def _said_size(root: Element) -> tuple[int, int] | None:
    """The size that the XML says, if it is one."""
    width, height = _number(root, "size/width"), _number(root, "size/height")
    return (int(width), int(height)) if all(1 <= side < SIDES for side in (width, height)) else None


def candidate_of(name: str, root: Element, file: Path, base: int, reading: Reading) -> Candidate | None:
    """The image `name` with the objects of its XML, whose pixels count from `base`; None, with a row, where the image
    cannot be read or all objects stand in the wrong place.
    """
    try:
        said = _said_size(root)
        unsized, size = said is None, said or upright_size(file)
    except ValueError as error:
        reading.problems.append(Problem(name, "size", "unreadable", str(error)))
        reading.lost += len(root.findall("object"))
        return None
    things = root.findall("object")
    if strays := sum(element.tag.lower() == "object" for element in root.iter()) - len(things):
        found = f"{strays} objects that are no <object> right below <annotation>"
        reading.problems.append(Problem(name, "", "bad_row", found, "dropped" if things else "refused"))
        reading.lost += strays
        if not things:
            return None
    candidate = Candidate(file, name, size=size, unsized=unsized)
    for nth, thing in enumerate(things, 1):
        key = f"object {nth}"
        if double := twice(thing, "name", "bndbox"):
            reading.problems.append(Problem(name, key, "bad_row", double, "dropped"))
            continue
        try:
            left, top, right, bottom = (_corner(thing, corner) for corner in CORNERS)
        except ValueError as error:
            reading.problems.append(Problem(name, key, "bad_box", str(error), "dropped"))
            continue
        if not (label := _label(thing)):
            reading.problems.append(Problem(name, key, "unknown_class", "no <name>", "dropped"))
            continue
        # a box whose corners are one pixel is a mistake of labelling
        w = right - left + base if right > left else min(0.0, right - left)
        h = bottom - top + base if bottom > top else min(0.0, bottom - top)
        box = ((left - base) / size[0], (top - base) / size[1], w / size[0], h / size[1])
        candidate.objects.append(Object(label, box))
        candidate.keys.append(key)
    return candidate


def _corner(thing: Element, name: str) -> float:
    if thing.find("bndbox") is None:
        raise ValueError(
            "no <bndbox>" if thing.find("polygon") is None else "a <polygon>, not read; expected a <bndbox>"
        )
    return number(thing.findtext(f"bndbox/{name}"), name, finite=False)


def _label(thing: Element) -> str:
    """The class; blanks at its ends are those of the file's layout, unless XML's own attribute says otherwise."""
    name = thing.find("name")
    text = "" if name is None else name.text or ""
    return label_text(text if name is not None and name.get(SPACE) == "preserve" else text.strip())
