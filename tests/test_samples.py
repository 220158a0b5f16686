"""The sample code of the bundle: the Android sample's plain part, compiled and run on a JVM, against our own."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads import DETECTORS, with_head
from PIL import Image
from shipped import SIDE, spec_of

from pipeline.core.calibrated import calibrated
from pipeline.core.sample import Sample
from pipeline.core.spec import ModelSpec
from pipeline.export import bundle
from pipeline.export.card.contract import preprocessing
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import prepare, resize

SAMPLES = Path(bundle.__file__).parent / "samples"
SIZES = [(64, 64), (200, 33), (31, 190), (5, 7), (1, 300), (333, 250)]
STEPS = [
    [{"step": "gray"}],
    [{"step": "gaussian", "side": 3}, {"step": "median"}],
    [{"step": "median"}, {"step": "gray"}, {"step": "gaussian", "side": 5}],
]
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # to optimize what runs for seconds takes longer than it saves
COMPILER = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs tests/kotlin/Check.kt with the sample; skipped without a JVM and a Kotlin compiler."""
    java, found = shutil.which("java"), importlib.util.find_spec("run_kotlin_kernel")
    if java is None or found is None or found.origin is None:
        reason = "no java on PATH, or no package kotlin-jupyter-kernel, which carries the compiler"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI this test must run")
        pytest.skip(reason)
    jars = Path(found.origin).parent / "jars"
    library = str(next(jars.glob("kotlin-stdlib-*.jar")))
    classes = str(tmp_path_factory.mktemp("kotlin"))
    sources = [
        SAMPLES / "android/Pocketlens.kt",
        SAMPLES / "android/Golden.kt",
        Path(__file__).parent / "kotlin/Check.kt",
    ]
    command = [
        java,
        *QUICK,
        "-cp",
        f"{jars}/*",
        COMPILER,
        "-Werror",
        "-no-stdlib",
        "-no-reflect",
        "-cp",
        library,
        "-d",
        classes,
    ]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [java, *QUICK, "-cp", f"{classes}{os.pathsep}{library}", "pocketlens.CheckKt"]


def write_case(folder: Path, spec: ModelSpec, images: list[Image.Image], outputs: list[np.ndarray]) -> None:
    contract = preprocessing(spec)
    folder.mkdir()
    anchors = contract["decode"].get("anchors") or []
    told: dict[str, Any] = {
        **dict.fromkeys(("score", "before_nms", "nms", "nms_iou", "vote_iou", "soft_sigma", "max_objects"), 0),
        "boxes": "",
        **contract["decode"],
        "labels": "|".join(spec.labels),
        "size": spec.size,
        "resize": spec.resize,
        "fill": (contract["fill"] or [0])[0],
        "outputs": "|".join(contract["outputs"]),
        "preprocess": "|".join(f"{step['step']}:{step.get('side', 0)}" for step in contract["preprocess"]),
        "strides": "|".join(map(str, contract["decode"].get("strides", []))),
        "anchors": "|".join(",".join(f"{v:.17g}" for anchor in level for v in anchor) for level in anchors),
        "sizes": "|".join(f"{image.width}x{image.height}" for image in images),
    }
    if fit := told.pop("calibration", None):
        told |= {"slope": 0, "offset": 0, "scores": "", "right": ""}
        told |= {key: "|".join(map(str, value)) if isinstance(value, list) else value for key, value in fit.items()}
    del told["steps"]
    (folder / "contract.txt").write_text("".join(f"{key}={value}\n" for key, value in told.items()))
    for i, image in enumerate(images):
        (folder / f"{i}.rgb").write_bytes(image.tobytes())
    inputs = np.stack([prepare(image, spec)[0] for image in images])
    np.savez(folder / "outputs.npz", allow_pickle=False, image=inputs, **dict(zip(spec.outputs, outputs, strict=True)))


def expected_rows(spec: ModelSpec, image: Image.Image, outputs: list[np.ndarray]) -> list[list[Any]]:
    label, scores, objects = decode(outputs, spec, resize(image, spec.size, spec.resize)[1])
    said = calibrated(Sample("", "", *image.size, label=label, scores=scores, objects=objects), spec.predict)
    objects, scores = said.objects, said.scores
    rows: list[list[Any]] = [
        [o.label, o.score, *o.box, *(v for p in o.landmarks for v in (p.x, p.y, p.visibility))] for o in objects
    ]
    return [*rows, [label or "", *(scores or {}).values()]]


