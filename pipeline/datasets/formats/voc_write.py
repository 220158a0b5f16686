"""Pascal VOC, written: `JPEGImages/`, `Annotations/` with an XML file per image, splits as lists in `ImageSets/Main/`.

Classes are listed in `labelmap.txt`, without which CVAT and Datumaro take those of VOC alone. Corners are whole pixels
that count from 1, as in VOC's own files: each side of a box is off by up to half a pixel.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pipeline.core.files import write_text
from pipeline.core.sample import Dataset, Object, Sample
from pipeline.datasets.formats.reading import IMAGE_SUFFIXES, Problem, label_text
from pipeline.datasets.formats.split_lists import IMAGE_SETS, VOC_IMAGES
from pipeline.datasets.formats.writing import Lost, Writer
from pipeline.datasets.formats.xml_names import refuse_in_xml

LABELMAP, LABELMAP_HEAD = "labelmap.txt", "# label:color_rgb:parts:actions"
SPACE = "{http://www.w3.org/XML/1998/namespace}space"
NARROWEST = 2  # pixels; corners that are one pixel are taken for a slip, here and elsewhere
Corners = tuple[int, int, int, int]
Written = tuple[str, Corners]


def _place(split: str | None, name: str) -> str:  # noqa: ARG001 (lists say the split)
    return f"{VOC_IMAGES}/{name}"


def _write(folder: Path, dataset: Dataset, samples: Iterable[Sample], lost: Lost) -> None:
    refuse_in_xml(dataset)
    lines = [LABELMAP_HEAD, *(f"{label_text(label)}:::" for label in dataset.labels)]
    write_text(folder / LABELMAP, "".join(f"{line}\n" for line in lines))
    (folder / IMAGE_SETS).mkdir(parents=True)
    with ExitStack() as stack:
        lists: dict[str, IO[str]] = {}
        for sample in samples:
            path = PurePosixPath(sample.file_name).relative_to(VOC_IMAGES)
            write_text(folder / "Annotations" / f"{path.with_suffix('')}.xml", _xml(sample, lost))
            if sample.split is None:
                continue
            if sample.split not in lists:
                file = folder / IMAGE_SETS / f"{sample.split}.txt"
                lists[sample.split] = stack.enter_context(file.open("w", encoding="utf-8", newline="\n"))
            lists[sample.split].write(f"{_entry(path)}\n")


def _entry(path: PurePosixPath) -> str:
    """The line of a list: the name without its suffix, where what is left does not look like one with a suffix.

    It is in quotes, as Datumaro has them, where a reader would take off something at its ends.
    """
    stem = path.with_suffix("")
    said = str(path if stem.suffix.lower() in IMAGE_SUFFIXES else stem)
    quoted = said != said.strip() or (len(said) > 2 and said[0] == said[-1] == '"')
    return f'"{said}"' if quoted else said


def _xml(sample: Sample, lost: Lost) -> str:
    path = PurePosixPath(sample.file_name)
    root = Element("annotation")
    SubElement(root, "folder").text = str(path.parent)
    SubElement(root, "filename").text = path.name
    size = SubElement(root, "size")
    for key, value in (("width", sample.width), ("height", sample.height), ("depth", 3)):
        SubElement(size, key).text = str(value)
    SubElement(root, "segmented").text = "0"
    there: set[Written] = set()
    for number, o in enumerate(sample.objects, 1):
        corners = _corners(o, sample, lost)
        if fault := _fault(o, corners, there):
            lost.problems.append(Problem(sample.file_name, f"object {number}", "not_kept", fault, "dropped"))
        else:
            there.add((o.label, corners))
            root.append(_object(o, corners))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _fault(o: Object, corners: Corners, there: set[Written]) -> str:
    if corners[2] <= corners[0] or corners[3] <= corners[1]:
        return f"{o.label}: an image of one pixel has no box in VOC"
    return f"{o.label}: in whole pixels it is the box of another one" if (o.label, corners) in there else ""


def _object(o: Object, corners: Corners) -> Element:
    thing = Element("object")
    name = SubElement(thing, "name", {SPACE: "preserve"} if o.label != o.label.strip() else {})
    name.text = o.label
    for key, said in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
        SubElement(thing, key).text = said
    box = SubElement(thing, "bndbox")
    for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
        SubElement(box, key).text = str(value)
    return thing


def _corners(o: Object, sample: Sample, lost: Lost) -> Corners:
    """xmin, ymin, xmax, ymax: the first and the last pixel, from 1."""
    x, y, w, h = o.box
    left, right, wider = _ends(x, w, sample.width)
    top, bottom, higher = _ends(y, h, sample.height)
    if wider or higher:
        words = "boxes narrower than two pixels, written as wide as that: corners in one pixel are taken for a slip"
        lost.count("box_widened", words, sample.file_name)
    return left + 1, top + 1, right, bottom


def _ends(start: float, length: float, side: int) -> tuple[int, int, bool]:
    """Where a box starts and ends in whole pixels from 0, and whether it had to be made longer for that."""
    first, last = (min(max(round(value * side), 0), side) for value in (start, start + length))
    if last - first >= NARROWEST:
        return first, last, False
    first = max(0, min(round((start + length / 2) * side - NARROWEST / 2), side - NARROWEST))
    return first, min(first + NARROWEST, side), True


WRITER = Writer(
    place=_place,
    write=_write,
    keeps=frozenset({"boxes", "splits", "lone_split", "classes"}),
    tolerance=0.5,
    stems=True,
)
