"""Augmentation policies by name, from three libraries behind one call.

    augment = augmenter("photo_geometry", dataset)
    pixels, objects = augment(pixels, objects, derived_seed(run_seed, epoch, index))

What comes out depends on the policy, the image, its objects and the seed, never on earlier calls, so workers and
epochs repeat each other only where their seeds do. A new policy is one function and its row in `POLICIES`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BeforeValidator

from pipeline.augment.policies.sides import unpaired
from pipeline.core.errors import InputError
from pipeline.core.lazy import load
from pipeline.core.params import TASKS, nearest
from pipeline.core.sample import Dataset, Object
from pipeline.core.seeds import derived_seed

if TYPE_CHECKING:  # params, which know the names, are read without NumPy
    from pipeline.augment.policies.policy import Pixels, Policy

DRAWS = 8  # geometries drawn before an image stays where it is
LEAST = 8  # pixels: a look has no room in a shorter side, and libraries fail there


class Row(NamedTuple):
    """A policy: the function that builds it ("module:function"), and the tasks whose labels it moves rightly.

    The libraries take seconds to import, and only a policy in use pays for its own.
    """

    build: str
    tasks: tuple[str, ...] = TASKS


POLICIES: dict[str, Row] = {
    "none": Row("pipeline.augment.policies.policy:Policy"),
    "photo": Row("pipeline.augment.policies.albumentations_policies:photo"),
    "photo_geometry": Row("pipeline.augment.policies.albumentations_policies:photo_geometry"),
    "photo_zoom": Row("pipeline.augment.policies.albumentations_policies:photo_zoom"),
    "alpaca_lab": Row("pipeline.augment.policies.torchvision_policies:alpaca_lab"),
    "ucf101_torch": Row("pipeline.augment.policies.torchvision_policies:ucf101"),
    "imgaug_ucf101": Row("pipeline.augment.policies.imgaug_policies:ucf101"),
    "imgaug_ucf101_warped": Row("pipeline.augment.policies.imgaug_policies:ucf101_warped"),
    "randaugment": Row("pipeline.augment.policies.torchvision_policies:randaugment"),
    "trivialaugment": Row("pipeline.augment.policies.torchvision_policies:trivialaugment"),
}
# what others offer under these names, and what there is instead
ELSEWHERE = {
    "copy_paste": "objects here are boxes and landmarks, and to paste one takes its mask; `online.mosaic` mixes images",
    "mosaic": "it is a knob of its own, `online.mosaic`, of a detector",
    "mixup": "it is a knob of its own, `online.mixup`, of a classifier",
    "cutmix": "it is a knob of its own, `online.cutmix`, of a classifier",
}


def _known(policy: Any) -> Any:
    if isinstance(policy, list):
        return load("pipeline.augment.policies.written:checked")(policy)
    if not isinstance(policy, str):
        raise InputError(f"expected the name of a policy, or a list of transforms, found {policy!r}")
    if policy in ELSEWHERE:
        raise InputError(f"no augmentation policy {policy!r}: {ELSEWHERE[policy]}")
    if policy not in POLICIES:
        raise InputError(f"no augmentation policy {policy!r}{nearest(policy, POLICIES)}")
    return policy


# a name, or a list of albumentations' transforms: {transform: HorizontalFlip, p: 0.5}
AnyPolicy = Annotated[str | list[dict[str, Any]], BeforeValidator(_known)]


def why_unfit(policy: str | list[dict[str, Any]], task: str) -> str:
    """Why `policy` is not for `task`, or "".

    >>> why_unfit("trivialaugment", "detect")
    ''
    """
    tasks = POLICIES[policy].tasks if isinstance(policy, str) else TASKS
    if task in tasks:
        return ""
    said = f"policy {policy!r} moves no boxes and landmarks with the image"
    return f"{said}: it is for {', '.join(tasks)}, not for {task}"


@dataclass(frozen=True, slots=True)
class Augment:
    """The one call for all policies. Pickles, so that workers may build the policy for themselves.

    `policy` is a name, or a list of transforms as JSON. Without `mirrors` no image is shown mirrored.
    """

    policy: str
    pairs: tuple[tuple[int, int], ...]
    mirrors: bool = True

    def __call__(self, pixels: "Pixels", objects: list[Object], seed: int) -> tuple["Pixels", list[Object]]:
        """Vary an image: uint8 RGB [H, W, 3] and its objects (relative coordinates) -> the same, moved alike.

        As many objects come out as went in, in the same order. Boxes are clipped to the image, landmarks that
        leave it become absent, left and right ones change places in a mirrored image. The inputs are not
        written to; a step that does nothing returns them as they are. Not for several threads at once.
        """
        pixels, objects, _ = self.move(pixels, objects, seed)
        return self.look(pixels, seed), objects

    def build(self) -> None:
        """Import the library and build the policy now, not with the first image: processes that are forked later have
        both.
        """
        _built(self.policy)

    def move(self, pixels: "Pixels", objects: list[Object], seed: int) -> tuple["Pixels", list[Object], int]:
        """The geometric step alone, and how many draws were rejected because an object all but left the image.

        After `DRAWS` rejected draws the image stays as it is: it is never shown without an object it is
        labelled with, nor is the label taken away.
        """
        from pipeline.augment.policies.failing import failing
        from pipeline.augment.policies.labels import move_objects
        from pipeline.augment.policies.notes import note

        geometry = self._steps(seed).geometry
        if geometry is None:
            return pixels, objects, 0
        for draw in range(DRAWS):
            own = derived_seed(seed, "move", draw)
            with failing(self.policy):
                moved_pixels, moved = move_objects(geometry, pixels, objects, own, self.pairs, self.mirrors)
            if moved is not None:
                return moved_pixels, moved, draw
        note(lambda: "not moved: each draw lost an object")
        return pixels, objects, DRAWS

    def look(self, pixels: "Pixels", seed: int) -> "Pixels":
        """The other step alone: light, colour, noise and blur. An image with a side below `LEAST` stays as it is."""
        from pipeline.augment.policies.failing import failing

        look = self._steps(seed).look
        if look is None or min(pixels.shape[:2]) < LEAST:
            return pixels
        with failing(self.policy):
            return look(pixels, derived_seed(seed, "look"))

    def _steps(self, seed: int) -> "Policy":
        policy = _built(self.policy)
        return policy.drawn(derived_seed(seed, "either")) if policy.drawn else policy


def augmenter(
    policy: str | list[dict[str, Any]], labelled: Dataset | Sequence[tuple[int, int]] = (), objects: bool = True
) -> Augment:
    """The policy `policy` for a dataset, or for its left-right landmark pairs. Without `objects` its images have a
    label each, which has no sides: all may be mirrored, whatever landmarks there are.

    Raises InputError naming the nearest policy where there is none of that name.
    """
    known = _known(policy)
    name = known if isinstance(known, str) else json.dumps(known)
    if isinstance(labelled, Dataset):
        pairs, mirrors = labelled.pairs, not (objects and unpaired(labelled))
    else:
        pairs, mirrors = list(labelled), True
    return Augment(name, tuple((a, b) for a, b in pairs), mirrors)


@cache
def _built(policy: str) -> "Policy":
    import cv2

    cv2.setNumThreads(0)  # images are small and processes many: OpenCV's threads would slow each other down
    written = policy.startswith("[")
    built: Policy = (
        load("pipeline.augment.policies.written:build")(json.loads(policy))
        if written
        else load(POLICIES[policy].build)()
    )
    return built
