"""The steps of `datasets.<name>.preprocess`, by name: their arguments, what they do, and whether a phone can do them.

A step goes before the net wherever that is fed, on the phone too. With `train_only` it makes one more copy of each
training image instead, as `augment` makes them; what a phone cannot do is allowed in no other way.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import BeforeValidator, Field, model_validator

from pipeline.core.params import Block

FORM = "expected a list of steps, each its name or {step: NAME, ...}, as [gray, {step: clahe, train_only: true}]"
Odd = Literal[1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21]


class Step(Block):
    """What steps have in common. `DOES` is the module and name of the function. A phone has those of `ops.steps`."""

    DOES: ClassVar[str]

    step: str
    """Its name."""
    train_only: bool = False
    """As one more copy of each training image, and not before the net."""

    @model_validator(mode="after")
    def _has_a_place(self) -> "Step":
        from pipeline.ops.steps import STEPS as ON_PHONE  # with NumPy, which most who read params do without

        if not (self.step in ON_PHONE or self.train_only):
            can = ", ".join(name for name in STEPS if name in ON_PHONE)
            raise ValueError(
                f"{self.step}: no phone has it before the net; expected train_only: true, which learns from one more "
                f"copy of each training image, or one of {can}"
            )
        return self

    def arguments(self) -> dict[str, Any]:
        """Of its function."""
        return self.model_dump(exclude={"step", "train_only"})


class Gray(Step):
    DOES = "pipeline.ops.steps:gray"

    step: Literal["gray"]
    """Luma in all three channels."""


class Gaussian(Step):
    DOES = "pipeline.ops.steps:gaussian"

    step: Literal["gaussian"]
    """Blurred by a binomial kernel."""
    side: Literal[3, 5] = 3
    """Of the kernel, in pixels of the canvas."""


class Median(Step):
    DOES = "pipeline.ops.steps:median"

    step: Literal["median"]
    """The median of 3 x 3 pixels, per channel."""


class Bilateral(Step):
    DOES = "pipeline.augment.filters:bilateral"

    step: Literal["bilateral"]
    """Smoothed, but not over edges."""
    diameter: Odd = 9
    """Of the pixels around that count."""
    levels: Annotated[float, Field(gt=0, le=255)] = 40.0
    """How far apart colours are that mix, of 255."""
    reach: Annotated[float, Field(gt=0, le=100)] = 5.0
    """How far apart pixels are that mix."""


class NonLocalMeans(Step):
    DOES = "pipeline.augment.filters:non_local_means"

    step: Literal["non_local_means"]
    """The mean of alike patches around. Slow: a large `search` most of all."""
    strength: Annotated[float, Field(gt=0, le=50)] = 6.0
    """Of light and colour, in levels of 255: what is weaker is noise."""
    patch: Odd = 7
    """Side of a patch, in pixels."""
    search: Odd = 21
    """Side of the square in which patches are looked for, in pixels."""


class Clahe(Step):
    DOES = "pipeline.augment.filters:clahe"

    step: Literal["clahe"]
    """Contrast-limited adaptive histogram equalization of the lightness."""
    clip: Annotated[float, Field(ge=1, le=40)] = 2.0
    """How far a tile's contrast may rise."""
    tiles: Annotated[int, Field(ge=1, le=32)] = 8
    """A side."""


class Grabcut(Step):
    DOES = "pipeline.augment.filters:grabcut"

    step: Literal["grabcut"]
    """The foreground alone, on grey: what GrabCut (Rother, Kolmogorov and Blake 2004) cuts out of a box."""
    around: Literal["objects", "centre"] = "objects"
    """Each object's box, with its landmarks for sure; or a box in the middle of the image."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Of the image's sides that the box in the middle takes."""
    iterations: Annotated[int, Field(ge=1, le=20)] = 5
    """Of GrabCut."""
    opening: Odd = 3
    """Specks up to this many pixels go from the foreground; 1: none."""
    closing: Odd = 5
    """Holes up to this many pixels are filled; 1: none."""


STEPS: dict[str, type[Step]] = {
    "gray": Gray,
    "gaussian": Gaussian,
    "median": Median,
    "bilateral": Bilateral,
    "non_local_means": NonLocalMeans,
    "clahe": Clahe,
    "grabcut": Grabcut,
}
if TYPE_CHECKING:
    AnyStep = Step
else:  # a type checker cannot follow a union that is made of a table
    AnyStep = Annotated[Union[tuple(STEPS.values())], Field(discriminator="step")]  # noqa: UP007


def _named(said: Any) -> Any:
    """A step that is a name alone has its default arguments."""
    steps = [{"step": step} if isinstance(step, str) else step for step in said] if isinstance(said, list) else [said]
    for step in steps:
        if not isinstance(said, list) or not isinstance(step, dict) or "step" not in step:
            raise ValueError(f"found {step!r:.80}; {FORM}")
    return steps


Steps = Annotated[list[AnyStep], BeforeValidator(_named)]


def before_the_net(steps: list[Step]) -> list[dict[str, Any]]:
    """The steps of all images, as model.json has them."""
    return [{"step": step.step, **step.arguments()} for step in steps if not step.train_only]


def train_only(steps: list[Step]) -> list[Step]:
    """The steps of the copies that only training sees."""
    return [step for step in steps if step.train_only]
