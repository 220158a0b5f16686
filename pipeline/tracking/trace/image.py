"""Which image of the owner's an image of the chain was made from."""

from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.sample import SPLITS, Sample, read_samples


def image_of(project: Path, place: str, name: str, dataset: dict[str, Any]) -> dict[str, Any] | None:
    """Of an ingested, augmented or golden image at `place`: its id and split, of which ingested image it is a copy,
    and the file it was taken from; None of any other file. `dataset` is what `trace` knows of the dataset `name`.

    `source` is None, and `why` says so, where the owner's data are not here, or no longer have it.
    """
    sample = _sample(project, place)
    if sample is None:
        return None
    ingested = project / "data/ingested" / name
    own = {s.id: s for split in SPLITS if (ingested / split).is_dir() for s in read_samples(ingested / split)}
    original = own.get(sample.id) or own.get(sample.id.rpartition("~")[0])  # an augmented copy is "<id>~<number>"
    found: dict[str, Any] = {"id": sample.id, "width": sample.width, "height": sample.height}
    if original is None:
        return {**found, "why": f"{ingested} has no image of this id now"}
    labels = [original.label] if original.label else [o.label for o in original.objects]
    found |= {"split": original.split, "labels": labels, "group": original.group, "clip": original.clip}
    found["ingested"] = f"data/ingested/{name}/{original.split}/{original.file_name}"
    return {**found, **_source(project, original, dataset)}


def _sample(project: Path, place: str) -> Sample | None:
    """The row that stands for the image at `place`, in the metadata.jsonl or golden files of its folder."""
    path = project / place
    if path.parent.name == "golden" and (path.parent / "decoded.json").is_file():
        rows = [Sample.from_json(row) for row in read_json(path.parent / "decoded.json")]
    elif (path.parent / "metadata.jsonl").is_file():
        rows = read_samples(path.parent)
    else:
        return None
    return next((s for s in rows if s.file_name == path.name), None)


def _source(project: Path, original: Sample, dataset: dict[str, Any]) -> dict[str, Any]:
    """An id is made of the source's path in a way that is the format's: so the source is read again."""
    from pydantic import ValidationError

    from pipeline.datasets.formats import FORMATS
    from pipeline.datasets.remote import FETCHED, is_url, kept

    format = FORMATS[dataset["format"]]
    path, labels = (project / kept(dataset[key], FETCHED) for key in ("path", "labels"))
    try:
        # the options as they were recorded, with defaults for those that the format has got since
        options = format.Options.model_validate(dataset.get("options", {}))
        candidates = format.read(path.resolve(), labels.resolve(), options).candidates
    except (InputError, OSError, ValidationError) as error:
        return {"source": None, "why": str(error)}
    for c in candidates:
        frame = original.id.removeprefix(f"{c.id}-") if c.frames else ""
        if original.id == c.id or (frame.isdigit() and original.clip == c.clip):
            place = f"{dataset['path']}/{c.name}" if is_url(dataset["path"]) else str(Path(dataset["path"]) / c.name)
            return {"source": place, **({"frame": int(frame)} if frame else {})}
    return {"source": None, "why": f"{path} no longer has an image of this id"}
