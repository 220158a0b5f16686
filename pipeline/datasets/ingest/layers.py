"""Label layers over what the source says: what people have said of its images since, laid on once splits are fixed.

The source wins wherever a statement is not about the image, or not about the labels, that are there now.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.files import sha256
from pipeline.core.image_file import open_image
from pipeline.core.layer import SAYS, Statement, content_of, is_of, layer_file, read_layer
from pipeline.core.params import nearest
from pipeline.core.sample import Sample
from pipeline.datasets.formats.reading import Problem, Reading
from pipeline.datasets.ingest.checks import check_objects
from pipeline.datasets.params import DatasetParams

OUTCOMES = ("relabelled", "emptied", "excluded", "unchanged", "conflicts", "not_there", "skipped", "untouched")
SHOWN = 4  # ids that a row names
SHORT = 12  # digits of a sha256


@dataclass(slots=True)
class Layer:
    """A layer's file with its statements; the place of each is its line, from 0."""

    name: str
    file: Path
    sha256: str
    statements: list[Statement]


@dataclass(slots=True)
class Laid:
    """`samples` that stay, with the labels that they have now; rows for the ledger; layer -> outcome -> how many."""

    samples: list[Sample]
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def read_layers(dataset: str, params: DatasetParams, labels: Path) -> list[Layer]:
    """The dataset's layers, in order, from the folder `labels`. Raises InputError for a file that is missing, is no
    layer, or is not the one that resolved.yaml has the hash of.
    """
    found = []
    for name in params.layers:
        file = layer_file(labels, dataset, name)
        statements = read_layer(file)
        known, now = params.layers_sha256.get(name), sha256(file)
        if known not in (None, now):
            where = f"{file}: sha256 {now}, and that of datasets.{dataset}.layers_sha256.{name} is {known}"
            raise InputError(f"{where}; `python -m stages.params` takes the file as it is")
        found.append(Layer(name, file, now, statements))
    return found


def hashes(layers: Sequence[Layer]) -> dict[str, dict[str, str]]:
    """What dataset.json says of them: by name, in their order, the beginning of each one's hash; nothing of none."""
    return {"layers": {layer.name: layer.sha256[:SHORT] for layer in layers}} if layers else {}


def lay(
    layers: Sequence[Layer], reading: Reading, samples: Sequence[Sample], names: Mapping[str, str], images: Path
) -> Laid:
    """Lay the layers over the `samples`, one after the other; none of these is changed in place.

    `names` are the source's files by sample id, `images` the folder with the images as they are ingested. Raises
    InputError for labels, landmarks or kinds of labels that the dataset does not have.
    """
    there, laid = {s.id: s for s in samples}, Laid([])
    left_out: dict[str, tuple[Sample, str]] = {}  # with the layer that has done it
    kinds = {"label"} if any(s.label is not None for s in samples) else {"objects"}
    if any(s.objects for s in samples):
        kinds.add("objects")
    for layer in layers:
        done: Counter[str] = Counter()
        strange = []
        for line, said in enumerate(layer.statements, 1):
            if said.state not in SAYS:
                done[said.state] += 1
            elif said.id not in there and said.id not in left_out:
                strange.append(said.id)
            else:
                sample, by = left_out.get(said.id) or (there[said.id], "")
                one = _Statement(said, f"{layer.file}:{line}", sample, reading, kinds, by)
                outcome, now = one.outcome(images)
                done[outcome] += 1
                laid.problems += one.rows(names[said.id], layer.name)
                if by:
                    continue
                if now is None:
                    left_out[said.id] = there.pop(said.id), layer.name
                else:
                    there[said.id] = now
        if strange:
            more = ", ..." if len(strange) > SHOWN else ""
            found = f"{len(strange)} statements about images that are not in the dataset: "
            problem = Problem("", layer.name, "layer_not_there", f"{found}{', '.join(strange[:SHOWN])}{more}", "noted")
            laid.problems.append(problem)
        done["not_there"] = len(strange)
        laid.counts[layer.name] = {outcome: done[outcome] for outcome in OUTCOMES}
    laid.samples = list(there.values())
    return laid


