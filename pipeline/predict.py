"""What a trained run says of pictures from anywhere."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError
from pipeline.export import exported_file
from pipeline.models.spec import model_folder, read_spec
from pipeline.preprocess import open_image
from pipeline.runtimes import open_runtime, predict_image
from pipeline.sample import Dataset, Sample
from pipeline.sheets import draw


def predict_files(
    images: list[Path], run: str, target: str, models: Path, exports: Path, drawings: Path | None = None
) -> Iterator[Sample]:
    """One sample per image, in their order: `file_name` and `id` are the image's path as given.

    `target`: "torch" for models/<run>, or a file of exports/<run> by its target's name. With `drawings`, each
    picture is written there with its prediction drawn in. Raises InputError for an unknown run or target, or a
    picture that does not decode.
    """
    folder = model_folder(models, run)
    spec = read_spec(folder / "model.json")
    runtime = open_runtime(target, folder if target == "torch" else exported_file(exports / run, target))
    dataset = Dataset(spec.dataset, spec.labels, spec.landmarks, spec.pairs, spec.skeleton)
    for number, path in enumerate(images):
        try:
            image = open_image(path)
        except OSError as error:
            raise InputError(f"{path}: not a picture that decodes: {error}") from None
        sample = predict_image(runtime, spec, image)
        sample.id = sample.file_name = str(path)
        if drawings is not None:
            drawings.mkdir(parents=True, exist_ok=True)
            nothing = Sample("", "", image.width, image.height)
            draw(image, nothing, dataset, sample).save(_free(drawings, path, images[:number]))
        yield sample


def _free(folder: Path, path: Path, before: list[Path]) -> Path:
    """Where the drawing of `path` goes: pictures of one name from several folders get a number."""
    same = sum(p.stem == path.stem for p in before)
    return folder / (f"{path.stem}-{same + 1}.png" if same else f"{path.stem}.png")
