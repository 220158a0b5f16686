"""Groups to train, val and test, so that nothing in test has been seen in training."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from pipeline.core.errors import InputError
from pipeline.core.sample import SPLITS, Sample
from pipeline.datasets.ingest.settled import Recorded, said_ties, settle, ties_of
from pipeline.datasets.params import SplitParams

Pairs = Iterable[tuple[str, str]]


def assign(
    samples: Sequence[Sample], pairs: Pairs, params: SplitParams, recorded: Recorded | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """(id -> split, id -> why it must go), the same for any order of `samples`; `pairs` are near-duplicate ids.

    The source's split is kept, unless it puts everything into one; what it does not place counts as train. Splits
    that it does not have are taken out of train with the shares of `params`: whole groups, near-duplicates joined,
    stratified by label as far as groups allow (a label of three groups is in all three splits). Where the source
    itself has a group or near-duplicates on two sides, the copies nearer to training must go. What is `recorded`
    stays where it was, and what is tied to it goes there; see settle. Raises InputError when nothing is left for train.

    >>> samples = [Sample(f"{i}", f"{i}.jpg", 64, 64, group=f"clip{i // 2}", label="cow") for i in range(12)]
    >>> splits, leaks = assign(samples, [("1", "2")], SplitParams(val=0.2, test=0.2, seed=0))
    >>> sorted(Counter(splits.values()).items()), leaks
    ([('test', 2), ('train', 8), ('val', 2)], {})
    >>> splits["0"] == splits["1"] == splits["2"] == splits["3"]  # two groups that a near-duplicate joins
    True
    """
    given = given_splits(samples)
    alike, recorded = _components(samples, pairs, by_group=False), recorded or Recorded()
    ties = ties_of(_components(samples, []), alike, recorded)
    splits, gone = settle(ties, given, recorded)
    placed = set(splits)
    free = [s for s in samples if s.id not in placed]
    stay = [s for s in samples if s.id in placed and s.id not in gone and given.get(s.id, "train") == "train"]
    tied = [(a.id, b.id) for c in alike for a, b in pairwise(s for s in c if s.id not in placed)]
    training = []
    for component in _components(free, tied):
        said = {given[s.id] for s in component if s.id in given} or {"train"}
        splits |= {s.id: given.get(s.id) or max(said, key=SPLITS.index) for s in component}
        if said == {"train"}:
            training.append(component)
    if samples and "train" not in {split for i, split in splits.items() if i not in gone}:
        raise InputError(f"the source has images for {' and '.join(sorted(set(splits.values())))}, none for train")
    shares = {
        split: share for split, share in (("val", params.val), ("test", params.test)) if split not in given.values()
    }
    splits |= _stratified(training, {"train": 1 - sum(shares.values()), **shares}, params.seed, _parts(stay, splits))
    leaks = _leaks(_components(free, []), _components(free, tied, by_group=False), splits)
    for s in free if gone else ():
        for tie in ties[s.id] if s.id not in leaks else ():
            tie.take(s.id, splits[s.id])
    return splits, leaks | {i: said_ties(ties[i], given.get(i)) for i in gone}


def given_splits(samples: Sequence[Sample]) -> dict[str, str]:
    """Id -> the split that the source says; empty where it puts everything into one."""
    return {s.id: s.split for s in samples if s.split} if by_source(samples) else {}


def by_source(samples: Sequence[Sample]) -> bool:
    """Whether the source says what is train, val and test: it does not where it puts everything into one.

    >>> by_source([Sample("1", "1.jpg", 64, 64, split="train"), Sample("2", "2.jpg", 64, 64, split="train")])
    False
    """
    return len({s.split for s in samples}) > 1


def joined(samples: Sequence[Sample], pairs: Pairs) -> dict[str, str]:
    """Id -> group, for near-duplicates that the source gave no group: they are one from now on, that of an image among
    them that has one.
    """
    sets = _components(samples, pairs)
    return {
        s.id: min((t.group for t in c if t.group), default=c[0].id)
        for c in sets
        if len(c) > 1
        for s in c
        if not s.group
    }


def leak_report(samples: Sequence[Sample], pairs: Pairs) -> dict[str, int]:
    """How many groups and near-duplicate pairs lie on two sides: zeros, after what `assign` says has gone.

    >>> samples = [Sample(s, f"{s}.jpg", 64, 64, split=s, group="clip1") for s in ("train", "test")]
    >>> leak_report(samples, [("train", "test")])
    {'groups': 1, 'near_duplicates': 1}
    """
    split = {s.id: s.split for s in samples}
    sides: dict[str, set[str | None]] = defaultdict(set)
    for s in samples:
        if s.group:
            sides[s.group].add(s.split)
    crossing = [1 for a, b in pairs if a in split and b in split and split[a] != split[b]]
    return {"groups": sum(len(side) > 1 for side in sides.values()), "near_duplicates": len(crossing)}


def labels_of(sample: Sample) -> set[str]:
    """The labels that an image counts for: its own, or its objects'."""
    return {sample.label} if sample.label is not None else {o.label for o in sample.objects}


