"""What policies make of images: drawn once, with its labels, and many on one sheet."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import NamedTuple

from PIL import Image

from pipeline.augment.policies import Augment
from pipeline.augment.policies.failing import naming
from pipeline.augment.policies.notes import noted
from pipeline.augment.policies.policy import Pixels
from pipeline.augment.steps import Step, before_the_net, train_only
from pipeline.core.sample import Dataset, Object, Sample
from pipeline.core.seeds import derived_seed
from pipeline.ops.steps import apply_steps
from pipeline.viz.sheets import contact_sheet, draw

TILE = 240  # pixels
LETTERS, LINES = 32, 16  # of a caption below a tile
ABREAST = 4  # images where nothing is drawn of them
FILTERED = "filtered"  # what the copy by steps of training alone is called where others have numbers


class Column(NamedTuple):
    """Draw `number` of a policy, as a column of a sheet: each image of it is varied by its own seed."""

    augment: Augment
    number: int
    title: str


def vary(augment: Augment, pixels: Pixels, sample: Sample, number: int, seed: int) -> tuple[Pixels, list[Object], int]:
    """Draw `number` of a sample: its pixels, its objects, and how many geometries were rejected on the way. Raises
    InputError that names the sample where the policy fails on it.
    """
    own = derived_seed(seed, sample.id, number)
    with naming(sample.id):
        moved, objects, rejected = augment.move(pixels, sample.objects, own)
        return augment.look(moved, own), objects, rejected


def spread(samples: list[Sample], count: int) -> list[Sample]:
    """At most `count` samples, evenly from those with objects, or from all where none has."""
    shown = [s for s in samples if s.objects] or samples
    count = min(count, len(shown))
    return [shown[i * len(shown) // count] for i in range(count)]


def draws_sheet(
    pictures: Iterable[tuple[Pixels, Sample]],
    dataset: Dataset,
    columns: Sequence[Column],
    seed: int,
    told: bool,
    steps: Sequence[Step] = (),
) -> Image.Image:
    """A row per picture, uint8 RGB [H, W, 3] and its sample: as it is, what the dataset's preprocessing makes of it
    where it has `steps`, then a tile per column, all with their labels. Where `told`, what was done stands below each,
    as far as the policy's library tells.
    """
    tiles = []
    for pixels, sample in pictures:
        tiles.append((draw(Image.fromarray(pixels), sample, dataset), sample.id))
        if steps:
            seen = Image.fromarray(_preprocessed(steps, pixels, sample, seed))
            tiles.append((draw(seen, sample, dataset), f"preprocess: {', '.join(step.step for step in steps)}"))
        for augment, number, title in columns:
            with noted() as notes:
                varied, objects, _ = vary(augment, pixels, sample, number, seed)
            caption = _caption(title, notes) if told else title
            tiles.append((draw(Image.fromarray(varied), replace(sample, objects=objects), dataset), caption))
    abreast = len(columns) + 1 + bool(steps)
    return contact_sheet(tiles, columns=abreast if abreast > 1 else ABREAST, tile=TILE)


def filtered(filters: Sequence[Step], pixels: Pixels, sample: Sample, seed: int) -> tuple[Pixels, int]:
    """The copy of a sample by the steps of training alone, and in how many of its boxes an ellipse took the place of a
    foreground.
    """
    from pipeline.augment.filters import filtered

    return filtered(filters, pixels, sample.objects, derived_seed(seed, sample.id, FILTERED))


def _preprocessed(steps: Sequence[Step], pixels: Pixels, sample: Sample, seed: int) -> Pixels:
    """By the steps of training alone, if there are any, and as a net sees that."""
    if alone := train_only(list(steps)):
        pixels, _ = filtered(alone, pixels, sample, seed)
    return apply_steps(before_the_net(list(steps)), pixels)


def _caption(title: str, notes: list[str]) -> str:
    lines = [line for text in notes or ["as it is"] for line in wrap(text, LETTERS)]
    more = [f"and {len(lines) - LINES + 1} lines more"] if len(lines) > LINES else []
    return "\n".join([title, *lines[: LINES - len(more)], *more])
