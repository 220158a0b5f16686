"""The images and annotations of a COCO file: rows that refer to each other by ids, which are checked."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError, shown
from pipeline.core.sample import ABSENT, HIDDEN, VISIBLE, Landmark, Object
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.keys import brief, id_text
from pipeline.datasets.formats.reading import Candidate, Problem, Reading, landmark, split_of, upright_size
from pipeline.datasets.formats.split_folders import folders_of
from pipeline.datasets.formats.values import flag, four, number

LONGEST = 1 << 24  # pixels: a side that is longer is a mistake, as is none


class CocoRows:
    """The images and annotations of one file as candidates. `place` is the file's folder and name for `find`."""

    def __init__(
        self,
        file: Path,
        content: dict[str, Any],
        where: str,
        place: tuple[str, str],
        names: dict[str, str],
        reading: Reading,
        images: ImageIndex,
        split: str | None,
    ):
        self.file, self.content, self.where, self.names, self.reading = file, content, where, names, reading
        (self.folder, self.called), self.images, self.split = place, images, split
        # a single file is the whole set, whatever split its name has, and its images still lie in that folder
        self.near = ("images", *folders_of(split or split_of(file.stem), images.names))
        self.ids: Counter[str | None] = Counter()  # of annotations
        self.texts: set[str] = set()  # image ids that are text in the file
        self.category_texts = {row["id"] for row in content["categories"] if isinstance(row["id"], str)}
        self.other_type: Counter[str] = Counter()
        self.odd_visibility: tuple[int, float] = 0, 0.0  # how many, and the first of them

    def candidates(self) -> list[Candidate]:
        """Raises InputError for an id, or a file, that two image rows have."""
        by_image: dict[str, Candidate | None] = {}  # id as text -> what it is, None where that was refused
        for row, key in self._images():
            by_image[key] = self._image(row, f"image {row['id']}")
        ids: dict[str, str] = {}
        for key, candidate in by_image.items():
            if candidate and ids.setdefault(candidate.name, key) != key:
                raise InputError(
                    f"{self.file}: images {ids[candidate.name]} and {key} are both {shown(candidate.name)}; "
                    f"expected each image once"
                )
        for row in self.content["annotations"]:
            self._annotation(row, by_image)
        self._say_of_ids()
        count, first = self.odd_visibility
        if count:
            found = f"{count} keypoints with a visibility as {first:g}, expected 0, 1 or 2; below 1 taken as 0"
            self._problem("keypoints", "odd_visibility", f"{found}, below 2 as 1, else as 2", "noted")
        return [candidate for candidate in by_image.values() if candidate]

    def _images(self) -> Iterator[tuple[dict[str, Any], str]]:
        """The image rows that can be used, each with its id as text."""
        rows: dict[str, dict[str, Any]] = {}
        for row in self.content["images"]:
            if not isinstance(row, dict):
                self._problem(brief(row), "bad_row", "an image that is not an object")
                continue
            key, name = id_text(row.get("id")), row.get("file_name")
            if key is None or not isinstance(name, str) or not name:
                found = f"id {brief(row.get('id'))}, file_name {brief(name)}; expected a number or text, and a name"
                self._problem(f"image {brief(row.get('id'))}", "bad_row", found)
            elif key not in rows:
                rows[key] = row
            elif (first := rows[key]["file_name"]) == name:
                self._problem(f"image {key}", "duplicate_id", "the row stands there twice", "noted", name)
            else:
                as_text = "" if type(row["id"]) is type(rows[key]["id"]) else ", once as a number and once as text"
                raise InputError(
                    f"{self.file}: image id {key} is {shown(first)} and {shown(name)}{as_text}; "
                    f"expected each id once: where several files were put into one, the ids begin again"
                )
        self.texts = {key for key, row in rows.items() if isinstance(row["id"], str)}
        yield from ((row, key) for key, row in rows.items())

    def _annotation(self, row: Any, by_image: dict[str, Candidate | None]) -> None:
        if not isinstance(row, dict):
            self._problem(brief(row), "bad_row", "not an object", "dropped")
            return
        key, image, label = (id_text(row.get(name)) for name in ("id", "image_id", "category_id"))
        self.ids[key] += 1
        named = f"annotation {brief(row.get('id')) if key is None else key}"
        wrong = [name for name, value in (("image_id", image), ("category_id", label)) if value is None]
        if wrong or image is None or label is None:
            found = f"{wrong[0]} {brief(row.get(wrong[0]))}; expected a number or text"
            self._problem(named, "bad_row", found, "dropped")
            return
        if image not in by_image:
            found = f"image_id {brief(row['image_id'])} is not among the images"
            self._problem(named, "unknown_image", found, "dropped")
        elif candidate := by_image[image]:
            self.other_type["image_id"] += isinstance(row["image_id"], str) != (image in self.texts)
            self.other_type["category_id"] += isinstance(row["category_id"], str) != (label in self.category_texts)
            self._annotate(candidate, row, named, label)
        else:
            self.reading.lost += 1

    def _say_of_ids(self) -> None:
        """Rows on what the ids of the file are like, and changes nothing."""
        for name, count in self.other_type.items():
            if count:
                found = f"{count} annotations have text for a number, or a number for text; taken as equal"
                self._problem(name, "id_type", found, "noted")
        missing = self.ids.pop(None, 0)
        if twice := [key for key, count in self.ids.items() if count > 1]:
            found = f"{len(twice)} annotation ids stand there more than once; all objects are kept"
            self._problem(f"annotation {twice[0]}", "duplicate_id", found, "noted")
        if missing and self.ids:
            found = f"{missing} annotations whose id is neither a number nor text; the objects are kept"
            self._problem("annotations", "bad_row", found, "noted")

    def _problem(self, key: str, rule: str, found: str, done: str = "refused", file: str = "") -> None:
        self.reading.problems.append(Problem(file or self.where, key, rule, found, done))

    def _image(self, row: dict[str, Any], key: str) -> Candidate | None:
        found = self.images.find(row["file_name"], self.folder, self.near, self.called)
        if len(found) != 1:
            self._problem(key, *self.images.fault(row["file_name"], found), file=row["file_name"])
            return None
        file = self.images.names[found[0]]
        try:
            size = (int(number(row.get("width"))), int(number(row.get("height"))))
        except ValueError:
            size = (0, 0)
        unsized = min(size) <= 0 or max(size) >= LONGEST
        try:
            size = upright_size(file) if unsized else size
        except ValueError as error:
            self._problem(key, "unreadable", str(error), file=found[0])
            return None
        return Candidate(file, found[0], split=self.split, size=size, unsized=unsized)

    def _annotate(self, candidate: Candidate, row: dict[str, Any], key: str, category: str) -> None:
        if category not in self.names:
            found = f"category_id {brief(row['category_id'])} is not among the categories"
            self._problem(key, "unknown_class", found, "dropped", candidate.name)
            return
        width, height = candidate.size or (1, 1)
        rule = "bad_box"
        try:
            x, y, w, h = four(row.get("bbox"), "bbox")
            rule = "bad_row"
            crowd = flag(row.get("iscrowd"), "iscrowd")
            rule = "bad_landmarks"
            points = self._landmarks(row.get("keypoints"), (width, height))
        except ValueError as error:
            self._problem(key, rule, str(error), "dropped", candidate.name)
            return
        box = (x / width, y / height, w / width, h / height)
        candidate.objects.append(Object(self.names[category], box, points, crowd=crowd))
        candidate.keys.append(key)

    def _landmarks(self, said: Any, size: tuple[int, int]) -> list[Landmark]:
        """The object's points, all absent where it has none. Raises ValueError if they are not as many as there are
        names, or no numbers.
        """
        names = self.reading.landmarks
        if said is None or said == []:
            return [Landmark(0.0, 0.0, ABSENT) for _ in names]
        expected = f"expected {3 * len(names)} numbers"
        if not isinstance(said, list):
            raise ValueError(f"keypoints {brief(said)}, {expected}")  # noqa: TRY004 (all of them are one row)
        if len(said) != 3 * len(names):
            raise ValueError(f"{len(said)} keypoint values, {expected}")
        values = []
        for place, value in enumerate(said):
            try:
                values.append(number(value, finite=False))
            except ValueError:
                raise ValueError(f"keypoint value {place} is {brief(value)}, {expected}") from None
        w, h = size
        triples = list(zip(values[::3], values[1::3], values[2::3], strict=True))
        self.reading.unseen += sum(not seen and bool(x or y) for x, y, seen in triples)
        if odd := [seen for *_, seen in triples if seen not in (ABSENT, HIDDEN, VISIBLE)]:
            count, first = self.odd_visibility
            self.odd_visibility = count + len(odd), first if count else odd[0]
        return [landmark(x / w, y / h, seen) for x, y, seen in triples]
