"""Landmarks of the left and of the right: as their names tell them, images are mirrored or not."""

import re

from pipeline.core.sample import Dataset

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # leftEye, LEye, left_eye and LEFT-EYE have two each
SIDED = re.compile(r"l|r|(left|right).*|.*(left|right)")
UNSIDED = ("bright", "upright", "cleft")


def unpaired(dataset: Dataset) -> str:
    """Why no image of `dataset` may be mirrored, or "": a mirrored left ear would still be called a left one.

    >>> unpaired(Dataset("herd", ["goat"], ["left_ear", "right_ear"]))
    'never mirrored: landmarks left_ear, right_ear look like left and right ones, and no `pairs` says which are'
    """
    names = dataset.landmarks
    if dataset.pairs or len(names) < 2:
        return ""
    sided = [name for name in names if _is_sided(name)]
    if sided:
        said = f"landmarks {', '.join(sided[:3])} look like left and right ones"
    elif all(name.isdigit() for name in names):
        said = f"landmarks {', '.join(names[:3])} have numbers for names"
    else:
        return ""
    return f"never mirrored: {said}, and no `pairs` says which are"


def _is_sided(name: str) -> bool:
    words = [word.lower() for word in WORD.findall(name)]
    return any(SIDED.fullmatch(word) and word not in UNSIDED for word in words)
