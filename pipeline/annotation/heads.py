"""A classifier on features of a frozen backbone that learns in a moment, and what it says of what it has not seen."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Sample

FOLDS = 5
SHRINK = 0.02  # scikit-learn's C: small, as some of the labels are wrong
STEPS = 300

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


class Head:
    """A logistic regression on standardized `features` [N, C], `labels` [N] of 0 to `count` - 1 where not all of these
    need be there.
    """

    def __init__(self, features: Floats, labels: Indices, count: int, shrink: float = SHRINK) -> None:
        from sklearn.linear_model import LogisticRegression

        self._mean, self._spread = features.mean(axis=0), features.std(axis=0) + np.float32(1e-3)
        self.known, self._count = np.unique(labels), count
        if len(self.known) > 1:
            self._fitted = LogisticRegression(C=shrink, max_iter=STEPS).fit(self._scaled(features), labels)

    def __call__(self, features: Floats) -> Floats:
        """Probabilities [M, count]; 0 for a label that was not there."""
        said = np.zeros((len(features), self._count), np.float32)
        if len(features):
            one = np.ones((len(features), 1))
            said[:, self.known] = self._fitted.predict_proba(self._scaled(features)) if len(self.known) > 1 else one
        return said

    def _scaled(self, features: Floats) -> Floats:
        scaled: Floats = (features - self._mean) / self._spread
        return scaled


def group_of(sample: Sample) -> str:
    """What shows the same as the image does: its group, else its clip, else itself."""
    return sample.group or sample.clip or sample.id


def folds_of(groups: Sequence[str], seed: int = 0) -> Indices:
    """Which of at most `FOLDS` folds each row is in, a group in one of them: the largest group goes first, each to the
    fold that has the fewest rows.
    """
    names, of, sizes = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    filled, fold = np.zeros(min(FOLDS, len(names)), np.int64), np.zeros(len(names), np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold[group] = int(filled.argmin())
        filled[fold[group]] += sizes[group]
    return fold[of]


def out_of_fold(features: Floats, labels: Indices, groups: Sequence[str], count: int) -> Floats:
    """Probabilities [N, count] of each row by a head that has seen no row of its group. What no other group has cannot
    be judged: there the label is taken for sure.
    """
    said, folds = np.zeros((len(features), count), np.float32), folds_of(groups)
    for fold in np.unique(folds):
        held = folds == fold
        if held.all():
            head_knows: Indices = np.zeros(0, np.int64)
        else:
            head = Head(features[~held], labels[~held], count)
            head_knows, said[held] = head.known, head(features[held])
        unknown = np.flatnonzero(held & ~np.isin(labels, head_knows))
        said[unknown] = np.eye(count, dtype=np.float32)[labels[unknown]]
    return said


def margin(said: Floats, labels: Indices) -> Floats:
    """float32 [N], 0 to 1: how much surer of another label than of the given one; 0.5 where both are as likely."""
    rows = np.arange(len(labels))
    given, others = said[rows, labels], said.copy()
    others[rows, labels] = 0
    result: Floats = (1 + others.max(axis=1, initial=0) - given) / 2
    return result
