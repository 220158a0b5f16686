"""Params of a run's net and of its training, by task. Defaults are those of a run on data of one's own."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from pipeline.augment.policies import AnyPolicy, why_unfit
from pipeline.core.params import Block, Count, Fraction, Seed
from pipeline.models.heads import AnchorFreeHead, DetectHead, FlattenHead, LocalizeHead, PoolHead, head_options

if TYPE_CHECKING:  # a checker sees what the heads of a task have in common
    AnyClassifyHead = PoolHead | FlattenHead
    AnyDetectHead = DetectHead
else:
    AnyClassifyHead, AnyDetectHead = head_options("classify"), head_options("detect")


LARGEST = 2048  # pixels a side of a net's input: more fits no phone, and hardly a training


class _Model(Block):
    backbone: str = "mobilenetv2_100"
    """Any timm name, or a MobileNet of any width, such as mobilenetv2_050."""
    pretrained: bool | str = False
    """true takes timm's weights from its hub, false random ones; or the path of a weights file or a run's model."""
    pretrained_sha256: str | None = None
    """Of the weights file; where it is stated, no other file is taken. The stage `params` fills it in."""
    normalization: Literal["pretrained", "dataset"] = "pretrained"
    """Mean and deviation of pixels: those that the backbone's weights expect, or those of the training images."""
    size: Annotated[int, Field(ge=32, le=LARGEST, multiple_of=32)]
    """The net's input side in pixels, a multiple of 32."""
    resize: Literal["stretch", "letterbox", "crop"] = "letterbox"
    """How an image fills that square: stretched, with grey bars, or by its middle square."""

    _HEAD: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _usual_head(cls, data: Any) -> Any:
        head = data.get("head") if isinstance(data, dict) else None
        if cls._HEAD and isinstance(head, dict) and "kind" not in head:
            return data | {"head": {"kind": cls._HEAD, **head}}
        return data


class ClassifyModel(_Model):
    size: Annotated[int, Field(ge=32, le=LARGEST, multiple_of=32)] = 224
    """The net's input side in pixels, a multiple of 32."""
    head: AnyClassifyHead = PoolHead()
    """What comes after the backbone."""

    _HEAD = "pool"


class LocalizeModel(_Model):
    size: Annotated[int, Field(ge=32, le=LARGEST, multiple_of=32)] = 192
    """The net's input side in pixels, a multiple of 32."""
    head: LocalizeHead = LocalizeHead()
    """What comes after the backbone."""


class DetectModel(_Model):
    size: Annotated[int, Field(ge=32, le=LARGEST, multiple_of=32)] = 320
    """The net's input side in pixels, a multiple of the coarsest stride."""
    head: AnyDetectHead = AnchorFreeHead()
    """What comes after the backbone."""

    _HEAD = "anchor_free"

    @model_validator(mode="after")
    def _cells_fit(self) -> "DetectModel":
        coarsest = self.head.strides[-1]
        if self.size % coarsest:
            raise ValueError(f"size {self.size}: expected a multiple of the coarsest stride, {coarsest}")
        return self


class Online(Block):
    """Augmentation while training, anew in every epoch."""

    policy: AnyPolicy = "photo_geometry"
    """An augmentation policy by name, or a list of albumentations' transforms."""


class ClassifyOnline(Online):
    mixup: Fraction = 0.0
    """Share of the batches whose images are each blended with another one, and their labels alike."""
    cutmix: Fraction = 0.0
    """Share of the batches whose images each have a piece of another one, and its label for the piece's share."""
    quiet_epochs: Annotated[int, Field(ge=0)] = 0
    """The last ones of `epochs`: nothing mixed."""

    @model_validator(mode="after")
    def _are_shares(self) -> "ClassifyOnline":
        if self.mixup + self.cutmix > 1:
            raise ValueError(f"mixup {self.mixup} and cutmix {self.cutmix}: expected shares, 1 together at most")
        return self


class DetectOnline(Online):
    policy: AnyPolicy = "photo_zoom"
    """An augmentation policy by name, or a list of albumentations' transforms."""
    mosaic: Fraction = 0.5
    """Share of the training images that are four in one."""
    smallest: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Batches are shrunk to between this share of `size` and all of it."""
    quiet_epochs: Annotated[int, Field(ge=0)] = 10
    """The last ones of `epochs`: no mosaic, nothing shrunk."""


class _Train(Block):
    frozen_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which only the head learns, on features that are computed once; for pretrained backbones."""
    epochs: Annotated[int, Field(ge=0)]
    """Epochs after those, with the backbone and online augmentation."""
    tuned_blocks: Literal["all"] | Annotated[int, Field(ge=0)] = "all"
    """How many of the backbone's last blocks learn in `epochs`."""
    backbone_norm: Literal["batch", "frozen"] = "batch"
    """frozen: batch norm keeps the statistics that pretrained weights came with, which is quicker."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a rare label counts as much as a frequent one."""
    patience: Count
    """Training stops after so many of `epochs` that are no gain on validation over all before."""
    batch_size: Annotated[int, Field(ge=2)]
    """Images per step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    """The peak of a warm-up and cosine."""
    backbone_rate: Fraction = 1.0
    """The backbone's share of the learning rate; 0.1 keeps what ImageNet weights know."""
    head_rate: Fraction = 1.0
    """The head's share of the learning rate after frozen epochs."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each block of the backbone has this share of the learning rate of the next one, nearer to the head."""
    weight_decay: Fraction = 0.02
    """Of AdamW."""
    online: Online = Online()
    """Augmentation while training."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 where the CPU or GPU computes it natively."""
    seed: Seed = 0
    """Of the weights, the order of images, dropout and augmentation."""

    @model_validator(mode="after")
    def _learns(self) -> "_Train":
        if self.epochs + self.frozen_epochs == 0:
            raise ValueError("epochs and frozen_epochs are both 0; expected at least 1 of them")
        return self


