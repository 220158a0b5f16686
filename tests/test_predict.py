"""`predict_sources`: what a model folder says of images from anywhere, and what is said of files that are no images."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from shipped import shipped

from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.sample import Object, Sample, read_dataset, read_samples, write_samples
from pipeline.core.spec import ModelSpec, read_spec, write_spec
from pipeline.datasets.synthetic.actions import clip_name, draw_actions
from pipeline.datasets.synthetic.params import ActionsParams
from pipeline.datasets.video import frame_rate, stream
from pipeline.datasets.video_write import ClipWriter
from pipeline.inference.predict import predict_sources, prediction_text
from pipeline.models.nets import build
from pipeline.runtimes.answers import predict_image
from pipeline.runtimes.exported import exported_file
from pipeline.runtimes.targets import open_runtime

ROOT = Path(__file__).parents[1]
TASKS = ("classify", "localize", "detect")
LABELS, POINTS = ["cat", "dog", "fox"], ["left_eye", "right_eye"]
HEADS: dict[str, dict[str, Any]] = {
    "classify": {"kind": "pool", "dropout": 0.2},
    "localize": {"channels": 16, "dropout": 0.1},
    "detect": {"kind": "anchor_free", "strides": [8, 16, 32], "neck": 16, "channels": 16},
}


def save_model(folder: Path, task: str, resize: str = "letterbox", score: float = 0.0) -> Path:
    """An untrained net; with a threshold of 0 it finds something everywhere."""
    torch.manual_seed(0)
    points = [] if task == "classify" else POINTS
    spec = ModelSpec(
        run="r", dataset="d", task=task, labels=LABELS, landmarks=points, pairs=[], skeleton=[],
        backbone="mobilenetv2_035", head=HEADS[task], size=64, resize=resize, mean=[0.5] * 3, std=[0.2] * 3,
        predict={"score": score, "nms": "hard", "nms_iou": 0.6, "max_objects": 5},
    )  # fmt: skip
    net = build(spec)
    spec.outputs, spec.strides, spec.boxes = list(net.outputs), list(net.strides), net.boxes
    folder.mkdir(parents=True)
    save_file(net.state_dict(), folder / "model.safetensors")
    write_spec(folder / "model.json", spec)
    return folder


def picture(path: Path, size: tuple[int, int] = (50, 30), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def predict(project: Path, images: list[Path], run: str = "r", target: str = "torch", **more: Any) -> list[Sample]:
    return list(predict_sources([str(i) for i in images], run, target, project / "models", project / "exports", **more))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a model per task, named after it."""
    root = tmp_path_factory.mktemp("project")
    for task in TASKS:
        save_model(root / "models" / task, task)
    return root


def test_classify_gives_a_probability_per_label(project: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / f"{i}.png", (50 + i, 30), i) for i in range(3)]
    for i, sample in enumerate(predict(project, images, "classify")):
        assert sample.id == sample.file_name == str(images[i])
        assert (sample.width, sample.height) == (50 + i, 30)
        assert sample.scores is not None
        assert list(sample.scores) == LABELS
        assert sum(sample.scores.values()) == pytest.approx(1, abs=1e-4)
        assert sample.label == max(sample.scores, key=sample.scores.__getitem__)
        assert sample.objects == []


@pytest.mark.parametrize("task", ["localize", "detect"])
def test_objects_lie_in_the_picture(project: Path, tmp_path: Path, task: str) -> None:
    images = [picture(tmp_path / "wide.png", (90, 20)), picture(tmp_path / "high.jpg", (20, 90))]
    for sample in predict(project, images, task):
        assert (sample.label, sample.scores) == (None, None)
        assert 1 <= len(sample.objects) <= (1 if task == "localize" else 5)
        for o in sample.objects:
            x, y, w, h = o.box
            assert o.label in LABELS
            assert 0 <= x <= x + w <= 1 + 1e-6
            assert 0 <= y <= y + h <= 1 + 1e-6
            assert len(o.landmarks) == len(POINTS)
            assert o.score is not None
            assert 0 <= o.score <= 1
        scores = [o.score for o in sample.objects]
        assert scores == sorted(scores, reverse=True)


