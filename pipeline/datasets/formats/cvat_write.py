"""CVAT for images, XML 1.1, written: `annotations.xml` beside `images/`, whose folders are splits.

Landmarks are a skeleton of a label of its own (`cow_points` for the class `cow`), which has one group_id with its box.
Numbers are the shortest that read back as they were; CVAT's own export rounds to hundredths of a pixel.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pipeline.core.sample import ABSENT, HIDDEN, Dataset, Object, Sample
from pipeline.datasets.formats.writing import Lost, Writer, in_pixels
from pipeline.datasets.formats.xml_names import refuse_in_xml

IMAGES = "images"


def _place(split: str | None, name: str) -> str:
    return f"{IMAGES}/{split}/{name}" if split else f"{IMAGES}/{name}"


def _write(folder: Path, dataset: Dataset, samples: Iterable[Sample], lost: Lost) -> None:  # noqa: ARG001
    write_xml(folder / "annotations.xml", dataset, samples)


def write_xml(path: Path, dataset: Dataset, samples: Iterable[Sample]) -> None:
    """The samples in this order, each by its file name without `images/`. Raises InputError for a name of a label or
    landmark that XML cannot hold.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_xml(Path(folder, "a.xml"), Dataset("herd", ["cow"]), [Sample("1", "1.jpg", 64, 48, label="cow")])
    ...     print(Path(folder, "a.xml").read_text().partition("</meta>")[2])
    <BLANKLINE>
      <image id="0" name="1.jpg" width="64" height="48">
        <tag label="cow" source="file" />
      </image>
    </annotations>
    <BLANKLINE>
    """
    refuse_in_xml(dataset)
    skeletons = skeletons_of(dataset)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        _add(file, _meta(dataset, skeletons))
        for number, sample in enumerate(samples):
            _add(file, image_element(sample, number, dataset, skeletons))
        file.write("</annotations>\n")


def labels_of_task(dataset: Dataset) -> list[dict[str, Any]]:
    """The labels as CVAT takes them in the raw form of a task's labels.

    >>> [label["name"] for label in labels_of_task(Dataset("herd", ["cow"], ["nose", "tail"]))]
    ['cow', 'cow_points']
    """
    labels: list[dict[str, Any]] = [{"name": name, "type": "any", "attributes": []} for name in dataset.labels]
    points = [{"name": name, "type": "points", "attributes": []} for name in dataset.landmarks]
    for name in skeletons_of(dataset).values():
        skeleton = {"type": "skeleton", "attributes": [], "svg": _picture(dataset), "sublabels": points}
        labels.append({"name": name, **skeleton})
    return labels


def _add(file: IO[str], element: Element) -> None:
    indent(element, level=1)
    file.write(f"  {tostring(element, encoding='unicode').strip()}\n")


def skeletons_of(dataset: Dataset) -> dict[str, str]:
    """Class -> the label of its skeletons, which no class is called.

    >>> skeletons_of(Dataset("herd", ["cow", "cow_points"], ["nose"]))
    {'cow': 'cow_points_', 'cow_points': 'cow_points_points'}
    """
    found: dict[str, str] = {}
    for label in dataset.labels if dataset.landmarks else []:
        name = f"{label}_points"
        while name in dataset.labels or name in found.values():
            name += "_"
        found[label] = name
    return found


def _meta(dataset: Dataset, skeletons: dict[str, str]) -> Element:
    """Without the labels, CVAT refuses the shapes."""
    meta = Element("meta")
    task = SubElement(meta, "task")
    SubElement(task, "name").text = dataset.name
    SubElement(task, "mode").text = "annotation"
    labels = SubElement(task, "labels")
    for name in dataset.labels:
        _label(labels, name, "any")
    for name in skeletons.values():
        SubElement(_label(labels, name, "skeleton"), "svg").text = _picture(dataset)
        for landmark in dataset.landmarks:
            SubElement(_label(labels, landmark, "points"), "parent").text = name
    return meta


def _label(labels: Element, name: str, kind: str) -> Element:
    label = SubElement(labels, "label")
    SubElement(label, "name").text = name
    SubElement(label, "type").text = kind
    SubElement(label, "attributes")
    return label


def _picture(dataset: Dataset) -> str:
    """The skeleton as SVG without its root: landmarks on a circle, the places in percent; CVAT draws it as it likes."""
    step = 2 * math.pi / len(dataset.landmarks)
    places = [(50 + 40 * math.sin(i * step), 50 - 40 * math.cos(i * step)) for i in range(len(dataset.landmarks))]
    parts = []
    for a, b in dataset.skeleton:
        ends = {f"{axis}{end}": f"{places[i][k]:.1f}" for end, i in ((1, a), (2, b)) for k, axis in enumerate("xy")}
        ends |= {"data-type": "edge", "data-node-from": str(a + 1), "data-node-to": str(b + 1)}
        parts.append(Element("line", ends))
    for i, (name, (x, y)) in enumerate(zip(dataset.landmarks, places, strict=True), 1):
        said = {"r": "1.5", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "data-type": "element node", "data-element-id": str(i)}
        parts.append(Element("circle", {**said, "data-node-id": str(i), "data-label-name": name}))
    return "".join(tostring(part, encoding="unicode") for part in parts)


def image_element(sample: Sample, number: int, dataset: Dataset, skeletons: dict[str, str]) -> Element:
    """One image as the XML has it, with `number` as its id; `skeletons` as of `skeletons_of`.

    >>> [shape.tag for shape in image_element(Sample("1", "1.jpg", 64, 48, label="cow"), 0, Dataset("a", ["cow"]), {})]
    ['tag']
    """
    name = sample.file_name.removeprefix(f"{IMAGES}/")  # what CVAT calls it in a task of the whole folder
    said = {"id": str(number), "name": name} | ({"subset": sample.split} if sample.split else {})
    image = Element("image", {**said, "width": str(sample.width), "height": str(sample.height)})
    for group, o in enumerate(sample.objects, 1):
        image.extend(_shapes(o, group, sample, dataset.landmarks, skeletons))
    if sample.label is not None:
        SubElement(image, "tag", {"label": sample.label, "source": "file"})
    return image


def _shapes(o: Object, group: int, sample: Sample, names: list[str], skeletons: dict[str, str]) -> Iterator[Element]:
    """The box, and the skeleton if a landmark is labelled."""
    x, y, w, h = o.box
    sides = (sample.width, sample.height)
    corners = zip(("xtl", "ytl", "xbr", "ybr"), (x, y, x + w, y + h), sides * 2, strict=True)
    known = any(p.visibility for p in o.landmarks)
    common = {"source": "file", "z_order": "0"} | ({"group_id": str(group)} if known else {})
    place = {key: str(in_pixels(value, side)) for key, value, side in corners}
    yield Element("box", {"label": o.label, "occluded": "0", **place, **common})
    if not known:
        return
    skeleton = Element("skeleton", {"label": skeletons[o.label], **common})
    for name, p in zip(names, o.landmarks, strict=True):
        at = (x + w / 2, y + h / 2) if p.visibility == ABSENT else (p.x, p.y)  # where a person looks for it
        flags = {"outside": str(int(p.visibility == ABSENT)), "occluded": str(int(p.visibility == HIDDEN))}
        points = ",".join(str(in_pixels(value, side)) for value, side in zip(at, sides, strict=True))
        SubElement(skeleton, "points", {"label": name, "source": "file", **flags, "points": points})
    yield skeleton


WRITER = Writer(
    place=_place,
    write=_write,
    keeps=frozenset({"image_labels", "boxes", "landmarks", "hidden", "splits", "lone_split", "classes", "skeleton"}),
)
