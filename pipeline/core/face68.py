"""The 68 points of a face as Multi-PIE, 300-W and dlib number them (Sagonas et al., 300 Faces in-the-Wild, ICCV 2013).

Sets of them say 68 and no names, so the count is what they are known by. From 0: jaw 0-16, brows 17-26, nose 27-35,
eyes 36-47, mouth 48-67; each part from the image's left to its right.
"""

COUNT = 68
EYE_CORNERS = (36, 45)  # the outer ones, whose distance is what papers on 300-W divide by

# what a mirror swaps
PAIRS: list[tuple[int, int]] = [
    *((i, 16 - i) for i in range(8)),  # jaw
    *((i, 43 - i) for i in range(17, 22)),  # brows
    (31, 35),
    (32, 34),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),  # eyes
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),  # outer lips
    *((60, 64), (61, 63), (65, 67)),  # inner lips
]

# first and last point of each line, and whether it is closed
_LINES = (
    *((0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False)),
    *((36, 41, True), (42, 47, True), (48, 59, True), (60, 67, True)),
)
SKELETON: list[tuple[int, int]] = [
    bone
    for first, last, closed in _LINES
    for bone in [*((i, i + 1) for i in range(first, last)), *([(last, first)] if closed else [])]
]


def is_face68(names: list[str], pairs: list[tuple[int, int]]) -> bool:
    """Whether a dataset's landmark `names` and left-right `pairs` are those of this scheme.

    >>> is_face68([f"point_{i}" for i in range(68)], PAIRS)
    True
    """
    return len(names) == COUNT and sorted(pairs) == sorted(PAIRS)
