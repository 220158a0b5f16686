"""What a record of splits decides: images that it has stay where they were, and new ones tied to one of them go there."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.core.sample import Sample


@dataclass(slots=True)
class Recorded:
    """Id -> split of images that were assigned before, and group -> splits, those of images that are gone among them."""

    images: dict[str, str] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)


def settle(
    groups: list[list[Sample]], alike: list[list[Sample]], given: dict[str, str], recorded: Recorded
) -> tuple[dict[str, str], dict[str, str]]:
    """(id -> split, id -> why it must go) of the recorded images and of new ones that share a group or are alike.

    `groups` and `alike` are all images in sets, `given` the source's own splits. A recorded image never goes, and moves
    only where the source places it now. A new one that is tied to images of two splits goes. What is tied to none is
    not in the answer. With the new ones recorded, the answer is the same again.
    """
    sets = [_Set("group", c, recorded.groups.get(c[0].group or "", set())) for c in groups if c[0].group]
    sets += [_Set("near-duplicate", c) for c in alike if len(c) > 1]
    of: dict[str, list[_Set]] = {s.id: [] for c in groups for s in c}
    for one in sets:
        for s in one.members:
            of[s.id].append(one)
    held_out = {i: split for i, split in given.items() if split != "train"}
    splits = {i: split for i, split in recorded.images.items() if i not in held_out}
    leaks: dict[str, str] = {}
    for i, split in splits.items():
        for one in of[i]:
            one.take(i, split)
    stay = []
    for i, split in held_out.items():  # before the others, which are held to those of them that stay
        if any(side != split for one in of[i] for side in one.sides):
            splits[i], leaks[i] = split, f"{_said(of[i])}, itself in {split}"
        else:
            stay.append(i)
    firm = [one for one in sets if one.sides]
    for i in stay:
        for one in of[i]:
            one.take(i, held_out[i])
    _spread(firm, of, held_out, splits, leaks)
    return splits, leaks


class _Set:
    """Images that belong on one side, and the splits that some of them have, each with one that has it."""

    def __init__(self, what: str, members: list[Sample], sides: Iterable[str] = ()) -> None:
        self.what, self.members = what, members
        self.sides = dict.fromkeys(sorted(sides), members[0].group or "")

    def take(self, i: str, split: str) -> None:
        self.sides[split] = min(i, self.sides.get(split, i))


def _spread(
    firm: list[_Set], of: dict[str, list[_Set]], held_out: dict[str, str], splits: dict[str, str], leaks: dict[str, str]
) -> None:
    """Give what is in a set with a recorded image, or with one that got its split here, that split, or have it go."""
    waiting = deque(s.id for one in firm for s in one.members)
    reached = {id(one) for one in firm}
    while waiting:
        i = waiting.popleft()
        if i in splits or i in held_out:
            continue
        sides = {side for one in of[i] for side in one.sides}
        splits[i] = min(sides)
        if len(sides) > 1:
            leaks[i] = _said(of[i])
            continue
        for one in of[i]:
            one.take(i, splits[i])
            if id(one) not in reached:
                reached.add(id(one))
                waiting += [s.id for s in one.members]


def _said(sets: list[_Set]) -> str:
    ties = [f"{one.what} of {twin} in {side}" for one in sets for side, twin in sorted(one.sides.items())]
    return f"{' and '.join(ties)}, as recorded"
