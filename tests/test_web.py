"""The page of an export in Chromium, with real pictures: it says what our own runtime says, or why it cannot."""

import base64
import io
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, open_browser
from heads import head_of
from PIL import Image
from safetensors.torch import save_file
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait
from shared import exported_here
from shipped import LABELS, SIDE, spec_of

from pipeline.core.calibrated import calibrated
from pipeline.core.files import write_json
from pipeline.core.image_file import open_image
from pipeline.core.sample import Landmark, Object, Sample, read_samples, write_samples
from pipeline.core.spec import ModelSpec, read_spec, write_spec
from pipeline.datasets.synthetic.coco import draw_herd
from pipeline.datasets.synthetic.params import ImagesParams
from pipeline.export.card.contract import preprocessing
from pipeline.export.export import export_run
from pipeline.export.params import ExportParams
from pipeline.export.targets.onnx import export_float
from pipeline.inference.demo import open_server, page_folder, runtime_folder
from pipeline.models.nets import Deployed, build
from pipeline.ops.boxes import iou
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import Frame, frame_of, prepare, resize
from pipeline.runtimes.answers import predict_image
from pipeline.runtimes.targets import open_runtime
from pipeline.training.loading import ImageDataset, eval_loader

PAGE = ROOT / "pipeline/export/bundle/web"
WAIT = 60  # seconds; a busy machine takes some to load the runtime
HERD = 96  # the detector's canvas


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/, model/ and exports/herd of a detector that knows six pictures by heart."""
    root = tmp_path_factory.mktemp("herd")
    labels, landmarks = _draw_herd(root / "train")
    size = replace(spec_of("detect", HERD), labels=labels, landmarks=landmarks, resize="letterbox")
    spec = replace(size, predict={"score": 0.3, "nms": "vote", "nms_iou": 0.5, "max_objects": 20})
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Deployed(build(spec), spec)
    images, target, _ = next(iter(eval_loader(ImageDataset(root / "train", read_samples(root / "train"), spec), 6)))
    steps = 60
    optimizer = torch.optim.AdamW(net.parameters(), lr=6e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    net.train()
    for _ in range(steps):
        loss = net.net.loss(net(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    (root / "model").mkdir()
    save_file(net.net.state_dict(), root / "model/model.safetensors")
    write_spec(root / "model/model.json", spec)
    params = ExportParams(targets=["onnx_float", "onnx_int8"], calibration_images=6)
    with exported_here():
        export_run(root / "model", root / "train", root / "exports/herd", params)
    return root


def _draw_herd(folder: Path) -> tuple[list[str], list[str]]:
    """Embedded pictures and their metadata; returns labels and landmarks."""
    folder.mkdir()
    draw_herd(folder, ImagesParams(images=10, side=160), 5)
    coco = json.loads((folder / "annotations/train.json").read_text())
    names = {row["id"]: row["name"] for row in coco["categories"]}
    samples = []
    for row in coco["images"]:
        w, h = row["width"], row["height"]
        objects = []
        for one in (a for a in coco["annotations"] if a["image_id"] == row["id"]):
            x, y, bw, bh = one["bbox"]
            points = np.reshape(one["keypoints"], (-1, 3)).tolist()
            marks = [Landmark(px / w, py / h, int(seen)) for px, py, seen in points]
            objects.append(Object(names[one["category_id"]], (x / w, y / h, bw / w, bh / h), marks))
        samples.append(Sample(row["file_name"], f"images/{row['file_name']}", w, h, objects=objects))
    write_samples(folder, samples)
    return list(names.values()), list(coco["categories"][0]["keypoints"])


@pytest.fixture(scope="module")
def photo(herd: Path) -> Path:
    """A JPEG with several animals."""
    return herd / "train" / max(read_samples(herd / "train"), key=lambda s: len(s.objects)).file_name


@pytest.fixture(scope="module")
def picture(photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as PNG: browsers decode JPEG a level apart."""
    path = tmp_path_factory.mktemp("picture") / "herd.png"
    open_image(photo).save(path)
    return path


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a page folder with onnxruntime-web and returns its address."""
    runtime = runtime_folder(ROOT / "node_modules", "herd")
    with ExitStack() as stack:
        yield lambda page: stack.enter_context(served(open_server(page, runtime, "127.0.0.1", 0, ["visitor.test"])))


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory, picture: Path) -> Iterator[webdriver.Chrome]:
    """A browser whose camera sees `picture` and for which visitor.test is this machine."""
    folder = tmp_path_factory.mktemp("browser")
    frame = io.BytesIO()
    open_image(picture).save(frame, "JPEG", quality=95)  # as it is: in another shape the net may not know it
    (folder / "camera.mjpeg").write_bytes(frame.getvalue() * 3)
    camera = (f"use-file-for-fake-video-capture={folder}/camera.mjpeg", "use-fake-device-for-media-stream")
    flags = (*camera, "use-fake-ui-for-media-stream", "host-resolver-rules=MAP visitor.test 127.0.0.1")
    with open_browser(folder / "profile", *flags) as window:
        window.set_script_timeout(WAIT)
        yield window


def wait(window: webdriver.Chrome, done: Callable[[], Any], what: str) -> None:
    WebDriverWait(window, WAIT, poll_frequency=0.1).until(lambda _: done(), f"{what}; it says: {status(window)}")


def status(window: webdriver.Chrome) -> str:
    return window.find_element(By.ID, "status").get_attribute("textContent") or ""


def state(window: webdriver.Chrome) -> str:
    return str(window.execute_script("return document.body.dataset.state"))


def failed(window: webdriver.Chrome) -> bool:
    return bool(window.find_elements(By.CSS_SELECTOR, "#status.error"))


def visit(window: webdriver.Chrome, address: str) -> None:
    window.get(address)
    wait(window, lambda: state(window) == "ready" or failed(window), "the page gets ready")


def said(window: webdriver.Chrome, picture: Path) -> Sample:
    """What the page says of a picture that comes in by the file chooser."""
    window.find_element(By.ID, "file").send_keys(str(picture))
    wait(window, lambda: state(window) == "answered" or failed(window), "an answer")
    assert not failed(window), status(window)
    return in_json(window)


def in_json(window: webdriver.Chrome) -> Sample:
    return Sample.from_json({"id": "", "file_name": ""} | json.loads(text(window, "json")))


def text(window: webdriver.Chrome, element: str) -> str:
    return window.find_element(By.ID, element).get_attribute("textContent") or ""


def assert_same(found: Sample, ours: Sample) -> None:
    """Labels, boxes and landmarks within a pixel of the picture, scores within 0.001."""
    size = np.array([ours.width, ours.height])
    assert (found.width, found.height, found.label) == (ours.width, ours.height, ours.label)
    if ours.scores:
        assert found.scores == pytest.approx(ours.scores, abs=1e-3)
    assert [o.label for o in found.objects] == [o.label for o in ours.objects]
    for one, other in zip(found.objects, ours.objects, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert np.abs((np.reshape(one.box, (2, 2)) - np.reshape(other.box, (2, 2))) * size).max() < 1
        marks = [np.reshape([(p.x, p.y, p.visibility) for p in o.landmarks], (-1, 3)) for o in (one, other)]
        assert (np.abs(marks[0] - marks[1])[:, :2] * size < 1).all()
        assert (marks[0][:, 2] == marks[1][:, 2]).all()


def page_with(folder: Path, spec: ModelSpec, model: Path) -> Path:
    """A page whose model is a float file: there two runtimes agree to the last digits, and the page must too."""
    shutil.copytree(PAGE, folder)
    write_spec(folder / "model.json", spec)
    write_json(folder / "preprocess.json", preprocessing(spec))
    shutil.copyfile(model, folder / "model.int8.onnx")
    return folder


# --- answers


@pytest.mark.parametrize("rule", ["letterbox", "stretch", "crop"])
def test_a_detector_finds_what_our_runtime_finds(rule: str, herd: Path, picture: Path, serve, window, tmp_path) -> None:
    model = herd / "exports/herd/model.onnx"
    spec = replace(read_spec(herd / "model/model.json"), resize=rule)
    ours = predict_image(open_runtime("onnx_float", model), spec, open_image(picture))
    assert len(ours.objects) >= 3
    visit(window, serve(page_with(tmp_path / "page", spec, model)))
    assert_same(said(window, picture), ours)


def test_a_localizer_finds_what_our_runtime_finds(picture: Path, serve, window, tmp_path) -> None:
    spec = replace(spec_of("localize"), resize="letterbox", predict={"score": 0.05, "nms_iou": 0.6, "max_objects": 1})
    model = export(Deployed(build(spec), spec).eval(), picture, spec, tmp_path)
    ours = predict_image(open_runtime("onnx_float", model), spec, open_image(picture))
    assert len(ours.objects) == 1
    visit(window, serve(page_with(tmp_path / "page", spec, model)))
    assert_same(said(window, picture), ours)
    window.execute_script("score.value = 0.95; score.dispatchEvent(new Event('input'))")
    assert in_json(window).objects == []
    assert status(window).startswith("No ")


def test_a_classifier_says_what_our_runtime_says(picture: Path, serve, window, tmp_path) -> None:
    spec = replace(spec_of("classify"), resize="crop")
    net = Deployed(build(spec), spec).eval()
    [*_, last] = (module for module in net.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        last.weight *= 400  # an untrained net is not sure of anything
    model = export(net, picture, spec, tmp_path)
    ours = predict_image(open_runtime("onnx_float", model), spec, open_image(picture))
    assert max(ours.scores.values()) > 0.5
    visit(window, serve(page_with(tmp_path / "page", spec, model)))
    assert_same(said(window, picture), ours)
    rows = [row.text.split("\n") for row in window.find_elements(By.CSS_SELECTOR, "#answers li")]
    assert sorted(label for label, _ in rows) == LABELS
    assert rows[0][0] == ours.label
    assert status(window).startswith(f"{ours.label}, ")


def export(net: torch.nn.Module, picture: Path, spec: ModelSpec, folder: Path) -> Path:
    canvas = resize(open_image(picture), spec.size, spec.resize)[0][None]
    export_float(net, [canvas], folder / "model.onnx", spec.outputs)
    return folder / "model.onnx"


def test_the_int8_detector_is_drawn_where_our_runtime_finds_it(herd: Path, photo: Path, serve, window) -> None:
    """Kernels of two machines round apart by a step here and there: the same objects, in nearly the same place."""
    spec = read_spec(herd / "model/model.json")
    visit(window, serve(page_folder(herd / "exports", "herd")))
    found = said(window, photo).objects
    runtime = open_runtime("onnx_int8", herd / "exports/herd/model.int8.onnx")
    ours = predict_image(runtime, spec, open_image(photo)).objects
    sure = [o for o in ours if o.score > 0.4]
    assert len(sure) >= 3
    for one, others in [*((o, found) for o in sure), *((o, ours) for o in found if o.score > 0.4)]:
        near = [o for o in others if o.label == one.label and overlap(o, one) > 0.9]
        assert [o for o in near if abs(o.score - one.score) < 0.05], (one, others)
    picture_at = window.find_element(By.ID, "picture").rect
    boxes = window.find_elements(By.CSS_SELECTOR, "#layer .box")
    assert len(boxes) == len(found)
    for box, one in zip(reversed(boxes), found, strict=True):  # the surest on top
        x, y, w, h = one.box
        left, top = picture_at["x"] + x * picture_at["width"], picture_at["y"] + y * picture_at["height"]
        wanted = left, top, w * picture_at["width"], h * picture_at["height"]
        assert [box.rect[side] for side in ("x", "y", "width", "height")] == pytest.approx(wanted, abs=2)
        assert box.text.startswith(one.label)
    assert re.fullmatch(r"\d+(\.\d)? ms", text(window, "ms"))
    assert len(window.find_elements(By.CSS_SELECTOR, "#layer .mark")) == len(found) * len(spec.landmarks)


def overlap(a: Object, b: Object) -> float:
    corners = [torch.tensor([[x, y, x + w, y + h]]) for x, y, w, h in (a.box, b.box)]
    return float(iou(*corners))


# --- its parts


def in_page(window: webdriver.Chrome, module: str, body: str, *values: Any) -> Any:
    """`body`, an expression of `m`, the page's module, and of `values`."""
    script = f"""
        const done = arguments[arguments.length - 1], values = arguments;
        import("/{module}").then(async (m) => done({{ found: await ({body}) }}))
            .catch((error) => done({{ error: error.stack }}));
    """
    answer = window.execute_async_script(script, *values)
    assert "error" not in answer, answer["error"]
    return answer["found"]


