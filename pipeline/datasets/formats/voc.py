"""Pascal VOC XML: one file per image, boxes as corner pixels (Everingham et al., VOC development kit).

VOC counts pixels from 1 and both corners belong to the box, so the box spans (xmin - 1, ymin - 1) to (xmax, ymax).
Tools that count from 0 write the same XML: a set in which some corner is 0 is taken so, and nothing is subtracted.
In a VOCdevkit with the folders of several years each has its own images, lists and first pixel.
A `difficult` object is an ordinary one here. Lists, as those in ImageSets/Main/, give the splits, else folders do.
"""

import re
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from pipeline.core.errors import InputError, shown
from pipeline.core.files import open_file
from pipeline.core.lines import first_bytes, read_rows
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.format import Format, NoOptions
from pipeline.datasets.formats.image_index import ImageIndex, one_form
from pipeline.datasets.formats.reading import (
    Problem,
    Reading,
    files_under,
    give_ids,
    label_text,
    relative,
    without_suffix,
)
from pipeline.datasets.formats.split_lists import VOC_IMAGES, Ends, Given, matched, place, split_lists
from pipeline.datasets.formats.voc_objects import candidate_of, has_zero, twice
from pipeline.datasets.formats.voc_write import LABELMAP, LABELMAP_HEAD, WRITER

MASKS = ("SegmentationClass", "SegmentationObject")
OTHER_NAME = "other_name"
ELSEWHERE = re.compile(r"[/\\]|[A-Za-z][A-Za-z0-9+.-]*:")  # how a path of a machine, or an address, begins


def read(path: Path, labels: Path, options: NoOptions) -> Reading:  # noqa: ARG001 (every format is called alike)
    """Every XML file under `labels` with its image under `path`. Raises InputError if there is none.

    >>> from tempfile import TemporaryDirectory
    >>> size = "<width>100</width><height>50</height>"
    >>> box = "<xmin>1</xmin><ymin>1</ymin><xmax>50</xmax><ymax>25</ymax>"
    >>> cow = f"<object><name>cow</name><bndbox>{box}</bndbox></object>"
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "a.jpg").touch()
    ...     _ = Path(folder, "a.xml").write_text(f"<annotation><size>{size}</size>{cow}</annotation>")
    ...     reading = read(Path(folder), Path(folder), NoOptions())
    >>> [(o.label, o.box) for o in reading.candidates[0].objects]
    [('cow', (0.0, 0.0, 0.5, 0.5))]
    """
    files = sorted(files_under(labels, {".xml"}))
    if not files:
        raise InputError(f"{labels}: no .xml files; expected one per image")
    images = ImageIndex(path)
    reading = Reading([], [])
    trees, damaged = _trees(files, images, reading, labels)
    parts = {name: _part_of(file, path) for name, (file, _) in trees.items()}
    from_zero = {parts[name] for name, (_, root) in trees.items() if has_zero(root)}
    _say_other_names(reading)
    for name, (_, root) in sorted(trees.items()):
        base = 0 if parts[name] in from_zero else 1
        if candidate := candidate_of(name, root, images.names[name], base, reading):
            reading.candidates.append(candidate)
    beside = {name: relative(file, labels, path) for name, (file, _) in trees.items()}
    given = _given_by_years(parts, images, reading, path)
    place(reading, path, images.names, [] if given else split_lists(reading, path, labels), given, beside)
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    used = {o.label for c in reading.candidates for o in c.objects}
    known = _listed(labels / LABELMAP, used)
    reading.labels = [*known, *sorted(used - set(known))]
    without = sorted(images.names.keys() - trees.keys() - damaged)
    masks = {name for name in without if PurePosixPath(name).parent.name in MASKS}
    if masks:
        found = f"{len(masks)} masks, as {min(masks)}; not read"
        reading.problems.append(Problem("", "", "not_read", found, "noted"))
    for name in (name for name in without if name not in masks):
        reading.problems.append(Problem(name, "", "no_label", "an image without an XML file"))
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    other = None
    for count, file in enumerate(files_under(labels, {".xml"})):
        if count > 20:  # a folder may be full of other XML files
            break
        if re.search(rb"<annotation[\s>]", first_bytes(file, 2000).replace(b"\0", b"")):  # of UTF-16 too
            return f"Pascal VOC annotations such as {relative(file, labels)}"
        other = other or file
    if other:
        raise InputError(f"{other}: XML, but no <annotation> in it")
    return None


class _DamagedError(Exception):
    """An XML file that cannot be taken: the ledger's rule, and what was found."""


def _trees(
    files: list[Path], images: ImageIndex, reading: Reading, labels: Path
) -> tuple[dict[str, tuple[Path, Element]], set[str]]:
    """Image -> its XML file and the root in it; and the images of files that are damaged, which are refused here."""
    trees: dict[str, tuple[Path, Element]] = {}
    damaged: set[str] = set()
    for file in files:
        where, part = relative(file, labels, images.root), _part_of(file, images.root)
        try:
            root = _parse(file)
        except _DamagedError as error:
            rule, found = error.args
            if image := _image_of(file, Element("annotation"), images, Reading([], []), labels, part):
                damaged.add(image)
                found = f"{found}; the image is {image}"
            reading.problems.append(Problem(where, "", rule, found))
            continue
        if root.tag != "annotation":
            found = f"<{root.tag}>, expected <annotation>"
            reading.problems.append(Problem(where, "", "not_voc", found, "noted"))
            continue
        name = _image_of(file, root, images, reading, labels, part)
        if name and name in trees:
            found = f"labels for {name}, as in {relative(trees[name][0], labels, images.root)}"
            reading.problems.append(Problem(where, "", "listed_twice", found))
        elif name:
            trees[name] = (file, root)
        if not name or trees[name][1] is not root:
            reading.lost += len(root.findall("object"))
    return trees, damaged


