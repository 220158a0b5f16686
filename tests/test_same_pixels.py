"""What a model is trained on and what it is asked about are the same pixels, by the ways that files really take."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from shipped import spec_of
from test_ingest import params

import pipeline.inference.predict
import pipeline.inference.serving
from pipeline.core.image_file import ORIENTATION, open_image
from pipeline.core.sample import SPLITS, read_samples
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.datasets.formats.reading import Candidate
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.ingest.take import take
from pipeline.export.calibration import stored
from pipeline.inference.predict import predict_sources
from pipeline.inference.serving import Served
from pipeline.models.nets import build
from pipeline.training.loading import ImageDataset

SIZE = (96, 64)
COUNT = 4  # of each kind and label


def colours(seed: int, smooth: bool = False) -> np.ndarray:
    """Noise, in which a wrong value cannot hide, and no two are near-duplicates; or something that can be scaled."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(pixels[:2, :3]).resize(SIZE, Image.Resampling.BICUBIC)) if smooth else pixels


def deep(seed: int, smooth: bool = False) -> Image.Image:
    """16 bits a channel, grey."""
    if smooth:
        return Image.fromarray(colours(seed, smooth)[:, :, 0].astype(np.uint16) * 257)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 65536, SIZE[::-1], dtype=np.uint16))


def phone(seed: int, file: Path, smooth: bool = False) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(colours(seed, smooth)).save(file, "JPEG", quality=90, exif=exif)


def in_mode(mode: str) -> Callable[..., None]:
    return lambda seed, file, smooth=False: Image.fromarray(colours(seed, smooth)).convert(mode).save(file, quality=90)


KINDS: dict[str, Callable[..., None]] = {
    "deep.tif": lambda seed, file, smooth=False: deep(seed, smooth).save(file),
    "deep_too.png": lambda seed, file, smooth=False: deep(seed, smooth).save(file),
    "cmyk.jpg": in_mode("CMYK"),
    "grey.jpg": in_mode("L"),
    "phone.jpg": phone,
    "clear.png": in_mode("RGBA"),
    "plain.jpg": in_mode("RGB"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """owned/<label>/<number>-<kind>, ingested into data/, and a model of random weights in models/shapes."""
    root = tmp_path_factory.mktemp("same")
    for place, label in enumerate(("cat", "dog")):
        (root / "owned" / label).mkdir(parents=True)
        for kind, (name, write) in enumerate(KINDS.items()):
            for i in range(COUNT):
                write(1000 * place + 100 * kind + i, root / "owned" / label / f"{i}-{name}")
    ingest(
        "shapes", params("folder", root / "owned", max_side=max(SIZE), refuse_over=0.0), root / "data", root / "reports"
    )
    spec = spec_of("classify")
    (root / "models/shapes").mkdir(parents=True)
    save_file(build(spec).state_dict(), root / "models/shapes/model.safetensors")
    write_spec(root / "models/shapes/model.json", spec)
    return root


class Seen:
    """A runtime that keeps what it is given, and answers as the one that it wraps."""

    def __init__(self, runtime: Any) -> None:
        self.threads, self._runtime = runtime.threads, runtime
        self.canvases: list[np.ndarray] = []

    def run(self, images: np.ndarray) -> Any:
        self.canvases += list(images.copy())
        return self._runtime.run(images)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """The runtimes that predict and serving open, in their order."""
    opened: list[Seen] = []

    def watched(module: Any) -> None:
        real = module.open_runtime

        def open_runtime(*given: Any) -> Seen:
            opened.append(Seen(real(*given)))
            return opened[-1]

        monkeypatch.setattr(module, "open_runtime", open_runtime)

    watched(pipeline.inference.predict)
    watched(pipeline.inference.serving)
    return opened


def trained_on(root: Path, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The canvas that training gets of each owned file, by <label>-<stem>."""
    canvases = {}
    for split in SPLITS:
        folder = root / "data" / split
        samples = read_samples(folder)
        pictures = ImageDataset(folder, samples, spec)
        canvases |= {s.id: pictures[i][0] for i, s in enumerate(samples)}
    return canvases


def owned(root: Path) -> list[Path]:
    return sorted((root / "owned").rglob("*.*"))


def id_of(file: Path) -> str:
    return f"{file.parent.name}-{file.stem}"


@pytest.mark.parametrize("rule", ["stretch", "letterbox", "crop"])
def test_predict_and_serving_see_what_training_saw(root: Path, seen: list[Seen], rule: str) -> None:
    spec = spec_of("classify")
    spec.resize = rule
    write_spec(root / "models/shapes/model.json", spec)
    expected = trained_on(root, spec)
    files = owned(root)
    assert sorted(expected) == sorted(map(id_of, files))
    answers = list(predict_sources([str(f) for f in files], "shapes", "torch", root / "models", root / "exports"))
    served = Served(root / "models/shapes", {"torch": "."})
    cells = [base64.b64encode(file.read_bytes()).decode() for file in files]
    assert [a["scores"] for a in served.predict({"image": cells}, {"target": "torch"})] == [a.scores for a in answers]
    assert len(seen) == 2
    for runtime in seen:
        assert len(runtime.canvases) == len(files)
        for file, canvas in zip(files, runtime.canvases, strict=True):
            np.testing.assert_array_equal(canvas, expected[id_of(file)], err_msg=str(file))


def test_calibration_sees_what_training_sees(root: Path, tmp_path: Path) -> None:
    spec = spec_of("classify")
    samples = read_samples(root / "data/train")
    found = stored(tmp_path / "calibration.npy", root / "data/train", samples, spec)
    expected = trained_on(root, spec)
    for canvas, sample in zip(found[:, 0], samples, strict=True):
        np.testing.assert_array_equal(canvas, expected[sample.id], err_msg=sample.id)


def test_nothing_is_lost_by_ingest_but_of_what_is_scaled(root: Path) -> None:
    kept = {s.id: s.file_name for split in SPLITS for s in read_samples(root / "data" / split)}
    for file in owned(root):
        suffix = ".jpg" if "plain" in file.name else ".png"
        assert kept[id_of(file)] == id_of(file) + suffix


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_larger_is_the_same_up_to_the_thumbnail(tmp_path: Path, kind: str) -> None:
    """Four times max_side: the stored thumbnail is close to that of the file's own pixels, for every kind."""
    file = tmp_path / kind
    KINDS[kind](7, file, smooth=True)
    taken = take(Candidate(file, kind, id="it"), tmp_path, max_side=SIZE[0] // 4)
    sample = taken.samples[0]
    expected = open_image(file).resize((sample.width, sample.height), Image.Resampling.LANCZOS)
    found = np.asarray(open_image(tmp_path / sample.file_name)).astype(int)
    assert max(sample.width, sample.height) == SIZE[0] // 4
    assert np.abs(found - np.asarray(expected)).mean() < 4