SIZES = [(1, 1), (5, 7), (3, 200), (200, 3), (64, 64), (97, 13), (160, 120), (427, 640), (33, 900), (1023, 517)]


@pytest.mark.parametrize("rule", ["letterbox", pytest.param("stretch", marks=pytest.mark.exhaustive), "crop"])
def test_the_resize_is_pillows(rule: str, serve, window, tmp_path) -> None:
    window.get(serve(PAGE))
    for size in (64, 97):
        contract = preprocessing(replace(spec_of("classify"), size=size, resize=rule))
        for sides in SIZES:
            pixels = np.random.default_rng(sides[0]).integers(0, 256, (sides[1], sides[0], 3), dtype=np.uint8)
            image = Image.fromarray(pixels)
            wanted, frame = resize(image, size, rule)
            found = prepared(window, image, contract, "PNG")
            assert difference(found, wanted).max() <= 1, (size, sides)
            assert found["frame"] == pytest.approx(in_words(frame)), (size, sides)


@pytest.mark.parametrize("rule", ["letterbox", "stretch"])
def test_the_steps_after_the_resize_are_ours(rule: str, serve, window) -> None:
    window.get(serve(PAGE))
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    each = [{"step": "gray"}, {"step": "gaussian", "side": 3}, {"step": "gaussian", "side": 5}, {"step": "median"}]
    for steps in [*([step] for step in each), each[::-1]]:
        spec = replace(spec_of("classify"), resize=rule, preprocess=steps)
        found = prepared(window, image, preprocessing(spec), "PNG")
        assert difference(found, prepare(image, spec)[0]).max() == 0, steps
    unknown = preprocessing(spec) | {"preprocess": [{"step": "clahe"}]}
    with pytest.raises(AssertionError, match='step "clahe"; this page knows gray, gaussian and median'):
        prepared(window, image, unknown, "PNG")