def _leaks(groups: list[list[Sample]], alike: list[list[Sample]], splits: dict[str, str]) -> dict[str, str]:
    """Ids on the training side of a group, or of a set of near-duplicates, that lies on two sides."""
    leaks = {}
    for sets, what in ((groups, "group"), (alike, "near-duplicate")):
        for members in sets:
            stay = [s for s in members if s.id not in leaks]
            held_out = max((splits[s.id] for s in stay), key=SPLITS.index, default="train")
            twin = next((s.id for s in stay if splits[s.id] == held_out), "")
            for s in stay:
                if splits[s.id] != held_out:
                    leaks[s.id] = said_leak(what, twin, s.id, splits)
    return leaks


def said_leak(what: str, twin: str, itself: str, splits: dict[str, str]) -> str:
    """Why an image must go: it is `what` of its `twin`, which is further from training."""
    return f"{what} of {twin} in {splits[twin]}, itself in {splits[itself]}"


def _components(samples: Sequence[Sample], pairs: Pairs, by_group: bool = True) -> list[list[Sample]]:
    """Samples joined by group and by pairs, in an order that does not depend on theirs (union-find)."""
    parent = {s.id: s.id for s in samples}

    def root(i: str) -> str:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    leaders: dict[str, str] = {}
    for s in samples if by_group else ():
        if s.group:
            parent[root(s.id)] = root(leaders.setdefault(s.group, s.id))
    for a, b in pairs:
        parent[root(a)] = root(b)
    members = defaultdict(list)
    for s in sorted(samples, key=lambda s: s.id):
        members[root(s.id)].append(s)
    return sorted(members.values(), key=lambda c: c[0].id)


def _parts(samples: list[Sample], splits: dict[str, str]) -> list[tuple[list[Sample], str]]:
    """Images that have their split, group by group, with it; a group that was recorded in two is two."""
    parts = defaultdict(list)
    for s in samples:
        parts[s.group or s.id, s.group is None, splits[s.id]].append(s)
    return [(members, split) for (_, _, split), members in sorted(parts.items())]


def _stratified(
    components: list[list[Sample]], shares: dict[str, float], seed: int, placed: list[tuple[list[Sample], str]]
) -> dict[str, str]:
    """Whole components to splits, the rarest label first, each to the split that lacks most of the label, where those
    that are `placed` are there already.
    """
    placed = [(members, split) for members, split in placed if split in shares]
    chance = [_chance(c, seed) for c in components]
    components = [*components, *(members for members, _ in placed)]
    sizes = [Counter(label for s in c for label in labels_of(s) or {""}) for c in components]
    by_label: dict[str, list[int]] = defaultdict(list)
    for i, size in enumerate(sizes):
        for label in size:
            by_label[label].append(i)
    place = {i: split for i, (_, split) in enumerate(placed, len(chance))}
    for label, members in sorted(by_label.items(), key=lambda item: (len(item[1]), item[0])):
        lack = {split: share * sum(sizes[i][label] for i in members) for split, share in shares.items()}
        for i in members:
            if i in place:
                lack[place[i]] -= sizes[i][label]
        todo = sorted((i for i in members if i not in place), key=lambda i: (-sizes[i][label], chance[i]))
        there = {place[i] for i in members if i in place}
        if len(members) >= len(shares):
            for split in reversed(SPLITS):
                if split in shares and split not in there and todo:
                    place[todo[-1]] = split  # the smallest, so that no split gets more than its share by it
                    lack[split] -= sizes[todo.pop()][label]
        for i in todo:
            place[i] = max(lack, key=lambda split: lack[split])
            lack[place[i]] -= sizes[i][label]
    return {s.id: place[i] for i, c in enumerate(components) for s in c}


def _chance(component: list[Sample], seed: int) -> str:
    """A number that only the seed and the component's name decide, whatever else is in the dataset."""
    name = min(s.group or s.id for s in component)
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogatepass")).hexdigest()
