"""An image as a sample of FiftyOne: what every view knows of it."""

import re
from pathlib import Path
from typing import Any

from pipeline.core.layer import content_of
from pipeline.core.sample import Sample
from pipeline.inspection.edits import hash_of_file

FRAME = re.compile(r"-(\d{5})$")  # the end of the id of a clip's frame, from 0 as everywhere here


def image_of(fo: Any, file: Path, sample: Sample) -> Any:
    """Without its labels. `against` is a hash of them, `image` of the file: what a person says of it later is said of
    these.
    """
    known = {"name": sample.id, "group": sample.group, "clip": sample.clip, "frame": _frame(sample)}
    hashes = {"against": content_of(sample), "image": hash_of_file(file)}
    fields = {key: value for key, value in (known | hashes).items() if value is not None}
    made = fo.Sample(file, tags=[sample.split] if sample.split else [], **fields)
    made.metadata = fo.ImageMetadata(width=sample.width, height=sample.height)
    return made


def _frame(sample: Sample) -> int | None:
    found = FRAME.search(sample.id) if sample.clip else None
    return int(found[1]) if found else None