def difference(found: dict[str, Any], wanted: np.ndarray) -> np.ndarray:
    pixels = np.frombuffer(base64.b64decode(found["bytes"]), np.uint8).reshape(wanted.shape)
    return np.abs(pixels - wanted.astype(int))


def in_words(frame: Frame) -> dict[str, float]:
    places = frame.scale_x, frame.scale_y, frame.offset_x, frame.offset_y
    return dict(zip(("scaleX", "scaleY", "offsetX", "offsetY"), places, strict=True))


def prepared(window: webdriver.Chrome, image: Image.Image, contract: dict[str, Any], form: str, **more: Any) -> Any:
    file = io.BytesIO()
    image.save(file, form, **more)
    body = """(async () => {
        const blob = await (await fetch("data:;base64," + values[0])).blob();
        const { decodePicture } = await import("/model.js");
        const { bytes, frame } = m.prepare(await decodePicture(blob), values[1]);
        return { frame, bytes: btoa(String.fromCharCode(...bytes)) };
    })()"""
    return in_page(window, "preprocess.js", body, base64.b64encode(file.getvalue()).decode(), contract)


def test_a_turned_photo_is_put_upright(picture: Path, serve, window) -> None:
    window.get(serve(PAGE))
    contract = preprocessing(replace(spec_of("classify"), resize="letterbox"))
    turned = Image.Exif()
    turned[0x0112] = 6
    image = open_image(picture)
    found = prepared(window, image, contract, "JPEG", quality=95, exif=turned)
    wanted = resize(image.transpose(Image.Transpose.ROTATE_270), SIDE, "letterbox")[0]
    assert difference(found, wanted).mean() < 2  # of the JPEG, which loses a little


