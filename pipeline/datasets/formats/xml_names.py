"""Names in XML that is written: what no XML can hold is refused by name."""

import re
from collections.abc import Iterable

from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def refuse_in_xml(dataset: Dataset) -> None:
    r"""Raises InputError for a class or landmark whose name has a character that XML 1.0 does not allow.

    >>> refuse_in_xml(Dataset("herd", ["cow & calf", "\u725b"]))
    """
    _refuse(dataset.labels, f"{dataset.name}: class")
    _refuse(dataset.landmarks, f"{dataset.name}: landmark")


def _refuse(names: Iterable[str], what: str) -> None:
    for name in names:
        if found := NOT_IN_XML.search(name):
            raise InputError(f"{what} {name!a} has U+{ord(found[0]):04X}, which no XML can hold; rename it")
