"""Images by what a backbone makes of them: a map, which are alike, which are like no other. FiftyOne's brain is given
the vectors: without them it would download a model.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Sample

MAP, ALIKE, UNIQUE = "map", "alike", "uniqueness"  # the keys by which the App finds them
NUMBERS = 50  # per image that are left of a vector: neighbours stay neighbours, and a database stays small
FEWEST = 10  # images, below which t-SNE has nothing to arrange
PERPLEXITY = 30
NEIGHBOURS = 3  # with which FiftyOne's uniqueness compares an image: it asks for no fewer
SEED = 0


def add_map(view: Any, samples: list[Sample], vectors: NDArray[np.float32]) -> None:
    """Give the App a map of the images, an order by likeness and `uniqueness` (1 for the one farthest from others; none
    where all are alike). `vectors` [N, C] are those of `samples`, which are all that `view` has, in its order.
    """
    from fiftyone import brain

    reduced = components(vectors, NUMBERS)
    brain.compute_visualization(view, points=points_of(reduced), brain_key=MAP, create_index=True, progress=False)
    brain.compute_similarity(view, embeddings=reduced, backend="sklearn", brain_key=ALIKE, progress=False)
    if len(samples) > NEIGHBOURS and np.ptp(reduced, axis=0).any():
        brain.compute_uniqueness(view, uniqueness_field=UNIQUE, embeddings=reduced, progress=False)


def components(vectors: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """float32 [N, min(most, N, C)]: the principal components of [N, C], of which neither sign nor order is left to
    chance.
    """
    from sklearn.decomposition import PCA

    count = min(most, *vectors.shape)
    return np.asarray(PCA(count, svd_solver="auto", random_state=SEED).fit_transform(vectors), np.float32)


def points_of(reduced: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [N, 2]: a place on the map for each of [N, K]; the same for the same input."""
    from sklearn.manifold import TSNE

    if len(reduced) < FEWEST or reduced.shape[1] < 2:
        return np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - reduced.shape[1]))))
    around = min(PERPLEXITY, (len(reduced) - 1) / 3)
    return np.asarray(
        TSNE(perplexity=around, init="pca", random_state=SEED, n_jobs=1).fit_transform(reduced), np.float32
    )