@pytest.mark.parametrize("nms", ["hard", "soft", "vote"])
@pytest.mark.parametrize("kind", ["anchor_free", "yolov3", "ssdlite"])
def test_outputs_are_decoded_as_ours_are(kind: str, nms: str, serve, window) -> None:
    window.get(serve(PAGE))
    spec = replace(
        spec_of("detect"), head=head_of(kind), predict={"score": 0.2, "nms": nms, "nms_iou": 0.4, "max_objects": 30}
    )
    net = build(spec)
    spec.outputs, spec.strides, spec.boxes = list(net.outputs), list(net.strides), net.boxes
    frame = frame_of(120, 77, SIDE, "letterbox")
    shapes = [tuple(o.shape) for o in net.eval()(torch.zeros(1, 3, SIDE, SIDE))]
    for seed in range(4):
        random = np.random.default_rng(seed)
        outputs = []
        for name, shape in zip(spec.outputs, shapes, strict=True):
            values = random.normal(-1 if name.startswith("scores") else 1.5, 1.5, shape).astype(np.float32)
            outputs.append(abs(values) if name.startswith("boxes") and kind == "anchor_free" else values)
        if seed == 3:  # int8 files have many equal scores
            outputs = [np.round(o) for o in outputs]
        given = {n: {"data": o.ravel().tolist(), "dims": o.shape} for n, o in zip(spec.outputs, outputs, strict=True)}
        _, _, objects = decode([o[0] for o in outputs], spec, frame)
        body = "m.decode(values[0], values[1], values[2], values[1].predict.score)"
        found = in_page(window, "decode.js", body, given, asdict(spec), in_words(frame))
        assert len(objects) > 10
        ours = Sample("", "", 120, 77, objects=objects)
        assert_same(Sample.from_json({"id": "", "file_name": "", "width": 120, "height": 77, **found}), ours)


