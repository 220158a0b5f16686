"""What exported files are held to."""

from typing import ClassVar, Literal

from pydantic import field_validator

from pipeline.core.params import Block, Fraction, nearest

LANDMARKS = {"nme": "landmarks", "pck": "landmarks", "nme_interocular": "landmarks"}
FIGURES = {  # of metrics.json, and what part of an answer each is of
    "classify": {"accuracy": "labels", "macro_f1": "labels", "clip_accuracy": "clips"},
    "localize": {"mean_iou": "boxes", "accuracy": "labels", "presence_accuracy": "presence", **LANDMARKS},
    "detect": {
        **{"AP": "boxes", "AP50": "boxes", "AP75": "boxes", "AR": "boxes"},
        **{"AP_small": "boxes", "AP_medium": "boxes", "AP_large": "boxes"},
        **{"landmark_AP": "landmarks", **LANDMARKS},
    },
}
# held only where `tolerances` names them: they say again, with more noise or in other units, what the others say
BY_CHOICE = ("AP75", "AR", "AP_small", "AP_medium", "AP_large", "nme_interocular")


class VerifyParams(Block):
    """Of a run of any task; a task's own, which params.yaml is read by, knows the names of its figures."""

    KNOWN: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys(name for names in FIGURES.values() for name in names))

    tolerance: Fraction = 0.03
    """How far each figure may fall (an error: rise) from the float model to the file that ships; 1: as it likes."""
    tolerances: dict[str, Fraction] = {}
    """Of single figures, in place of `tolerance`: `{pck: 0.05}`."""
    per_class: bool = False
    """Whether the main metric of each label is held to its tolerance too."""
    small_test: Literal["warn", "fail", "pass"] = "warn"
    """Where the test split is too small to tell a fall of `tolerance`: say so, fail, or only note it in the verdict."""
    size_ratio: Fraction = 0.35
    """The most that an int8 file may have of the float file's bytes; 256 KB are free, for what is no weight."""

    @field_validator("tolerances")
    @classmethod
    def _are_figures(cls, tolerances: dict[str, float]) -> dict[str, float]:
        wrong = [name for name in tolerances if name not in cls.KNOWN]
        if wrong:
            raise ValueError(f"no figure {wrong[0]!r}{nearest(wrong[0], cls.KNOWN)}")
        return tolerances

    def tolerance_of(self, figure: str) -> float:
        return self.tolerances.get(figure, self.tolerance)


class ClassifyVerify(VerifyParams):
    KNOWN = tuple(FIGURES["classify"])


class LocalizeVerify(VerifyParams):
    KNOWN = tuple(FIGURES["localize"])


class DetectVerify(VerifyParams):
    KNOWN = tuple(FIGURES["detect"])
