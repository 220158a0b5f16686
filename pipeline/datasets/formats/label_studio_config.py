"""The labelling interface of a Label Studio project as XML: the names of classes and landmarks, in their order."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset
from pipeline.datasets.formats.reading import label_text

CONFIG = "label_config.xml"
BOX, POINT, HIDDEN, LABEL = "box", "landmark", "hidden", "label"  # the names of the controls, which regions come from


def config_of(dataset: Dataset, boxes: bool = True, images: bool = True) -> str:
    """The interface in which people see, and can correct, what was written: `boxes` with their landmarks, and the
    labels of `images`.

    >>> print(config_of(Dataset("herd", ["cow"])))
    <View>
      <Image name="image" value="$image" rotateControl="false" zoom="true" />
      <RectangleLabels name="box" toName="image" canRotate="false">
        <Label value="cow" />
      </RectangleLabels>
      <Choices name="label" toName="image" choice="single-radio">
        <Choice value="cow" />
      </Choices>
    </View>
    <BLANKLINE>
    """
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image", rotateControl="false", zoom="true")
    if dataset.labels and boxes:
        drawn = SubElement(view, "RectangleLabels", name=BOX, toName="image", canRotate="false")
        _add(drawn, "Label", dataset.labels)
    if dataset.landmarks and boxes:
        points = SubElement(view, "KeyPointLabels", name=POINT, toName="image", strokeWidth="3")
        for number, name in enumerate(dataset.landmarks):  # Label Studio's export to COCO asks for the order
            SubElement(points, "Label", value=name, model_index=str(number))
        asked = {"name": HIDDEN, "toName": "image", "perRegion": "true", "whenTagName": POINT}
        _add(SubElement(view, "Choices", asked), "Choice", ["hidden"])
    if dataset.labels and images:
        _add(SubElement(view, "Choices", name=LABEL, toName="image", choice="single-radio"), "Choice", dataset.labels)
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


@dataclass(slots=True)
class Names:
    """What the controls offer: classes of boxes, classes of images, landmarks."""

    boxes: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    landmarks: list[str] = field(default_factory=list)


def names_in(folder: Path) -> Names:
    """The names in `folder`/label_config.xml; none without it. Raises InputError if it is no XML."""
    file = folder / CONFIG
    if not file.is_file():
        return Names()
    try:
        view = parse(file, forbid_dtd=True).getroot()
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise InputError(f"{file}: not XML: {error}") from None
    of_images = [control for control in view.iter("Choices") if control.get("perRegion") != "true"]
    return Names(
        _names(view.iter("RectangleLabels"), "Label"),
        _names(of_images, "Choice"),
        _names(view.iter("KeyPointLabels"), "Label"),
    )


def _add(control: Element, tag: str, names: list[str]) -> None:
    for name in names:
        SubElement(control, tag, value=name)


def _names(controls: Iterable[Element], tag: str) -> list[str]:
    values = (element.get("value") for control in controls for element in control.iter(tag))
    return list(dict.fromkeys(label_text(value) for value in values if value))