def test_scores_are_calibrated_as_ours_are(serve, window) -> None:
    window.get(serve(PAGE))
    knots = {"by": "isotonic", "scores": [0.3, 0.5, 0.8], "right": [0.1, 0.4, 0.7]}
    said = Sample("", "", 8, 8, label="cow", scores={"1": 0.08, "cow": 0.9, "pig": 0.02})
    boxes = [Object("cow", (0, 0, 1, 1), score=score) for score in (0.999999, 0.8, 0.65, 0.5, 0.3, 0.001)]
    for fit in ({"by": "platt", "slope": 0.5, "offset": -0.2}, knots, None):
        close = replace(said, scores={"1": 0.44, "cow": 0.46, "pig": 0.1})
        for ours in (said, close, replace(said, scores=None, objects=boxes), replace(said, scores={"cow": 1.0})):
            found = in_page(window, "calibrate.js", "m.calibrated(values[0], values[1])", ours.to_json(), fit)
            assert_same(Sample.from_json(found), calibrated(ours, {"calibration": fit}))


# --- ways in, and what goes wrong


def test_a_picture_is_dropped_and_another_file_is_refused(herd: Path, photo: Path, serve, window, tmp_path) -> None:
    visit(window, serve(page_folder(herd / "exports", "herd")))
    drop = """
        const transfer = new DataTransfer();
        if (arguments[0]) {
            const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], arguments[1]));
        }
        stage.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
    """
    window.execute_script(drop, base64.b64encode(b"a list of cows").decode(), "cows.png")
    wait(window, lambda: failed(window), "a message")
    assert status(window).startswith("cows.png is not an image")
    window.execute_script(drop, base64.b64encode(photo.read_bytes()[:2000]).decode(), "cut.png")
    wait(window, lambda: status(window).startswith("cut.png is not an image"), "a message")
    window.execute_script(drop, "", "")
    wait(window, lambda: status(window).startswith("That was no file"), "a message")
    assert state(window) == "ready"
    window.execute_script(drop, base64.b64encode(photo.read_bytes()).decode(), "herd.jpg")
    wait(window, lambda: state(window) == "answered", "an answer")
    dropped = in_json(window)
    assert not failed(window)
    visit(window, window.current_url)
    assert said(window, photo) == dropped


def test_the_camera_is_watched_until_it_is_stopped(herd: Path, serve, window) -> None:
    visit(window, serve(page_folder(herd / "exports", "herd")))
    camera = window.find_element(By.ID, "camera")
    camera.click()
    wait(window, lambda: window.find_elements(By.CSS_SELECTOR, "#layer .box"), "boxes")
    first = window.find_element(By.CSS_SELECTOR, "#layer .box")
    wait(window, lambda: expected_conditions.staleness_of(first)(window), "the next picture")
    assert camera.text == "Stop"
    camera.click()
    assert camera.text == "Camera"


def test_without_https_the_camera_is_the_phones_own(herd: Path, picture: Path, serve, window) -> None:
    address = serve(page_folder(herd / "exports", "herd")).replace("127.0.0.1", "visitor.test")
    visit(window, address)
    assert window.execute_script("return isSecureContext") is False
    assert window.find_element(By.ID, "camera").text == "Take a photo"
    window.find_element(By.ID, "photo").send_keys(str(picture))
    wait(window, lambda: state(window) == "answered", "an answer")


def test_the_self_test_passes_and_notices_a_wrong_resize(herd: Path, serve, window, tmp_path) -> None:
    page = shutil.copytree(page_folder(herd / "exports", "herd"), tmp_path / "page")
    address = serve(page)
    for passed in ("true", "false"):
        window.get(f"{address}?selftest")
        table = window.find_element(By.ID, "selftest")
        wait(window, lambda table=table: table.get_attribute("data-passed") or failed(window), "a verdict")
        assert table.get_attribute("data-passed") == passed, (status(window), table.text)
        contract = json.loads((page / "preprocess.json").read_text())
        (page / "preprocess.json").unlink()  # not through the link
        write_json(page / "preprocess.json", contract | {"resize": "crop"})
    wrong = [row.text for row in window.find_elements(By.CSS_SELECTOR, "#selftest tr") if "WRONG" in row.text]
    assert wrong
    assert all(row.startswith("resize of") for row in wrong)


def test_the_page_says_what_it_lacks(herd: Path, serve, window, tmp_path) -> None:
    page = shutil.copytree(page_folder(herd / "exports", "herd"), tmp_path / "page")
    plain = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(page)))
    with served(plain) as address:
        visit(window, address)
        assert status(window).startswith("onnxruntime-web is not in ort/")
    (page / "model.int8.onnx").unlink()
    visit(window, serve(page))
    assert status(window) == "model.int8.onnx is not there (404)"
