"""Policies on a dataset's own images, before anything is trained."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.augment.draws import Column, draws_sheet, spread
from pipeline.augment.policies import augmenter, why_unfit
from pipeline.augment.policies.policy import Pixels
from pipeline.augment.steps import Step
from pipeline.core.errors import InputError
from pipeline.core.files import new_file
from pipeline.core.image_file import decode_image
from pipeline.core.sample import Sample, read_dataset, read_samples

SIDE = 320  # pixels: about what training makes of an image before it varies it
DRAWS = 3  # of a policy that is shown alone

AnyPolicies = Sequence[str | list[dict[str, Any]]]


def preview(
    ingested: Path, policies: AnyPolicies, images: int, seed: int, path: Path, steps: Sequence[Step] = ()
) -> int:
    """Write `path`, a JPEG: a row for each of at most `images` train images of `ingested`, as it is and by a draw of
    each of `policies`, or by `DRAWS` draws of a single one that is not `none`, with labels and what was done. The
    longer side of an image is `SIDE` pixels at most. Where the dataset's preprocessing has `steps`, what they make of
    an image comes first. Returns how many images there are on it.

    Raises InputError for an empty train split, a policy that is not there or is not for its labels, or a broken image.
    """
    dataset, samples = read_dataset(ingested), read_samples(ingested / "train")
    if not samples:
        raise InputError(f"{ingested / 'train' / 'metadata.jsonl'}: no images; expected at least one to show")
    columns, objects = [], any(s.objects for s in samples)
    for policy in policies:
        augment = augmenter(policy, dataset, objects)
        name = policy if isinstance(policy, str) else "own list"
        if objects and (unfit := why_unfit(policy, "detect")):
            raise InputError(f"{ingested / 'train'}: images with objects; {unfit}")
        alone = len(policies) == 1
        draws = range(1, 2 if not alone else 1 if policy == "none" else DRAWS + 1)
        columns += [Column(augment, draw, f"{name}, draw {draw}" if len(draws) > 1 else name) for draw in draws]
    shown = spread(samples, images)
    sheet = draws_sheet(_pictures(ingested / "train", shown), dataset, columns, seed, told=True, steps=steps)
    with new_file(path) as place:
        sheet.save(place, "JPEG", quality=90)
    return len(shown)


def _pictures(folder: Path, samples: list[Sample]) -> Iterator[tuple[Pixels, Sample]]:
    for sample in samples:
        yield np.asarray(decode_image(folder / sample.file_name, SIDE).image), sample
