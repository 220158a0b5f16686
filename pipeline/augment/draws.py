"""What policies make of images: drawn once, with its labels, and many on one sheet."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import NamedTuple

from PIL import Image

from pipeline.augment.policies import Augment
from pipeline.augment.policies.failing import naming
from pipeline.augment.policies.notes import noted
from pipeline.augment.policies.policy import Pixels
from pipeline.core.sample import Dataset, Object, Sample
from pipeline.core.seeds import derived_seed
from pipeline.viz.sheets import contact_sheet, draw

TILE = 240  # pixels
LETTERS, LINES = 32, 7  # of a caption below a tile


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
    filtered: Callable[[Pixels, Sample], Pixels] | None = None,
) -> Image.Image:
    """A row per picture, uint8 RGB [H, W, 3] and its sample: as it is, `filtered` where something filters, then a tile
    per column, all with their labels. Where `told`, what was done stands below each, as far as the policy's library
    tells.
    """
    tiles = []
    for pixels, sample in pictures:
        tiles.append((draw(Image.fromarray(pixels), sample, dataset), sample.id))
        if filtered:
            tiles.append((draw(Image.fromarray(filtered(pixels, sample)), sample, dataset), "filtered"))
        for augment, number, title in columns:
            with noted() as notes:
                varied, objects, _ = vary(augment, pixels, sample, number, seed)
            caption = _caption(title, notes) if told else title
            tiles.append((draw(Image.fromarray(varied), replace(sample, objects=objects), dataset), caption))
    return contact_sheet(tiles, columns=len(columns) + 1 + bool(filtered), tile=TILE)


def _caption(title: str, notes: list[str]) -> str:
    lines = [line for text in notes or ["as it is"] for line in wrap(text, LETTERS)]
    more = [f"and {len(lines) - LINES + 1} lines more"] if len(lines) > LINES else []
    return "\n".join([title, *lines[: LINES - len(more)], *more])
