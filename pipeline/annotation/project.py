"""The project of a dataset in an annotation tool: what it is called, and what people are asked in it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.sample import SPLITS, Dataset, Sample, read_dataset, read_samples
from pipeline.datasets.formats.label_studio_config import config_of
from pipeline.datasets.formats.xml_names import refuse_in_xml

LONGEST_TITLE = 50
KEY = 8  # hex digits


@dataclass(frozen=True, slots=True)
class Project:
    """Of the dataset called `name`, ingested into `folder`. `config` is its interface, `classify` whether that asks for
    a label per image, else for boxes. `key` is a hash of both: a class that was used once cannot be taken out of a
    project, so that another list of labels has another project. `listed` is the file that says what was sent to it.
    """

    name: str
    folder: Path
    dataset: Dataset
    classify: bool
    config: str = field(repr=False)
    key: str
    listed: Path

    @property
    def title(self) -> str:
        return f"{self.name[: LONGEST_TITLE - KEY - 1]} {self.key}"

    def image(self, sample: Sample) -> Path:
        """The file of an ingested image. Raises InputError if it is not there."""
        file = self.folder / str(sample.split) / sample.file_name
        if not file.is_file():
            raise InputError(f"{file}: no such image; `make repro` ingests the dataset again")
        return file


def project_of(name: str, ingested: Path, labels: Path, key: str = "") -> Project:
    """The project for the dataset `name` in the folder `ingested`; that with `key`, if the labels were others when it
    was made. `labels` is the folder of the layers. Raises InputError for a name that XML cannot hold.

    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.core.sample import Sample, write_dataset, write_samples
    >>> with TemporaryDirectory() as folder:
    ...     write_dataset(f"{folder}/herd", Dataset("herd", ["cow"]))
    ...     for split in SPLITS:
    ...         write_samples(f"{folder}/herd/{split}", [Sample(split, "1.jpg", 8, 8)])
    ...     project = project_of("herd", Path(folder), Path("labels"))
    >>> project.classify, len(project.title), project.listed.as_posix() == f"labels/herd/.sent/{project.key}.jsonl"
    (False, 13, True)
    """
    folder = ingested / name
    dataset = read_dataset(folder)
    refuse_in_xml(dataset)
    classify = any(s.label is not None for split in SPLITS for s in read_samples(folder / split))
    config = config_of(dataset, boxes=not classify, images=classify)
    key = key or hashlib.sha256(f"{name}\n{config}".encode()).hexdigest()[:KEY]
    return Project(name, folder, dataset, classify, config, key, labels / name / ".sent" / f"{key}.jsonl")
