"""What a dataset's block of params.yaml names, here or elsewhere, as its format reads it."""

from pipeline.core.errors import InputError, without_password
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.beside import other_labels
from pipeline.datasets.formats.links import links_out, without
from pipeline.datasets.formats.reading import Reading, said_of_names
from pipeline.datasets.ingest.accounts import unread
from pipeline.datasets.ingest.gate import counted, first_of
from pipeline.datasets.params import DatasetParams
from pipeline.datasets.remote import FETCHED, fetched


def read_source(name: str, params: DatasetParams) -> Reading:
    """All that the source says, with a row for each object that could not be fetched into .fetched/. Raises InputError
    naming the key of `datasets.name` where nothing is there, or links lead out of it.

    >>> from pipeline.datasets.params import DATASETS
    >>> block = {"format": "folder", "path": "nowhere", "labels": "nowhere"}
    >>> read_source("herd", DATASETS["folder"].model_validate(block))
    Traceback (most recent call last):
    pipeline.core.errors.InputError: datasets.herd.path: nowhere: no such folder
    """
    path, gone = fetched(params.path, FETCHED)
    labels, gone_labels = (path, []) if params.labels == params.path else fetched(params.labels, FETCHED)
    if not path.is_dir():
        what = "not a folder" if path.exists() else "no such folder"
        raise InputError(f"datasets.{name}.path: {path}: {what}")
    if not labels.exists():
        raise InputError(f"datasets.{name}.labels: {labels}: no such file or folder")
    places, how = (path.resolve(), labels.resolve()), f"datasets.{name}.links_out: follow"
    links = links_out(*places, how) if params.links_out == "refuse" else set()
    reading = FORMATS[params.format].read(*places, params.options)
    without(reading, links, how)
    reading.problems[:0] = [*gone, *gone_labels]
    reading.problems += said_of_names(reading) + unread(reading, *places)
    reading.problems += other_labels(params.format, reading, *places)
    return reading


def nothing_usable(params: DatasetParams, reading: Reading) -> str:
    """What is said where a reading has no candidates.

    >>> from pipeline.datasets.params import DATASETS
    >>> block = {"format": "folder", "path": "herd", "labels": "herd"}
    >>> nothing_usable(DATASETS["folder"].model_validate(block), Reading([], []))
    'nothing usable in herd: no images'
    """
    lost = counted(reading.problems, "refused", "dropped") or "no images"
    first = first_of(reading.problems, "refused", "dropped")
    return f"nothing usable in {without_password(params.path)}: {lost}{first}"
