"""Augmentation policies by name, from two libraries behind one call.

    augment = augmenter("photo_geometry", dataset)
    pixels, objects = augment(pixels, objects, derived_seed(run_seed, epoch, index))

What comes out depends on the policy, the image, its objects and the seed, never on earlier calls, so workers and
epochs repeat each other only where their seeds do. A new policy is one function and its line in `POLICIES`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from pipeline.core.errors import InputError
from pipeline.core.lazy import load
from pipeline.core.params import nearest
from pipeline.core.sample import Dataset, Object

if TYPE_CHECKING:  # params, which know the names, are read without NumPy
    from pipeline.augment.policies.policy import Pixels, Policy

DRAWS = 8  # geometries drawn before an image stays where it is


# name -> "module:function" that builds it: the libraries take seconds to import, and only a policy in use pays for its
POLICIES: dict[str, str] = {
    "none": "pipeline.augment.policies.policy:Policy",
    "photo": "pipeline.augment.policies.albumentations_policies:photo",
    "photo_geometry": "pipeline.augment.policies.albumentations_policies:photo_geometry",
    "photo_zoom": "pipeline.augment.policies.albumentations_policies:photo_zoom",
    "imgaug_ucf101": "pipeline.augment.policies.imgaug_policies:ucf101",
}


def _known(name: str) -> str:
    if name not in POLICIES:
        raise InputError(f"no augmentation policy {name!r}{nearest(name, POLICIES)}")
    return name


PolicyName = Annotated[str, AfterValidator(_known)]


@dataclass(frozen=True, slots=True)
class Augment:
    """The one call for all policies. Pickles, so that workers may build the policy for themselves."""

    policy: str
    pairs: tuple[tuple[int, int], ...]

    def __call__(self, pixels: "Pixels", objects: list[Object], seed: int) -> tuple["Pixels", list[Object]]:
        """Vary an image: uint8 RGB [H, W, 3] and its objects (relative coordinates) -> the same, moved alike.

        As many objects come out as went in, in the same order. Boxes are clipped to the image, landmarks that
        leave it become absent, left and right ones change places in a mirrored image. The inputs are not
        written to; a step that does nothing returns them as they are. Not for several threads at once.
        """
        pixels, objects, _ = self.move(pixels, objects, seed)
        return self.look(pixels, seed), objects

    def move(self, pixels: "Pixels", objects: list[Object], seed: int) -> tuple["Pixels", list[Object], int]:
        """The geometric step alone, and how many draws were rejected because an object all but left the image.

        After `DRAWS` rejected draws the image stays as it is: it is never shown without an object it is
        labelled with, nor is the label taken away.
        """
        from pipeline.augment.policies.labels import move_objects

        geometry = _built(self.policy).geometry
        if geometry is None:
            return pixels, objects, 0
        for draw in range(DRAWS):
            moved_pixels, moved = move_objects(geometry, pixels, objects, derived_seed(seed, "move", draw), self.pairs)
            if moved is not None:
                return moved_pixels, moved, draw
        return pixels, objects, DRAWS

    def look(self, pixels: "Pixels", seed: int) -> "Pixels":
        """The other step alone: light, colour, noise and blur."""
        change = _built(self.policy).look
        return pixels if change is None else change(pixels, derived_seed(seed, "look"))


def augmenter(policy: str, labelled: Dataset | Sequence[tuple[int, int]] = ()) -> Augment:
    """The policy `policy` for a dataset, or for its left-right landmark pairs.

    Raises InputError naming the nearest policy where there is none of that name.
    """
    pairs = labelled.pairs if isinstance(labelled, Dataset) else labelled
    return Augment(_known(policy), tuple((a, b) for a, b in pairs))


def derived_seed(*parts: int | str) -> int:
    """A number from 0 to 2^64 - 1 for these parts, such as (run seed, epoch, index): the same on every machine."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


@cache
def _built(policy: str) -> "Policy":
    built: Policy = load(POLICIES[policy])()
    return built
