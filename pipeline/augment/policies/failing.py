"""Where a policy fails on an image: an error that names the image, the policy and the transform."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from pipeline.core.errors import InputError

WHERE = ("albumentations.augmentations", "imgaug.augmenters", "torchvision.transforms", __name__.rpartition(".")[0])


@contextmanager
def failing(policy: str) -> Iterator[None]:
    """Raises InputError that names `policy` and its transform for whatever the block raises; `naming` adds the image.

    >>> with failing("photo"):
    ...     0 / 0
    Traceback (most recent call last):
    pipeline.core.errors.InputError: policy photo: ZeroDivisionError: division by zero; expected one that ...
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # of three libraries, of NumPy or of OpenCV
        steps = [policy, *_transform(error), told(error)]
        raise InputError(
            f"policy {': '.join(steps)}; expected one that takes this image, or the image left out"
        ) from error


@contextmanager
def naming(image: str) -> Iterator[None]:
    """An InputError of the block names the image."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{image}: {error}") from error


def told(error: Exception) -> str:
    """What a library says went wrong, in a line.

    >>> told(ValueError("high <= 0"))
    'ValueError: high <= 0'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _transform(error: Exception) -> list[str]:
    """The name of the innermost transform that the traceback passes: of its class, or of its function."""
    names = []
    for frame, _ in walk_tb(error.__traceback__):
        own = frame.f_locals.get("self")
        if own is not None and type(own).__module__.startswith(WHERE):
            names.append(type(own).__name__)
        elif frame.f_globals["__name__"].startswith(WHERE[-1]) and frame.f_globals["__name__"] != __name__:
            names.append(frame.f_code.co_name.strip("_"))
    return names[-1:]