def drawn_outputs(spec: ModelSpec, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Crowded on purpose: boxes of neighbouring cells overlap, so that suppression and votes have work."""
    anchors, labels, points = len(spec.head.get("anchors", [[0]])[0]), len(spec.labels), len(spec.landmarks)
    channels = {
        "scores": anchors * labels,
        "boxes": anchors * 4,
        "objectness": anchors,
        "background": anchors,
        "landmarks": anchors * 3 * points,
    }
    flat = {"logits": labels, "presence": 1, "box": 4, "classes": labels}
    made = []
    for name in spec.outputs:
        kind, _, stride = name.partition("_")
        side = SIDE // int(stride) if stride else 0
        shape = (channels[kind], side, side) if stride else (flat.get(kind, 2 * points),)
        values = rng.normal(0, 1.5, (count, *shape))
        if kind == "boxes" and spec.boxes == "distances":
            values = rng.uniform(0.5, 3, (count, *shape))
        made.append(values.astype(np.float32))
    return made


def cases() -> dict[str, ModelSpec]:
    detect = spec_of("detect")
    fits = {
        "platt": {"by": "platt", "slope": 0.6, "offset": -0.4},
        "isotonic": {"by": "isotonic", "scores": [0.35, 0.5, 0.8], "right": [0.1, 0.4, 0.7]},
    }
    return {
        "classify": spec_of("classify"),
        "localize": replace(spec_of("localize"), resize="letterbox"),
        "crop": replace(spec_of("localize"), resize="crop"),
        **{f"steps-{n}": replace(spec_of("classify"), preprocess=steps) for n, steps in enumerate(STEPS)},
        **{
            f"{kind}-{nms}": replace(spec, resize=rule, predict={**detect.predict, "nms": nms})
            for kind in DETECTORS
            for spec in (with_head(kind, detect),)
            for nms, rule in (("hard", "stretch"), ("soft", "crop"), ("vote", "letterbox"))
        },
        **{
            f"{task}-{by}": replace(spec_of(task), predict={**spec_of(task).predict, "calibration": fit})
            for task in ("classify", "localize", "detect")
            for by, fit in fits.items()
        },
    }


def test_the_android_sample_resizes_and_decodes_as_we_do(program: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    images = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]
    made = {name: (spec, drawn_outputs(spec, len(images), rng)) for name, spec in cases().items()}
    for name, (spec, outputs) in made.items():
        write_case(tmp_path / name, spec, images, outputs)
    subprocess.run([*program, *(str(tmp_path / name) for name in made)], check=True)
    most = 0
    for name, (spec, outputs) in made.items():
        folder = tmp_path / name
        off_by, share = (folder / "off.txt").read_text().split()  # by the sample's own golden helpers
        assert (int(off_by), float(share)) <= (1, 0)
        for i, image in enumerate(images):
            canvas = np.frombuffer((folder / f"{i}.canvas").read_bytes(), np.uint8).reshape(SIDE, SIDE, 3)
            # a level at most: which way Pillow goes first, across or down, depends on the image's shape
            off = np.abs(canvas.astype(int) - prepare(image, spec)[0])
            assert off.max() <= 1, f"{name} {SIZES[i]}"
            found = [line.split("\t") for line in (folder / f"{i}.answer").read_text().split("\n")]
            wanted = expected_rows(spec, image, [o[i] for o in outputs])
            assert [row[0] for row in found] == [row[0] for row in wanted], f"{name} {SIZES[i]}"
            for row, expected in zip(found, wanted, strict=True):
                assert [float(v) for v in row[1:]] == pytest.approx(expected[1:], abs=2e-4, rel=1e-4)
            most = max(most, len(found) - 1)
    assert most == spec_of("detect").predict["max_objects"]  # there was something to suppress


def test_what_is_off_is_told(program: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    spec = spec_of("classify")
    images = [Image.fromarray(rng.integers(0, 200, (SIDE, SIDE, 3), dtype=np.uint8))]
    write_case(tmp_path / "case", spec, images, drawn_outputs(spec, 1, rng))
    brighter = np.clip(np.asarray(images[0]).astype(int) + 7, 0, 255).astype(np.uint8)
    (tmp_path / "case" / "0.rgb").write_bytes(brighter.tobytes())
    subprocess.run([*program, str(tmp_path / "case")], check=True)
    assert (tmp_path / "case" / "off.txt").read_text().split()[0] == "7"


def test_an_image_of_the_canvas_size_has_our_bytes_after_each_step(program: list[str], tmp_path: Path) -> None:
    """Nothing is resized, so that nothing is a level off."""
    images = [Image.fromarray(np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))]
    folders = []
    for n, steps in enumerate(STEPS):
        spec = replace(spec_of("classify"), preprocess=steps)
        folders.append(tmp_path / str(n))
        write_case(folders[-1], spec, images, drawn_outputs(spec, 1, np.random.default_rng(6)))
    subprocess.run([*program, *map(str, folders)], check=True)
    assert [(folder / "off.txt").read_text().split()[0] for folder in folders] == ["0"] * len(STEPS)


def test_a_step_without_code_stops_the_sample(program: list[str], tmp_path: Path) -> None:
    spec = spec_of("classify")
    images = [Image.new("RGB", (9, 9))]
    write_case(tmp_path / "case", spec, images, drawn_outputs(spec, 1, np.random.default_rng(6)))
    told = tmp_path / "case" / "contract.txt"
    told.write_text(told.read_text().replace("preprocess=", "preprocess=clahe:0"))
    done = subprocess.run([*program, str(tmp_path / "case")], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "step clahe: this sample knows gray, gaussian and median" in done.stderr
