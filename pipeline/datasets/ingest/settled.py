"""What a record of splits decides: its images stay where they were, and new ones that are tied to them go there."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.core.sample import Sample


@dataclass(slots=True)
class Recorded:
    """Id -> split of images that were assigned before, and group -> splits, also those of images that are gone."""

    images: dict[str, str] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)


class Tie:
    """Images of one `group`, or alike; the splits that some of them have, each with the group or one that has it."""

    def __init__(self, group: str | None, members: list[Sample], sides: Iterable[str] = ()) -> None:
        self.group, self.members = group, members
        self.sides = dict.fromkeys(sides, group or "")

    def take(self, i: str, split: str) -> None:
        self.sides[split] = self.group or min(i, self.sides.get(split, i))


def ties_of(groups: list[list[Sample]], alike: list[list[Sample]], recorded: Recorded) -> dict[str, list[Tie]]:
    """Id -> what ties an image to others; `groups` and `alike` are all images, in sets."""
    ties = [Tie(None, c) for c in alike if len(c) > 1]
    ties += [Tie(c[0].group, c, recorded.groups.get(c[0].group, ())) for c in groups if c[0].group]
    of: dict[str, list[Tie]] = {s.id: [] for c in groups for s in c}
    for tie in ties:
        for s in tie.members:
            of[s.id].append(tie)
    return of


def settle(of: dict[str, list[Tie]], given: dict[str, str], recorded: Recorded) -> tuple[dict[str, str], set[str]]:
    """(id -> split, ids that must go) of the recorded images and of new ones that are tied to them.

    `of` are the ties of all images, by id in order, `given` the source's own splits. What the source places in val or
    test now is there, recorded or not, and goes if its group or one that is alike is recorded in another split. Any
    other recorded image neither moves nor goes. A new one that is tied to images of two splits goes. What is tied to
    no recorded image, nor to one that is, is not in the answer. With the new ones recorded, the answer is the same
    again.
    """
    held_out = {i: given[i] for i in of if given.get(i, "train") != "train"}
    splits = {i: split for i, split in recorded.images.items() if i not in held_out}
    for i, split in splits.items():
        for tie in of[i]:
            tie.take(i, split)
    firm = {id(tie): tie for i in of for tie in of[i] if tie.sides}
    # before the others, which are held to those of them that stay
    gone = {i for i, split in held_out.items() if any(side != split for tie in of[i] for side in tie.sides)}
    splits |= {i: held_out[i] for i in gone}
    for i, split in held_out.items():
        for tie in of[i] if i not in gone else ():
            tie.take(i, split)
    waiting = deque(s.id for tie in firm.values() for s in tie.members)
    while waiting:
        i = waiting.popleft()
        if i in splits or i in held_out:
            continue
        sides = {side for tie in of[i] for side in tie.sides}
        splits[i] = min(sides)
        if len(sides) > 1:
            gone.add(i)
            continue
        for tie in of[i]:
            tie.take(i, splits[i])
            if id(tie) not in firm:
                firm[id(tie)] = tie
                waiting += [s.id for s in tie.members]
    return splits, gone


def said_ties(ties: list[Tie], given: str | None) -> str:
    """Why an image goes whose `ties` have all the splits that there are in the end; `given` is the source's for it."""
    found = [
        f"{'group' if tie.group else 'near-duplicate of'} {twin} in {side}"
        for tie in ties
        for side, twin in sorted(tie.sides.items())
    ]
    itself = f", itself in {given}" if given else ""
    return f"{' and '.join(found)}, as recorded{itself}"