def test_below_the_models_threshold_there_is_nothing(tmp_path: Path) -> None:
    save_model(tmp_path / "models/r", "detect", score=1.0)
    assert predict(tmp_path, [picture(tmp_path / "a.png")])[0].objects == []


def test_the_same_picture_gives_the_same_answer(project: Path, tmp_path: Path) -> None:
    image, other = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", seed=1)
    first, _, again = predict(project, [image, other, image], "detect")
    assert first == again == predict(project, [image], "detect")[0]


def test_a_picture_is_taken_upright(project: Path, tmp_path: Path) -> None:
    upright = picture(tmp_path / "a.png", (30, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    with Image.open(upright) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    plain, turned = predict(project, [upright, tmp_path / "turned.png"], "classify")
    assert (turned.width, turned.height, turned.scores) == (30, 50, plain.scores)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_pictures_of_any_mode(project: Path, tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image = Image.new("L", (40, 30), 200)
    (Image.new("I;16", (40, 30), 40000) if mode == "I;16" else image.convert(mode)).save(file)
    assert predict(project, [file], "classify")[0].label in LABELS


# --- what is refused


def test_an_unknown_run_is_named_with_those_that_are(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"models/nosuch: no such model; trained runs: classify, detect, localize"):
        predict(project, [picture(tmp_path / "a.png")], "nosuch")
    for no_name in ("classify/", "./classify", ".", "../models/classify"):
        with pytest.raises(InputError, match="no such model; trained runs: classify, detect, localize"):
            predict(project, [picture(tmp_path / "a.png")], no_name)
    with pytest.raises(InputError, match="models/r: no such model; trained runs: none"):
        predict(tmp_path, [tmp_path / "a.png"])


def test_an_unfinished_model_is_no_trained_run(tmp_path: Path) -> None:
    save_model(tmp_path / "models/done", "classify")
    (tmp_path / "models/.r.unfinished").mkdir()
    with pytest.raises(InputError, match=r"trained runs: done$"):
        predict(tmp_path, [tmp_path / "a.png"])


def test_an_unknown_target_is_named_with_those_that_are(project: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    save_model(tmp_path / "models/r", "classify")
    with pytest.raises(InputError, match=r"exports/r/export\.json: no such file"):
        predict(tmp_path, [image], target="onnx_int8")
    exports = tmp_path / "exports/r"
    exports.mkdir(parents=True)
    row = {"file": "model.onnx", "sha256": hashlib.sha256(b"no model").hexdigest(), "size_bytes": 8}
    (exports / "export.json").write_text(json.dumps({"targets": {"onnx_float": row}, "not_made": {}}))
    for target in ("onnx_int8", "nosuch"):
        with pytest.raises(InputError, match=f"exports/r: has no {target}; export.targets of the run made onnx_float"):
            predict(tmp_path, [image], target=target)
    with pytest.raises(InputError, match=r"exports/r/model\.onnx: no such file"):
        predict(tmp_path, [image], target="onnx_float")
    shutil.copy(tmp_path / "models/r/model.json", exports)
    (exports / "model.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"exports/r/model\.onnx: not an ONNX model"):
        predict(tmp_path, [image], target="onnx_float")


def broken(path: Path, how: str) -> None:
    whole = picture(path.with_name("whole.png")).read_bytes()
    match how:
        case "text":
            path.write_text("I am a text")
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "spoilt":
            at = whole.index(b"IDAT") + 40
            path.write_bytes(whole[:at] + bytes(255 - b for b in whole[at : at + 20]) + whole[at + 20 :])
        case "bomb":  # a header that promises more pixels than Pillow agrees to decode
            at = whole.index(b"IHDR")
            head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + whole[at + 12 : at + 17]
            crc = zlib.crc32(head).to_bytes(4, "big")
            path.write_bytes(whole[:at] + head + crc + whole[at + 21 :])
        case "folder":
            path.mkdir()


@pytest.mark.parametrize("how", ["text", "empty", "cut", "spoilt", "bomb", "folder", "missing"])
def test_what_is_no_picture_is_named(project: Path, tmp_path: Path, how: str) -> None:
    bad = tmp_path / "bad.jpg"
    broken(bad, how)
    with pytest.raises(InputError, match=r"bad\.jpg: "):
        predict(project, [picture(tmp_path / "a.png"), bad], "classify")


def test_those_before_the_bad_one_are_answered(project: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / "a.png"), tmp_path / "nosuch.jpg"]
    answers = predict_sources([str(i) for i in images], "classify", "torch", project / "models", project / "exports")
    assert next(answers).file_name == str(images[0])
    with pytest.raises(InputError, match=r"nosuch\.jpg"):
        next(answers)


# --- drawings and the command


def seen(folder: Path) -> list[Path]:
    """What is in a folder, without what is hidden."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("task", TASKS)
def test_drawings(project: Path, tmp_path: Path, task: str) -> None:
    images = [picture(tmp_path / "a.jpg"), picture(tmp_path / "b.png", (20, 60))]
    predict(project, images, task, drawings=tmp_path / "deep/drawn")
    drawn = seen(tmp_path / "deep/drawn")
    assert [d.name for d in drawn] == ["a.png", "b.png", "dataset.json", "metadata.jsonl"]
    for file, image in zip(drawn[:2], images, strict=True):
        with Image.open(file) as after, Image.open(image) as before:
            assert after.format == "PNG"
            assert after.width / after.height == pytest.approx(before.width / before.height, rel=0.02)
            plain = before.convert("RGB").resize(after.size, Image.Resampling.BICUBIC)
            assert (np.asarray(after) != np.asarray(plain)).any()


def test_pictures_of_one_name_are_all_drawn(project: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / "x/a.png"), picture(tmp_path / "y/a.png"), picture(tmp_path / "x/a.jpg")]
    predict(project, images, "classify", drawings=tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 3


def test_one_object_is_one() -> None:
    cow = Object("cow", (0.0, 0.0, 0.5, 0.5), score=0.8)
    firsts = [prediction_text(Sample("1", "1.jpg", 8, 8, objects=[cow] * n)).splitlines()[0] for n in range(3)]
    assert firsts == ["1: 0 objects", "1: 1 object", "1: 2 objects"]


def test_json_lines_are_samples(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [str(picture(tmp_path / name)) for name in ("a.png", "é 犬.png")]
    monkeypatch.chdir(project)
    main(["predict", *images, "--run", "detect", "--json", "--draw", str(tmp_path / "drawn")])
    said, errors = capsys.readouterr()
    assert errors.endswith(f"{tmp_path / 'drawn'}: predictions drawn into images and clips, and metadata.jsonl\n")
    read = [Sample.from_json(json.loads(row)) for row in said.splitlines()]
    assert read == predict(project, [Path(image) for image in images], "detect")
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 2


# as a shell calls it twice: to import torch takes seconds
TWICE = """
import json, sys
from pipeline.cli import main
for more in json.loads(sys.argv[1]):
    try:
        main(["predict", *sys.argv[2:], *more])
    except SystemExit as ended:
        sys.stderr.write(f"exit code {ended.code}\\n")
"""


@pytest.mark.parametrize("encoding", [pytest.param("utf-8", marks=pytest.mark.exhaustive), "ascii"])
def test_names_that_are_not_utf_8_are_answered(project: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "in").mkdir()
    for name in (b"\xff.png", "\xe9.png".encode(), b"\xfe.mp4"):
        made = picture(tmp_path / "a.png") if name.endswith(b"png") else clip(tmp_path / "a.mp4", 1)
        made.rename(tmp_path / "in" / os.fsdecode(name))
    (tmp_path / "in" / os.fsdecode(b"\xfd.png")).write_bytes(b"no image")
    calls = json.dumps([[], ["--json", "--draw", str(tmp_path / "drawn")]])
    line = [sys.executable, "-c", TWICE, calls, str(tmp_path / "in"), "--run", "detect"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    done = subprocess.run(line, cwd=project, env=environment, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    said, errors = done.stdout.decode(encoding).splitlines(), done.stderr.splitlines()
    assert [line for line in errors if line.startswith(b"exit code")] == [b"exit code 1"] * 2
    named = b"error: " + os.fsencode(tmp_path) + rb"/in/\udcfd.png: not an"
    assert sum(line.startswith(named) for line in errors) == 2
    read = [Sample.from_json(json.loads(row)) for row in said if row.startswith("{")]
    assert len(said) > 2 * len(read) > 0, "in words too"
    assert sorted(os.fsencode(Path(s.file_name).name) for s in read) == ["\xe9.png".encode(), b"\xfe.mp4", b"\xff.png"]
    written = [tmp_path / "drawn" / s.file_name for s in read_samples(tmp_path / "drawn")]
    assert all(file.is_file() for file in written)


def test_words_for_people(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(picture(tmp_path / "a.png"))
    monkeypatch.chdir(project)
    main(["predict", image, "--run", "classify"])
    said = capsys.readouterr().out
    assert said.startswith(f"{image}: ")
    assert all(label in said for label in LABELS)
    missing = str(tmp_path / "nosuch.png")
    with pytest.raises(SystemExit) as stopped:
        main(["predict", image, missing, "--run", "localize"])
    said, error = capsys.readouterr()
    assert stopped.value.code == 1
    assert said.startswith(f"{image}: 1 object\n  ")
    assert error.startswith(f"error: {missing}: ")


# --- folders, clips and cameras


def clip(path: Path, count: int, size: tuple[int, int] = (48, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = ClipWriter(path, Fraction(30))
    for i in range(count):
        writer.add(Image.new("RGB", size, (20 * i % 256, 90, 200)))
    writer.close()
    return path


def test_a_folder_gives_its_pictures_and_the_frames_of_its_clips(project: Path, tmp_path: Path) -> None:
    for name in ("b.png", "deep/a.jpg"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("no image")
    clip(tmp_path / "in/c.mp4", 7)
    folder = tmp_path / "in"
    found = predict(project, [folder], "detect", drawings=tmp_path / "out", every=3)
    names = [str(folder / "b.png"), *(f"{folder / 'c.mp4'}#{i}" for i in (0, 3, 6)), str(folder / "deep/a.jpg")]
    assert [s.id for s in found] == names
    assert [s.clip for s in found] == [None, *[str(folder / "c.mp4")] * 3, None]
    assert [f.name for f in seen(tmp_path / "out")] == [
        "a.png", "b.png", "c.mp4", "dataset.json", "metadata.jsonl",
    ]  # fmt: skip
    assert len(list(stream(tmp_path / "out/c.mp4"))) == 3
    assert frame_rate(tmp_path / "out/c.mp4") == 10, "30 a second, each third: it plays as fast as the clip"
    written = read_samples(tmp_path / "out")
    assert [s.objects for s in written] == [s.objects for s in found]
    assert all((tmp_path / "out" / s.file_name).is_file() for s in written)
    assert read_dataset(tmp_path / "out").labels == LABELS


def test_what_is_bad_in_a_folder_is_named_and_the_rest_answered(project: Path, tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in/b.jpg").write_text("no image")
    (tmp_path / "in/d.mp4").write_text("no clip")
    answered = []
    with pytest.raises(InputError, match=r"b\.jpg: not an image.*; .*d\.mp4: does not decode"):
        for sample in predict_sources(
            [str(tmp_path / "in")], "classify", "torch", project / "models", project / "exports"
        ):
            answered.append(Path(sample.id).name)
    assert answered == ["a.png", "c.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no image and no clip"):
        predict(project, [tmp_path / "empty"], "classify")


@pytest.mark.parametrize("name", ["camera", "camera:7", "camera:x"])
def test_a_camera_that_is_not_there_is_named(project: Path, name: str) -> None:
    if Path("/dev/video0").exists():
        pytest.skip("this machine has a camera")
    with pytest.raises(InputError, match=f"{name}: "):
        predict(project, [Path(name)], "classify")


def test_a_camera_is_read_until_enough_frames(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV opens a clip as it opens a camera: here the number stands for one."""
    real, file = cv2.VideoCapture, str(clip(tmp_path / "seen.mp4", 9))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: real(file))
    found = predict(project, [Path("camera:1")], "classify", every=2, most=3, drawings=tmp_path / "out")
    assert [s.id for s in found] == ["camera:1#0", "camera:1#2", "camera:1#4"]
    assert len(list(stream(tmp_path / "out/camera-1.mp4"))) == 3


# --- steps that overlap


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of the embedded data."""
    folder = tmp_path_factory.mktemp("actions")
    draw_actions(folder, ActionsParams(groups=1, clips=1, frames=24, side=96), seed=0)
    return folder / "videos" / clip_name("WalkingWithDog", 1, 1)


def one_after_the_other(clip: Path, target: str, model: Path, exports: Path) -> list[Sample]:
    spec = read_spec(model / "model.json")
    runtime = open_runtime(target, model if target == "torch" else exported_file(exports, target))
    found = [predict_image(runtime, spec, image) for image in stream(clip)]
    for place, sample in enumerate(found):
        sample.id, sample.file_name, sample.clip = f"{clip}#{place}", str(clip), str(clip)
    return found


@pytest.mark.parametrize("task", TASKS)
def test_a_clip_is_answered_as_its_frames_are_one_after_the_other(project: Path, moving: Path, task: str) -> None:
    expected = one_after_the_other(moving, "torch", project / "models" / task, project)
    assert len(expected) == 24
    assert predict(project, [moving], task) == expected


@pytest.mark.parametrize("target", ["onnx_float", "onnx_int8", "executorch_float", "executorch_int8"])
def test_so_is_a_file_that_ships(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, moving: Path, target: str
) -> None:
    run = shipped(tmp_path_factory)
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports/shapes").symlink_to(run / "exports")
    (tmp_path / "models").symlink_to(run / "models")
    expected = one_after_the_other(moving, target, run / "models/shapes", run / "exports")
    assert predict(tmp_path, [moving], "shapes", target) == expected
    assert len({str(s.scores) for s in expected}) > 1, "frames that differ"


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("test.mp4", marks=pytest.mark.exhaustive),  # the longest
        "h264_10bits.mp4",
        "video_90.mov",
        "unordered.mov",
        "av1_video.mkv",
    ],
)
def test_so_is_a_real_clip(project: Path, name: str) -> None:
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    file = Path(os.environ["POCKETLENS_REAL_DATA"]) / "odd-videos" / name
    expected = one_after_the_other(file, "torch", project / "models/detect", project)
    assert predict(project, [file], "detect") == expected


def test_one_that_stops_early_has_its_drawings_and_no_thread_goes_on(
    project: Path, moving: Path, tmp_path: Path
) -> None:
    threads = set(threading.enumerate())
    answers = predict_sources([str(moving)], "detect", "torch", project / "models", project / "exports", tmp_path)
    first = [next(answers) for _ in range(3)]
    assert set(threading.enumerate()) - threads
    answers.close()
    assert set(threading.enumerate()) <= threads
    written = read_samples(tmp_path)
    assert [s.objects for s in written[:3]] == [s.objects for s in first]
    assert 3 <= len(written) == len(list(stream(tmp_path / f"{moving.stem}.mp4"))) < 24


@pytest.mark.parametrize("name", ["a.png", "c.mp4"])
def test_a_drawing_that_cannot_be_written_is_named(project: Path, tmp_path: Path, name: str) -> None:
    predict(
        project, [picture(tmp_path / "in/a.png"), clip(tmp_path / "in/c.mp4", 3)], "classify", drawings=tmp_path / "out"
    )
    (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / name).mkdir()
    with pytest.raises(InputError, match=f"in/{name}.*: its drawing cannot be written: "):
        predict(project, [tmp_path / "in"], "classify", drawings=tmp_path / "out")
    assert list((tmp_path / "out").glob(".*.unfinished")) == []


def test_a_clip_that_the_encoder_does_not_take_is_named(project: Path, tmp_path: Path) -> None:
    """FFmpeg's errors are not all OSErrors: here, of a side that is longer than its encoders have."""
    with av.open(str(tmp_path / "wide.mkv"), "w") as container:
        made = container.add_stream("ffv1", rate=5)
        made.width, made.height, made.pix_fmt = 17000, 20, "yuv420p"
        container.mux(made.encode(av.VideoFrame.from_ndarray(np.zeros((20, 17000, 3), np.uint8), format="rgb24")))
        container.mux(made.encode(None))
    with pytest.raises(InputError, match=r"wide\.mkv#0: its drawing cannot be written: "):
        predict(project, [tmp_path / "wide.mkv"], "classify", drawings=tmp_path / "out")
    assert list((tmp_path / "out").glob("*.unfinished")) == []


LISTENING = """
import signal
from pipeline.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without
main()
"""


def test_ctrl_c_finishes_the_drawings(project: Path, tmp_path: Path) -> None:
    """More answers than a pipe holds, so that the command cannot be done before it is stopped."""
    file = clip(tmp_path / "long.mp4", 600)
    line = [sys.executable, "-c", LISTENING, "predict", str(file), "--run", "detect", "--json", "--draw", "drawn"]
    (tmp_path / "models").symlink_to(project / "models")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    with subprocess.Popen(
        line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    assert (running.returncode, b"Traceback" in said) == (130, False), said.decode()
    written = read_samples(tmp_path / "drawn")
    assert 1 <= len(written) == len(list(stream(tmp_path / "drawn/long.mp4"))) < 600


def test_a_kill_leaves_no_half_clip_and_the_next_run_draws_it(project: Path, tmp_path: Path) -> None:
    file = clip(tmp_path / "long.mp4", 600)
    line = [sys.executable, "-m", "pipeline.cli", "predict", str(file), "--run", "detect", "--json", "--draw", "drawn"]
    (tmp_path / "models").symlink_to(project / "models")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.kill()
    assert [path.name for path in seen(tmp_path / "drawn")] == ["dataset.json"]
    found = predict(project, [file], "detect", drawings=tmp_path / "drawn", every=100)
    assert len(found) == len(read_samples(tmp_path / "drawn")) == len(list(stream(tmp_path / "drawn/long.mp4"))) == 6
    assert list((tmp_path / "drawn").glob(".*.unfinished")) == []


# --- what is written to is not what is read, nor anything else of the user's


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg", "deep/c.png"):
        picture(tmp_path / "shots" / name)
    clip(tmp_path / "shots/walk.mp4", 3)
    return tmp_path / "shots"


@pytest.mark.parametrize(
    ("source", "drawings", "named"),
    [
        ("shots", "shots", r"shots/a\.png, which is read"),
        ("shots", "shots/deep/..", r"shots/a\.png, which is read"),
        ("shots", "link", r"shots/a\.png, which is read"),
        ("link", "shots", r"link/a\.png, which is read"),
        ("shots/walk.mp4", "shots", r"shots/walk\.mp4, which is read"),
        ("shots/deep/c.png", "shots", r"shots/deep/c\.png, which is read"),
        ("linked.png", "shots", r"linked\.png, which is read"),
        ("shots/a.png", "shots/deep", r"holds c\.png, which --draw did not make"),
        ("shots/a.png", "shots/walk.mp4", r"walk\.mp4: is there already, and no folder"),
        ("shots/a.png", "shots/walk.mp4/drawn", "cannot be made or written to"),
        ("shots/a.png", "nowhere", "cannot be made or written to"),
    ],
)
def test_drawings_go_where_nothing_is_lost(
    project: Path, shots: Path, tmp_path: Path, source: str, drawings: str, named: str
) -> None:
    (tmp_path / "link").symlink_to(shots)
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked.png").symlink_to(shots / "deep/c.png")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"--draw .*{named}"):
        predict(project, [tmp_path / source], "classify", drawings=Path(f"{tmp_path}/{drawings}"))
    assert contents(tmp_path) == before


def test_a_folder_is_known_without_its_case(
    project: Path, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (tmp_path / "SHOTS").exists():
        pytest.skip("this file system tells cases apart")
    with pytest.raises(InputError, match="which is read"):
        predict(project, [shots], "classify", drawings=tmp_path / "SHOTS")


def test_the_labels_of_a_split_stay(project: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "data/test/a.png")
    write_samples(tmp_path / "data/test", [Sample("a", "a.png", 50, 30), Sample("b", "b.png", 50, 30)])
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"which is read"):
        predict(project, [image], "classify", drawings=tmp_path / "data/test")
    with pytest.raises(InputError, match=r"holds a\.png, which --draw did not make"):
        predict(project, [picture(tmp_path / "b.png")], "classify", drawings=tmp_path / "data/test")
    (tmp_path / "b.png").unlink()
    assert contents(tmp_path) == before


def test_drawings_replace_drawings_and_are_no_input(project: Path, shots: Path) -> None:
    """Also those that lie in the folder that is read."""
    first, again = (predict(project, [shots], "classify", drawings=shots / "drawn", every=3) for _ in range(2))
    assert first == again
    assert len(first) == 4
    assert [p.name for p in seen(shots / "drawn")] == [
        "a.png", "b.png", "c.png", "dataset.json", "metadata.jsonl", "walk.mp4"
    ]  # fmt: skip
    for source in (shots / "drawn", shots / "deep/../drawn"):
        with pytest.raises(InputError, match="drawn: these are drawings of predictions"):
            predict(project, [source], "classify")
    with pytest.raises(InputError, match=r"--draw .*drawn: holds .*drawn/b\.png, which is read"):
        predict(project, [shots / "drawn/b.png"], "classify", drawings=shots / "drawn")


def test_a_file_of_the_users_among_drawings_stays(project: Path, shots: Path, tmp_path: Path) -> None:
    predict(project, [shots / "a.png"], "classify", drawings=tmp_path / "out")
    (tmp_path / "out/b.png").write_bytes(b"mine")
    (tmp_path / "out/walk.mp4").symlink_to(shots / "walk.mp4")
    before = contents(shots)
    predict(project, [shots / "b.jpg", shots / "walk.mp4"], "classify", drawings=tmp_path / "out")
    assert (tmp_path / "out/b.png").read_bytes() == b"mine"
    assert {"b-2.png", "walk-2.mp4"} <= {p.name for p in seen(tmp_path / "out")}
    assert contents(shots) == before


def test_a_list_of_drawings_that_a_kill_has_cut_is_gone_on_with(project: Path, shots: Path, tmp_path: Path) -> None:
    predict(project, [shots / "a.png"], "classify", drawings=tmp_path / "out")
    with (tmp_path / "out/.pocketlens-drawings").open("a") as file:
        file.write('\n"b.p')
    for _ in range(2):
        predict(project, [shots / "b.jpg"], "classify", drawings=tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").glob("*.png")].count("b.png") == 1
    assert not (tmp_path / "out/b-2.png").exists()


def test_what_fails_leaves_no_unfinished_drawing(
    project: Path, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at the third frame."""
    real, count = ClipWriter.add, iter(range(9))

    def add(self: ClipWriter, image: Image.Image) -> None:
        if next(count) == 2:
            raise OSError(28, "No space left on device")
        real(self, image)

    monkeypatch.setattr(ClipWriter, "add", add)
    with pytest.raises(InputError, match=r"walk\.mp4#2: its drawing cannot be written: .*No space left"):
        predict(project, [shots / "walk.mp4"], "classify", drawings=tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".pocketlens-drawings", "dataset.json"]


def test_labels_are_written_as_they_come(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera may run for days: no answer is kept once it is written."""
    real, file = cv2.VideoCapture, str(clip(tmp_path / "seen.mp4", 41))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: real(file))
    kept = []
    answers = predict_sources(
        ["camera"], "classify", "torch", project / "models", project / "exports", tmp_path / "out", most=40
    )
    for sample in answers:
        assert sample.scores is not None
        sample.scores = Scores(sample.scores)
        kept.append(weakref.ref(sample.scores))
        assert sum(ref() is not None for ref in kept) <= 12
    assert len(kept) == len(read_samples(tmp_path / "out")) == 40


class Scores(dict[str, float]):
    """A dict that can be referred to weakly."""


# --- a word is what it seems


@pytest.mark.parametrize("name", ["camera", "camera:1", "camera:x"])
def test_a_folder_of_a_cameras_name_is_a_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / name / "a.png")
    clip(tmp_path / name / "b.mp4", 2)
    found = predict(project, [Path(name)], "classify", drawings=tmp_path / "out")
    assert [s.id for s in found] == [f"{name}/a.png", f"{name}/b.mp4#0", f"{name}/b.mp4#1"]
    assert all((tmp_path / "out" / s.file_name).is_file() for s in read_samples(tmp_path / "out"))


def test_a_file_of_a_cameras_name_is_a_file(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png").rename(tmp_path / "camera")
    (found,) = predict(project, [Path("camera")], "classify", drawings=tmp_path / "out")
    assert (found.id, found.clip) == ("camera", None)
    assert [s.file_name for s in read_samples(tmp_path / "out")] == ["../camera"]