class ClassifyTrain(_Train):
    epochs: Annotated[int, Field(ge=0)] = 15
    """Epochs after the frozen ones, with the backbone and online augmentation."""
    patience: Count = 8
    """Training stops after so many of `epochs` that are no gain on validation over all before."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images per step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.002
    """The peak of a warm-up and cosine."""
    online: ClassifyOnline = ClassifyOnline()
    """Augmentation while training."""


class LocalizeTrain(_Train):
    epochs: Annotated[int, Field(ge=0)] = 40
    """Epochs after the frozen ones, with the backbone and online augmentation."""
    patience: Count = 15
    """Training stops after so many of `epochs` that are no gain on validation over all before."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Images per step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.003
    """The peak of a warm-up and cosine."""


class DetectTrain(_Train):
    epochs: Annotated[int, Field(ge=0)] = 60
    """Epochs after the frozen ones, with the backbone and online augmentation."""
    patience: Count = 30
    """Training stops after so many of `epochs` that are no gain on validation over all before."""
    batch_size: Annotated[int, Field(ge=2)] = 8
    """Images per step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.002
    """The peak of a warm-up and cosine."""
    weight_decay: Fraction = 0.3
    """Of AdamW; a detector overfits small sets, so it is higher than a classifier's."""
    online: DetectOnline = DetectOnline()
    """Augmentation while training."""


class _Run(Block):
    """What the stage `train` reads of a run."""

    dataset: str
    """The dataset that it learns from, by its name in `datasets`."""

    PRETRAINED: ClassVar[dict[str, Any]] = {}
    """Defaults of `train` for a pretrained backbone, in place of those for random weights."""
    PRETRAINED_MOBILENET: ClassVar[dict[str, Any]] = {}
    """More of them for a MobileNet."""

    @model_validator(mode="after")
    def _frozen_layers_see_what_they_know(self) -> Self:
        train: _Train | None = getattr(self, "train", None)
        model: _Model | None = getattr(self, "model", None)
        if model and train and model.normalization == "dataset" and model.pretrained and train.frozen_epochs:
            raise ValueError(
                "model.normalization: dataset, while train.frozen_epochs leaves pretrained layers as they are, which "
                "know pixels of another mean; expected pretrained, or frozen_epochs: 0"
            )
        return self

    _from_recipe: frozenset[str] = PrivateAttr(frozenset())  # knobs of `train` that are not stated

    @model_validator(mode="wrap")
    @classmethod
    def _recipe(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        model, train = (data.get(key, {}) if isinstance(data, dict) else None for key in ("model", "train"))
        if not (isinstance(model, dict) and isinstance(train, dict) and model.get("pretrained", False)):
            return validate(data)
        mobilenet = str(model.get("backbone", "mobilenetv2")).startswith("mobilenetv")
        recipe = cls.PRETRAINED | (cls.PRETRAINED_MOBILENET if mobilenet else {})
        run = validate(data | {"train": recipe | train})
        run._from_recipe = frozenset(recipe) - frozenset(train)
        return run

    def stated(self) -> dict[str, Any]:
        """What was said of the run, without any default: with another net its own defaults hold again."""
        block = self.model_dump(exclude_unset=True)
        if self._from_recipe:
            block["train"] = {key: value for key, value in block["train"].items() if key not in self._from_recipe}
        return block


class ClassifyRun(_Run):
    task: Literal["classify"]
    """A label per image."""
    model: ClassifyModel = ClassifyModel()
    """The net."""
    train: ClassifyTrain = ClassifyTrain()
    """How it learns."""

    # the head has learned in the frozen epochs: what follows takes small steps, and ends soon where it is no gain
    PRETRAINED = {
        **{"frozen_epochs": 30, "epochs": 8, "patience": 2},
        **{"head_rate": 0.05, "backbone_rate": 0.05, "backbone_norm": "frozen"},
    }
    PRETRAINED_MOBILENET = {"layer_decay": 0.8}


def _fitting(train: _Train, task: str) -> None:
    if unfit := why_unfit(train.online.policy, task):
        raise ValueError(f"train.online.policy: {unfit}")


class LocalizeRun(_Run):
    task: Literal["localize"]
    """One object per image, or none: its box, class and landmarks."""
    model: LocalizeModel = LocalizeModel()
    """The net."""
    train: LocalizeTrain = LocalizeTrain()
    """How it learns."""

    PRETRAINED = {"frozen_epochs": 2}

    @model_validator(mode="after")
    def _policy_fits(self) -> "LocalizeRun":
        _fitting(self.train, self.task)
        return self


class DetectRun(_Run):
    task: Literal["detect"]
    """Any number of objects per image, with landmarks where the data has them."""
    model: DetectModel = DetectModel()
    """The net."""
    train: DetectTrain = DetectTrain()
    """How it learns."""

    PRETRAINED = {"backbone_norm": "frozen", "backbone_rate": 0.1}

    # a small set does not improve a MobileNet's first layers, and two fifths of a step's time would go there
    PRETRAINED_MOBILENET = {"tuned_blocks": 12}

    @model_validator(mode="after")
    def _policy_fits(self) -> "DetectRun":
        _fitting(self.train, self.task)
        return self


RunParams = ClassifyRun | LocalizeRun | DetectRun
AnyRun = Annotated[RunParams, Field(discriminator="task")]
TRAINED_BY = ("dataset", "task", "model", "train")  # blocks of a run