class _Statement:
    """A statement of the line `where`, and the sample that it is about as that is so far; `left_out` names the layer
    that has left it out, "" if none has.
    """

    def __init__(
        self, said: Statement, where: str, sample: Sample, reading: Reading, kinds: set[str], left_out: str
    ) -> None:
        self.said, self.where, self.sample, self.reading, self.kinds = said, where, sample, reading, kinds
        self.left_out = left_out
        self.found: list[tuple[str, str, str]] = []  # rule, found, done
        self.of_objects: list[Problem] = []

    def outcome(self, images: Path) -> tuple[str, Sample | None]:
        """What comes of it, and the sample as it is now, None if it is left out."""
        said, sample = self.said, self.sample
        now = replace(sample, label=said.label, objects=[replace(o, score=None) for o in said.objects])
        if bool(self.left_out) if said.state == "excluded" else self._holds(now):
            return "unchanged", sample
        if why := self._conflict(images):
            return self._in_conflict(why)
        if said.state == "excluded":
            self.found.append(("excluded", f"left out{self._by()}", "refused"))
            return "excluded", None
        if said.state == "labelled":
            self._refuse_strange(now)
            keys = [f"object {i}" for i in range(len(now.objects))]
            now.objects, self.of_objects, _ = check_objects("", now.objects, keys, (sample.width, sample.height))
            if said.objects and not now.objects:
                return self._in_conflict("none of its boxes can be one, and empty is another answer")
        if content_of(now) == content_of(sample):
            return "unchanged", sample
        what = "emptied" if said.state == "empty" else "relabelled"
        self.found.append((what, f"{changes(sample, now)}{self._by()}", "replaced"))
        return what, now

    def rows(self, name: str, layer: str) -> list[Problem]:
        """Those of the ledger; `name` is the source's file. A frame of a clip is named, too."""
        key = f"{layer}, {self.sample.id}" if self.sample.clip else layer
        own = [Problem(name, key, *row) for row in self.found]
        return own + [replace(p, file=name, key=f"{key}, {p.key}") for p in self.of_objects]

    def _by(self) -> str:
        return f", by {self.said.by}" if self.said.by else ""

    def _holds(self, now: Sample) -> bool:
        return not self.left_out and content_of(now) == content_of(self.sample)

    def _in_conflict(self, why: str) -> tuple[str, Sample]:
        found = f"{self.where}: {self.said.state}{self._by()}, but {why}; the source stays as it is. Have the image "
        self.found.append(("layer_conflict", f"{found}labelled again, or take out the line", "noted"))
        return "conflicts", self.sample

    def _conflict(self, images: Path) -> str:
        """Why it does not hold for what is there now, "" if it does."""
        if self.left_out:
            return f"the layer {self.left_out} leaves the image out"
        if self.said.against != content_of(self.sample):
            return "its labels are others since"
        if not is_of(self.said, open_image(images / self.sample.file_name)):
            return "its pixels are others since"
        if self.said.state == "empty" and self.sample.label is not None:
            return "an image of a classifier has a label; expected another label, or excluded"
        return ""

    def _refuse_strange(self, now: Sample) -> None:
        """Raise InputError for what no image of the dataset can have."""
        what = f"{self.where}: {now.id!r}"
        if ("label" in self.kinds) != (now.label is not None):
            wanted = "a label" if "label" in self.kinds else "objects and no label"
            raise InputError(f"{what}: label {now.label!r}; expected {wanted}, as the images of the dataset have")
        if now.objects and "objects" not in self.kinds:
            raise InputError(f"{what}: {len(now.objects)} objects; expected none: the dataset has labels of images")
        if not now.objects and now.label is None:
            raise InputError(f"{what}: labelled, and nothing is; expected the state empty where there is nothing")
        for label in filter(None, [now.label, *(o.label for o in now.objects)]):
            if label not in self.reading.labels:
                raise InputError(f"{what}: no label {label!r} in the dataset{nearest(label, self.reading.labels)}")
        for o in now.objects:
            if len(o.landmarks) not in (0, len(self.reading.landmarks)):
                expected = f"expected {len(self.reading.landmarks)}, absent ones with visibility 0, or none"
                raise InputError(f"{what}: {o.label} with {len(o.landmarks)} landmarks; {expected}")


def changes(before: Sample, now: Sample) -> str:
    """What is different, in words; objects by their labels.

    >>> from pipeline.core.sample import Object
    >>> cow, goat = Object("cow", (0, 0, 0.5, 0.5)), Object("goat", (0, 0, 0.5, 0.5))
    >>> one, other = Sample("1", "1.jpg", 64, 48, objects=[cow]), Sample("1", "1.jpg", 64, 48, objects=[cow, goat])
    >>> changes(one, other), changes(other, one), changes(one, replace(one, objects=[goat]))
    ('+ 1 goat', '- 1 goat', '- 1 cow, + 1 goat')
    """
    said = [f"{before.label} -> {now.label}"] if before.label != now.label else []
    same = [o for o in before.objects if o in now.objects]
    gone, new = (Counter(o.label for o in s.objects if o not in same) for s in (before, now))
    moved = gone & new
    for sign, count in (("moved", moved), ("-", gone - moved), ("+", new - moved)):
        said += [f"{sign} {number} {label}" for label, number in sorted(count.items())]
    return ", ".join(said) or "the order of its objects"