def _parse(file: Path) -> Element:
    try:
        with open_file(file) as opened:
            root: Element = parse(opened).getroot()
    except InputError as error:
        raise _DamagedError("bad_xml", str(error).removeprefix(f"{file}: ")) from None
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise _DamagedError("bad_xml", str(error)) from None
    if root.tag == "annotation" and (double := twice(root, "filename", "size")):
        raise _DamagedError("bad_row", double)
    return root


def _part_of(file: Path, path: Path) -> str:
    """The folder of a VOCdevkit that an XML file belongs to, relative to `path`: "VOC2007/"; "" where there is but one.

    Two years have the same names for other images, and may count their pixels from 0 and from 1.
    """
    above = file.parent
    while above.name != "Annotations" and above != above.parent:
        above = above.parent
    if above.parent == path or not above.parent.is_relative_to(path) or not (above.parent / VOC_IMAGES).is_dir():
        return ""
    return f"{above.parent.relative_to(path).as_posix()}/"


def _given_by_years(parts: dict[str, str], images: ImageIndex, reading: Reading, path: Path) -> list[Given]:
    """What the lists in the folders of a VOCdevkit say, each of the images in its own folder."""
    given = []
    for part in sorted(set(parts.values()) - {""}):
        before = len(reading.problems)
        lists = split_lists(reading, path / part, path / part)
        for problem in reading.problems[before:]:
            problem.file = f"{part}{problem.file}"
        names = [name for name in images.names if name.startswith(f"{part}{VOC_IMAGES}/")]
        given += matched(lists, Ends(names), reading, path)
    return given


def _image_of(file: Path, root: Element, images: ImageIndex, reading: Reading, labels: Path, part: str) -> str | None:
    """The name of the image that the XML file labels: the one of the same name, else the one it says."""
    said = (root.findtext("filename") or "").strip()
    own = said.replace("\\", "/").rpartition("/")[2]
    folder, where = images.folder_of(file, labels), relative(file, labels, images.root)
    near = (f"{part}{VOC_IMAGES}", VOC_IMAGES, "images")
    twin = PurePosixPath(re.sub(r"(^|/)Annotations(?=/|$)", rf"\1{VOC_IMAGES}", folder, count=1))
    there = (twin / own).as_posix()
    if PurePosixPath(own).stem == file.stem and there in images.names and (said == own or said not in images.names):
        return there
    wanted = [PurePosixPath(folder, file.stem).as_posix()]
    if said:
        inner, _, bare = said.replace("\\", "/").rpartition("/")
        wanted += [said] if bare != said else [PurePosixPath(folder, said).as_posix()]
        own_name = one_form(PurePosixPath(bare).stem) == one_form(file.stem)
        if own_name and inner and not folder and not ELSEWHERE.match(said):
            wanted = [said]  # it says the folder too, which the XML's own name does not
    tried = [images.find(name, folder if name == said else "", near) for name in wanted]
    tried = [[name for name in found if name.startswith(part)] for found in tried]
    if one := next((found[0] for found in tried if len(found) == 1), None):
        if others := [found[0] for found in tried if len(found) == 1 and found[0] != one]:
            note = f"taken for {shown(one)}, which is called like it, and not for {shown(others[0])}"
            reading.problems.append(Problem(where, "", OTHER_NAME, note, "noted"))
        return one
    fault = images.fault(wanted[-1], max(tried, key=len), f"no one image {file.stem} or {said or '-'}")
    reading.problems.append(Problem(where, "", *fault))
    return None


def _say_other_names(reading: Reading) -> None:
    """One row for all of `other_name`: of a set whose images were given new names every file has one."""
    others = [p for p in reading.problems if p.rule == OTHER_NAME]
    if others:
        found = f"{len(others)} XML files whose <filename> is another image that is here, as {others[0].file}: "
        reading.problems = [p for p in reading.problems if p.rule != OTHER_NAME]
        reading.problems.append(Problem("", "", OTHER_NAME, f"{found}{others[0].found}", "noted"))


def _listed(file: Path, used: set[str]) -> list[str]:
    """The classes in a labelmap.txt, as CVAT and Datumaro have it; none without. That of masks for nothing is none."""
    if not file.is_file():
        return []
    rows = [line.rsplit(":", 3) for line in read_rows(file).split("\n") if line.strip() != LABELMAP_HEAD]
    names = {label_text(row[0]): row[1] for row in rows if len(row) == 4 and row[0]}
    return [name for name, color in names.items() if name in used or (name, color) != ("background", "0,0,0")]


FORMAT = Format(
    name="voc",
    tasks=("localize", "detect"),
    Options=NoOptions,
    read=read,
    looks_for="XML files with an annotation as their root",
    recognize=recognize,
    rank=40,  # a root element that other XML does not have
    write=WRITER,
    sign=signs.VOC,
)
