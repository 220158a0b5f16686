"""What to label next: the images of a pool, or of the train split, that are worth it, and why."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.annotation import worth
from pipeline.annotation.choice import Taken, typical, uncertain
from pipeline.annotation.doubts import BOXES, disagreement, doubt, entropy, rarity
from pipeline.annotation.mistakes import judged_boxes, judged_images
from pipeline.core.errors import InputError, shown
from pipeline.core.files import write_text
from pipeline.core.image_file import ImageFileError, decode_image
from pipeline.core.sample import Dataset, Sample
from pipeline.core.tables import cell
from pipeline.datasets.formats.reading import IMAGE_SUFFIXES, Problem, files_under
from pipeline.datasets.ingest.similar import digest, near_duplicates, thumbnail
from pipeline.evaluation.params import with_predict
from pipeline.experiments.leaks import Images
from pipeline.metrics.metrics import judged
from pipeline.runtimes.exported import exported_file, read_made
from pipeline.runtimes.targets import TARGETS, TORCH, open_runtime
from pipeline.training.params import RunParams
from pipeline.training.probe import pooled_features

Floats = NDArray[np.float32]
NAMED = 5  # refused files that are said by name


@dataclass(frozen=True, slots=True)
class Run:
    """A run of params.yaml, what of its answers is shown, and where its models, exports and cached features lie."""

    name: str
    params: RunParams
    predict: Mapping[str, Any]
    models: Path
    exports: Path
    cache: Path


@dataclass(frozen=True, slots=True)
class Choice:
    """An image that is worth a label: `score` orders those of one way to choose, `why` says which that is."""

    id: str
    score: float
    why: str


def pool_images(folder: Path, dataset: Dataset, refused: Mapping[Path, str] | None = None) -> Images:
    """The images without labels in `folder` and below, called by their paths in it; those of a folder below count as of
    one clip. What `ingest` would refuse, or has `refused` (absolute path -> why), is not among them, but named beside
    them. Raises InputError if there are none.
    """
    if not folder.is_dir():
        raise InputError(f"--pool {folder}: no such folder; expected one with images")
    images = Images(dataset, folder)
    files = sorted(files_under(folder, IMAGE_SUFFIXES))
    for file in tqdm(files, "look at the pool", unit="image", mininterval=0.5, disable=None):
        name = file.relative_to(folder)
        if why := (refused or {}).get(file.resolve()):
            images.refused.append(Problem(name.as_posix(), "", "refused_before", f"{file}: {why}"))
            continue
        try:
            pixels = decode_image(file, whole=True).image
        except ImageFileError as error:
            images.refused.append(Problem(name.as_posix(), "", error.rule, str(error)))
            continue
        clip = None if name.parent == Path() else name.parent.as_posix()
        absolute = file.absolute().as_posix()  # beside the labelled images of another folder
        images.samples.append(Sample(name.as_posix(), absolute, *pixels.size, clip=clip))
        images.thumbnails.append(thumbnail(pixels))
        images.digests.append(digest(pixels))
    if not images.samples:
        raise InputError(f"--pool {folder}: no image in it that can be read; expected some")
    return images


def refused_text(refused: Mapping[str, Sequence[str]], ledger: Path) -> str:
    """What to say of files of the source that `ingest` refused, with the reasons in its `ledger`; "" of none.

    >>> refused_text({"a.jpg": ["unreadable: cut (refused)"]}, Path("ledger.csv"))
    '1 file of the source is not among them, as `ingest` refused it: a.jpg, unreadable: cut (refused)'
    """
    if not refused:
        return ""
    files, are, them = ("1 file", "is", "it") if len(refused) == 1 else (f"{len(refused)} files", "are", "them")
    named = [f"{shown(file)}, {shown('; '.join(why))}" for file, why in sorted(refused.items())[:NAMED]]
    more = f"; all in {ledger}" if len(refused) > NAMED else ""
    return f"{files} of the source {are} not among them, as `ingest` refused {them}: {'; '.join(named)}{more}"


def choose(run: Run, labelled: Images, pool: Images | None, count: int, bits: int) -> tuple[list[Choice], str]:
    """At most `count` images of `pool`, or without one of the train split of `labelled`, the most worth it first; and
    a line that says whether choosing pays. `bits` as a dataset's `near_duplicate_bits`.

    Raises InputError for weights that are not there or do not fit, or a model that cannot be read.
    """
    samples, looks, digests = ([*getattr(labelled, part)] for part in ("samples", "thumbnails", "digests"))
    train = [i for i, s in enumerate(samples) if s.split == "train"]
    asked, known = train, [samples[i] for i in train]
    if pool:
        asked = list(range(len(samples), len(samples) + len(pool.samples)))
        samples, looks, digests = samples + pool.samples, looks + pool.thumbnails, digests + pool.digests
    groups = list(range(len(samples)))
    for members in near_duplicates(np.array(looks), digests, [None] * len(looks), bits=bits).sets:
        for i in members:
            groups[i] = members[0]
    features = pooled_features(run.name, run.params, labelled.dataset, labelled.folder, samples, run.cache)
    taken = Taken([groups[i] for i in asked], [samples[i].clip for i in asked], count)
    there = len(labelled.samples) if pool else 0
    taken.give(set(groups[:there]))  # what is labelled already, or looks like it
    few = _labels(known) < worth.FEW * len(labelled.dataset.labels)
    if few or (pool and not (run.models / run.name).is_dir()):
        rows = typical(features[asked], features[:there], count, taken)
        why = f"under {worth.FEW} labels a class" if few else f"no models/{run.name}"
        choices = [Choice(samples[asked[i]].id, 1 - n / len(rows), f"typical: {why}") for n, i in enumerate(rows)]
    else:
        doubts, said = _of_pool(run, labelled, pool, known) if pool else _of_train(run, labelled, known)
        rows = uncertain(features[asked], doubts, count, taken)
        choices = [Choice(samples[asked[i]].id, float(doubts[i]), said[i]) for i in rows]
    return choices, _worth(known, features[train], [groups[i] for i in train])


def _labels(samples: list[Sample]) -> int:
    return sum(len(s.objects) + (s.label is not None) for s in samples)


def _of_pool(run: Run, labelled: Images, pool: Images, known: list[Sample]) -> tuple[Floats, list[str]]:
    """What the model does not know, and where its first int8 file that is there says something else."""
    from pipeline.core.spec import read_spec
    from pipeline.runtimes.answers import predict_samples

    spec = judged(with_predict(read_spec(run.models / run.name / "model.json"), run.predict))
    of = spec, labelled.folder, pool.samples
    exact = predict_samples(open_runtime(TORCH, run.models / run.name), *of)
    weights = rarity(o.label for s in known for o in s.objects)
    doubts = np.array([doubt(s, weights) for s in exact], np.float32)
    said = [f"entropy {value:.2f}" for value in doubts]
    if target := _int8(run):
        close = predict_samples(open_runtime(target, exported_file(run.exports / run.name, target)), *of)
        apart = np.array([disagreement(a, b) for a, b in zip(exact, close, strict=True)], np.float32)
        said = [f"{words}, {target} differs by {value:.2f}" for words, value in zip(said, apart, strict=True)]
        doubts = doubts + apart
    return doubts, said


def _int8(run: Run) -> str | None:
    """The first int8 file of the run that can be run here."""
    folder = run.exports / run.name
    if not (folder / "export.json").is_file():
        return None
    made = read_made(folder)["targets"]
    return next((name for name, row in TARGETS.items() if row.int8 and not row.engine.not_run and name in made), None)


def _of_train(run: Run, labelled: Images, known: list[Sample]) -> tuple[Floats, list[str]]:
    """How unsure a head is that has not seen the image's group: the run's own model has learned all of them."""
    of = run.name, run.params, labelled.dataset, labelled.folder, known, run.cache
    if run.params.task == "classify":
        kept, chances = judged_images(*of)
        by_id = dict(zip([s.id for s in kept], entropy(chances).tolist(), strict=True))
        doubts = np.array([by_id.get(s.id, 1.0) for s in known], np.float32)
    else:
        _, judgements, _ = judged_boxes(*of)
        doubts = np.array([np.sort(entropy(j.said))[-BOXES:].sum() / BOXES for j in judgements], np.float32)
    return doubts, [f"entropy out of fold {value:.2f}" for value in doubts]


def _worth(known: list[Sample], features: Floats, groups: list[int]) -> str:
    names = [_label(s) for s in known]
    rows = [i for i, name in enumerate(names) if name is not None]
    labels = sorted({str(names[i]) for i in rows})
    images = worth.Images(
        features[rows],
        np.array([labels.index(str(names[i])) for i in rows], np.int64),
        [groups[i] for i in rows],
        [known[i].clip for i in rows],
        len(labels),
    )
    return worth.gain_text(worth.gain(images, [known[i].group or known[i].clip or str(groups[i]) for i in rows]))


def _label(sample: Sample) -> str | None:
    """An image's label, or that of most of its objects."""
    counts = Counter(o.label for o in sample.objects)
    return sample.label or min(counts, key=lambda label: (-counts[label], label), default=None)


def write_choices(path: Path, choices: list[Choice]) -> None:
    """Write a CSV with a line per image, in their order."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "score", "why"])
    writer.writerows([cell(c.id), f"{c.score:.4f}", cell(c.why)] for c in choices)
    write_text(path, text.getvalue())
