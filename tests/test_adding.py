"""`add`: a folder becomes two blocks in params.yaml, and the rest of the file stays as it is."""

import codecs
import contextlib
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torchvision
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file
from servers import hub, silent

from pipeline.config.adding import add
from pipeline.config.params import Params, read_params
from pipeline.core.errors import InputError
from pipeline.models.backbones import read_pretrained

SHIPPED = (Path(__file__).parents[1] / "params.yaml").read_bytes()
XML = """<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height></size>
<object><name>cow</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>
</annotation>"""
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10]}],
    "categories": [{"id": 1, "name": "cow"}],
}
# a size makes an image, a string text, anything else JSON
FOLDERS: dict[str, dict[str, Any]] = {
    "folder": {"cat/a.jpg": (40, 30), "dog/b.jpg": (40, 30)},
    "ucf101": {"Run/v_Run_g01_c01.avi": "", "Jump/v_Jump_g01_c01.avi": ""},  # recognition does not decode
    "coco": {"images/a.jpg": (40, 30), "annotations/instances.json": COCO},
    "yolo": {"images/a.jpg": (40, 30), "labels/a.txt": "0 0.5 0.5 0.2 0.2\n", "classes.txt": "cow\n"},
    "voc": {"JPEGImages/a.jpg": (40, 30), "Annotations/a.xml": XML},
    "pts": {"a.jpg": (40, 30), "a.pts": "version: 1\nn_points: 2\n{\n1 2\n3 4\n}\n"},
    "imagefolder": {
        "a.jpg": (40, 30),
        "metadata.jsonl": '{"file_name": "a.jpg", "label": "cow", "objects": {"bbox": [], "categories": []}}',
    },
    "deeplabcut": {
        "labeled-data/m1/a.png": (40, 30),
        "labeled-data/m1/CollectedData_x.csv": "scorer,x,x\nbodyparts,tail,tail\ncoords,x,y\nlabeled-data/m1/a.png,1,2",
    },
    "landmarks_csv": {"images/a.jpg": (40, 30), "points.csv": "file,nose_x,nose_y,tail_x,tail_y\na.jpg,1,2,3,4\n"},
}


def make(root: Path, form: str) -> Path:
    for name, content in FOLDERS[form].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            Image.new("RGB", content).save(path)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """The shipped params.yaml in a project of its own, with a folder per format beside it."""
    file = tmp_path / "project/params.yaml"
    file.parent.mkdir()
    file.write_bytes(SHIPPED)
    for form in FOLDERS:
        make(file.parent / "data" / form, form)
    return file


def call(params: Path, name: str = "mine", data: str = "folder", task: str = "classify", **more: Any) -> str:
    rest: dict[str, Any] = {"format": None, "labels": None, "backbone": None, "pretrained": None, "settings": []} | more
    stated = bool(rest["pretrained"]) or any(setting.startswith("model.pretrained") for setting in rest["settings"])
    rest.setdefault("from_scratch", not stated)
    return add(params, name, params.parent / "data" / data, task, **rest)


def is_subsequence(old: list[bytes], new: list[bytes]) -> bool:
    rest = iter(new)
    return all(line in rest for line in old)


def raw(params: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(params)
    return content


@pytest.mark.parametrize(
    ("form", "task", "recognized"),
    [
        ("folder", "classify", r"2 class folders of images \(cat, dog\)"),
        ("ucf101", "classify", "2 clips in 2 class folders"),
        ("coco", "detect", r"COCO annotations in annotations/instances\.json"),
        ("coco", "localize", "COCO"),
        ("yolo", "detect", r"1 label files, class names in classes\.txt"),
        ("yolo", "localize", "1 label files"),
        ("voc", "detect", r"Pascal VOC annotations such as Annotations/a\.xml"),
        ("voc", "localize", "Pascal VOC"),
        ("pts", "localize", r"1 \.pts files of landmarks"),
        ("pts", "detect", r"1 \.pts files"),
        ("imagefolder", "classify", r"rows of file_name and label in metadata\.jsonl"),
        ("imagefolder", "detect", "rows of file_name"),
        ("deeplabcut", "localize", r"DeepLabCut's labels in labeled-data/m1/CollectedData_x\.csv"),
        ("landmarks_csv", "localize", r"landmarks in points\.csv"),
        ("landmarks_csv", "detect", "landmarks in"),
    ],
)
def test_a_folder_becomes_a_dataset_and_a_run(params: Path, form: str, task: str, recognized: str) -> None:
    said = call(params, data=form, task=task)
    assert re.search(recognized, said)
    assert said.splitlines()[-1] == "next: dvc repro track@mine (`pocketlens params mine` lists its knobs)"
    read = read_params(params)
    dataset, run = read.dataset("mine"), read.run("mine")
    assert (dataset.format, dataset.path, dataset.labels) == (form, f"data/{form}", f"data/{form}")
    assert (run.task, run.dataset) == (task, "mine")


def test_all_that_was_there_stays_as_it_was(params: Path) -> None:
    before = raw(params)
    call(params, data="coco", task="detect")
    text = params.read_bytes()
    assert is_subsequence(SHIPPED.splitlines(keepends=True), text.splitlines(keepends=True))
    after = raw(params)
    assert list(after) == list(before)
    for section in ("datasets", "runs"):
        assert list(after[section]) == [*before[section], "mine"]  # at the end of its section
        after[section].pop("mine")
    assert after == before


def test_the_lines_that_are_added_stand_together_and_nothing_else_is(params: Path) -> None:
    call(params)
    lines, old = params.read_text().split("\n"), SHIPPED.decode().split("\n")
    for section in ("datasets", "runs"):
        start = lines.index("  mine:", lines.index(f"{section}:"))
        end = next(i for i in range(start, len(lines)) if not lines[i])
        assert lines[end] == ""  # the blank line before the next section is still there
        del lines[start:end]
    assert lines == old


def test_several_in_a_row(params: Path) -> None:
    for name, form in (("one", "coco"), ("two", "yolo"), ("three", "pts")):
        call(params, name, form, "detect")
    read = read_params(params)
    assert list(read.datasets)[-3:] == list(read.runs)[-3:] == ["one", "two", "three"]
    assert is_subsequence(SHIPPED.splitlines(keepends=True), params.read_bytes().splitlines(keepends=True))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.rstrip("\n"), "no line end at the end"),
        (
            lambda t: t[: t.index("# `make compare`")] + "# the last word\n",
            "runs: is the last section, a comment after it",
        ),
        (lambda t: t.replace("\ndatasets:\n", "\ndatasets:   # mine and theirs\n\n  # first\n"), "comments within"),
        (lambda t: t.replace("\nruns:\n", "\n# ---- runs ----\n\nruns:\n"), "a heading of the next section"),
        (lambda t: "# é ü 犬\n" + t, "letters beyond ASCII"),
        (lambda t: "", "an empty file"),
        (lambda t: "datasets: {}\nruns: {}  # none yet\n", "empty sections"),
        (lambda t: "# mine\ntrack:\n  experiment: pets", "no sections"),
    ],
)
def test_other_layouts_of_the_file(params: Path, change: Any, what: str) -> None:
    text = change(SHIPPED.decode())
    params.write_text(text, encoding="utf-8")
    call(params)
    assert {"mine"} <= set(read_params(params).runs) & set(read_params(params).datasets)
    call(params, "second", "coco", "detect")
    assert {"mine", "second"} <= set(read_params(params).runs)
    before = [re.sub(r"^(\w+:) {}", r"\1", line) for line in text.split("\n")]
    after = params.read_text(encoding="utf-8").split("\n")
    assert is_subsequence([line.encode() for line in before], [line.encode() for line in after]), what


def test_few_lines_are_added(params: Path) -> None:
    before = len(params.read_text().splitlines())
    weights = weights_of("mobilenetv2_050", params.parent / "w.safetensors")
    call(
        params, data="coco", task="detect", backbone="mobilenetv2_050", pretrained=weights, settings=["train.epochs=5"]
    )
    assert len(params.read_text().splitlines()) - before <= 20


@pytest.mark.parametrize("task", ["classify", "localize", "detect"])
def test_pretrained_weights_bring_their_recipe_however_they_are_given(params: Path, task: str) -> None:
    data = "folder" if task == "classify" else "coco"
    weights = weights_of("mobilenetv2_050", params.parent / "w.safetensors")
    call(params, "file", data, task, backbone="mobilenetv2_050", pretrained=weights)
    call(params, "hub", data, task, backbone="mobilenetv2_050", settings=["model.pretrained=true"])
    call(params, "none", data, task, backbone="mobilenetv2_050")
    runs = read_params(params).runs
    assert runs["file"].train == runs["hub"].train != runs["none"].train


# --- the weights that a run starts from


def weights_of(backbone: str, path: Path, names: str = "timm") -> Path:
    path.parent.mkdir(exist_ok=True)
    net = timm.create_model(backbone) if names == "timm" else getattr(torchvision.models, names)()
    save_file(net.state_dict(), path)
    return path


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Has this process ask the hub at an address, until then one where nothing listens; its cache is empty."""

    def at(address: str) -> None:
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        at(f"http://127.0.0.1:{closed.getsockname()[1]}")
    return at


@pytest.mark.parametrize(
    ("taken", "other", "of_other"),
    [
        ("mobilenetv2_035.safetensors", "mobilenetv2_035.new.safetensors", "mobilenetv2_035"),
        ("mobilenetv2_035.lamb_in1k.safetensors", "a.safetensors", "mobilenetv2_035"),
        ("theirs.safetensors", "a.safetensors", "mobilenetv2_050"),
    ],
)
def test_a_file_in_weights_that_fits_comes_before_the_network(
    params: Path, no_hub: Any, taken: str, other: str, of_other: str
) -> None:
    drawn = "mobilenetv2_035.drawn.safetensors"
    for name, backbone in ((taken, "mobilenetv2_035"), (other, of_other), (drawn, "mobilenetv2_035")):
        weights_of(backbone, params.parent / "weights" / name)
    said = call(params, backbone="mobilenetv2_035", from_scratch=False)
    file = f"weights/{taken}"
    assert said.splitlines()[1] == f"{file}: the run starts from these weights, which fit mobilenetv2_035"
    run = read_params(params).run("mine")
    assert run.model.pretrained == file
    assert (run.train.frozen_epochs, run.train.backbone_rate) == (30, 0.05)


def test_torchvisions_own_file_is_found(params: Path, no_hub: Any) -> None:
    weights_of("", params.parent / "weights/mobilenet_v2.safetensors", "mobilenet_v2")
    call(params, from_scratch=False)
    assert read_params(params).run("mine").model.pretrained == "weights/mobilenet_v2.safetensors"


@pytest.mark.real
def test_real_imagenet_weights_are_found_by_what_they_hold(params: Path, no_hub: Any) -> None:
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    shutil.copytree(Path(os.environ["POCKETLENS_REAL_DATA"]) / "weights", params.parent / "weights")
    for backbone, file in (
        ("mobilenetv2_100", "mobilenet_v2_100.torchvision.fp16.safetensors"),
        ("mobilenetv1_050", "mobilenetv1_050.timm.fp16.safetensors"),
        ("mobilenetv2_035", "mobilenetv2_035.timm.fp16.safetensors"),
    ):
        call(params, backbone, backbone=backbone, from_scratch=False)
        assert read_params(params).run(backbone).model.pretrained == f"weights/{file}"
    with pytest.raises(InputError, match="weights/ has none that fit mobilenetv2_050; "):
        call(params, backbone="mobilenetv2_050", from_scratch=False)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a.safetensors": "mobilenetv2_035", "b.safetensors": "mobilenetv2_035"},
            r"several files fit mobilenetv2_035: a\.safetensors, b\.safetensors; say which: --pretrained ",
        ),
        ({"mobilenetv2_035.safetensors": "mobilenetv2_050"}, "weights of another architecture or width"),
        (
            {},
            r"no pretrained weights: weights/ has none that fit mobilenetv2_035; timm has no weights of mobilenetv2_035"
            r" \(the nearest width with some is mobilenetv2_050\)\. Put a file in timm's or torchvision's names at"
            r" weights/mobilenetv2_035\.safetensors .*--pretrained FILE\), or start from random weights: --from-scr",
        ),
        (
            {"mobilenetv2_035.drawn.safetensors": "mobilenetv2_035"},
            r"none that fit mobilenetv2_035 but weights/mobilenetv2_035\.drawn\.safetensors, which has seen synthetic "
            r"animals only \(`--pretrained weights/mobilenetv2_035\.drawn\.safetensors` takes it\); timm has no",
        ),
        ({"mobilenetv2_035.drawn.safetensors": "mobilenetv2_050"}, "none that fit mobilenetv2_035; timm has no"),
    ],
)
def test_weights_that_are_not_clear_are_named(params: Path, no_hub: Any, files: dict[str, str], message: str) -> None:
    for name, backbone in files.items():
        weights_of(backbone, params.parent / "weights" / name)
    with pytest.raises(InputError, match=message):
        call(params, backbone="mobilenetv2_035", from_scratch=False)
    assert params.read_bytes() == SHIPPED


@pytest.mark.parametrize(
    ("backbone", "why"),
    [
        ("mobilenetv1_050_short_valid", r"of mobilenetv1_050_short_valid \(.* is mobilenetv1_100\)"),
        ("mobilenetv2_077", r"\(the nearest width with some is mobilenetv2_100\)"),
        ("mnasnet_050", r"timm has no weights of mnasnet_050\. Put"),
        ("legacy_seresnet18", r"timm's weights of legacy_seresnet18 are not on its hub, but at https://"),
        ("mobilenetv2_50", r"backbone 'mobilenetv2_50' is not in timm; did you mean"),
    ],
)
def test_a_backbone_without_weights_is_named_before_the_network_is_tried(
    params: Path, no_hub: Any, backbone: str, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        call(params, backbone=backbone, from_scratch=False)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("closed", r"resolve/main/model\.safetensors: ConnectError: .*refused"),
        ("silent", r"resolve/main/model\.safetensors: no answer within 0\.2 seconds"),
        ("empty", r"resolve/main/model\.safetensors: .*(404|EntryNotFound)"),
        ("damaged", r"resolve/main/model\.safetensors: SafetensorError: "),
    ],
)
def test_a_hub_that_gives_nothing_is_named_at_once(
    params: Path, no_hub: Any, monkeypatch: pytest.MonkeyPatch, server: str, message: str
) -> None:
    """Its client alone would try again for minutes."""
    if server == "silent":
        monkeypatch.setattr("pipeline.models.hub.SECONDS", 0.2)
    files = {"timm/mobilenetv2_050.lamb_in1k/model.safetensors": b"no weights"} if server == "damaged" else {}
    with contextlib.ExitStack() as stack:
        if server == "silent":
            no_hub(stack.enter_context(silent()))
        elif server != "closed":
            no_hub(stack.enter_context(hub(files))[0])
        with pytest.raises(InputError, match=message) as error:
            call(params, backbone="mobilenetv2_050", from_scratch=False)
        assert str(error.value).endswith("or start from random weights: --from-scratch")
        with pytest.raises(InputError, match=message):  # what `train` says of model.pretrained: true
            read_pretrained("mobilenetv2_050", True)
    assert params.read_bytes() == SHIPPED
    assert not (params.parent / "weights").exists()


def test_from_scratch_and_weights_exclude_each_other(params: Path) -> None:
    with pytest.raises(InputError, match=r"--from-scratch, but model\.pretrained is True; expected one"):
        call(params, settings=["model.pretrained=true"], from_scratch=True)
    said = call(params, settings=["model.pretrained=false"], from_scratch=True)
    assert "the run starts from random weights" in said


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
@pytest.mark.parametrize("text", [SHIPPED, b"datasets: {}\n\nruns: {}", b""])
def test_ends_of_lines_and_the_mark_of_utf8_stay(params: Path, mark: bytes, ending: bytes, text: bytes) -> None:
    before = mark + text.replace(b"\n", ending)
    params.write_bytes(before)
    call(params)
    after, own = params.read_bytes(), ending if text else b"\n"
    assert after.startswith(codecs.BOM_UTF8) == bool(mark)
    assert after.count(own) == after.count(b"\n")
    assert after.endswith(own)
    if text is SHIPPED:
        assert is_subsequence(before.splitlines(keepends=True), after.splitlines(keepends=True))
    assert read_params(params).run("mine").task == "classify"


# --- settings


@pytest.mark.parametrize(
    ("setting", "keys", "value"),
    [
        ("train.epochs=5", ("runs", "train", "epochs"), 5),
        ("verify.tolerance=0.05", ("runs", "verify", "tolerance"), 0.05),
        ("model.head.dropout=0.1", ("runs", "model", "head", "dropout"), 0.1),
        ("model.head.kind=flatten", ("runs", "model", "head", "kind"), "flatten"),
        ("train.learning_rate=1e-4", ("runs", "train", "learning_rate"), 1e-4),
        ("export.targets=[onnx_int8]", ("runs", "export", "targets"), ["onnx_int8"]),
        ("model.resize=crop", ("runs", "model", "resize"), "crop"),
        ("dataset.max_side=320", ("datasets", "max_side"), 320),
        ("dataset.splits.seed=3", ("datasets", "splits", "seed"), 3),
        ("dataset.augment.policy=photo", ("datasets", "augment", "policy"), "photo"),
        ("dataset=alpaca", ("runs", "dataset"), "alpaca"),  # the run's own knob of that name
    ],
)
def test_a_setting_reaches_its_knob(params: Path, setting: str, keys: tuple[str, ...], value: Any) -> None:
    call(params, settings=[setting])
    found: Any = raw(params)
    for key in (keys[0], "mine", *keys[1:]):
        found = found[key]
    assert found == value
    assert isinstance(read_params(params), Params)


def test_what_landmarks_are_of(params: Path) -> None:
    call(params, data="pts", task="localize", settings=["dataset.options.label=face", "dataset.options.pairs=[[0, 1]]"])
    call(params, "other", data="landmarks_csv", task="localize")
    read = read_params(params)
    assert read.dataset("mine").options.model_dump() == {"label": "face", "pairs": [[0, 1]]}
    assert read.dataset("other").options.model_dump() == {"label": "object", "pairs": []}


def test_settings_go_together_and_the_last_word_counts(params: Path) -> None:
    call(params, settings=["train.epochs=5", "dataset.max_side=320", "verify.tolerance=0.05", "train.epochs=6"])
    read = read_params(params)
    run = read.run("mine")
    assert (run.train.epochs, run.verify.tolerance, read.dataset("mine").max_side) == (6, 0.05, 320)


def test_backbone_and_pretrained(params: Path) -> None:
    weights = weights_of("resnet18", params.parent / "weights/w.safetensors")
    call(params, backbone="resnet18", pretrained=weights)
    run = read_params(params).run("mine")
    assert (run.model.backbone, run.model.pretrained) == ("resnet18", "weights/w.safetensors")
    assert run.train.frozen_epochs > 0
    assert run.train.backbone_rate < 1


def test_all_that_are_added_at_once_are_there(params: Path) -> None:
    adding = [threading.Thread(target=call, args=(params, f"one{i}")) for i in range(8)]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert {f"one{i}" for i in range(8)} <= set(read_params(params).runs)


def test_a_link_stays_one_and_paths_are_the_projects(params: Path, tmp_path: Path) -> None:
    own = tmp_path / "conf/params.yaml"
    own.parent.mkdir()
    params.rename(own)
    own.chmod(0o640)
    params.symlink_to(own)
    call(params)
    assert (params.is_symlink(), own.stat().st_mode & 0o777) == (True, 0o640)
    assert read_params(own).dataset("mine").path == "data/folder"


def test_a_backbone_that_is_not_known_is_named_also_from_scratch(params: Path) -> None:
    with pytest.raises(InputError, match=r"backbone 'mobilenetv2_05' is not in timm; did you mean"):
        call(params, backbone="mobilenetv2_05")
    assert params.read_bytes() == SHIPPED


@pytest.mark.parametrize("given", ["pretrained", "setting"])
@pytest.mark.parametrize(
    ("holds", "message"),
    [
        ("mobilenetv2_050", r"w\.safetensors: weights of another .* width: .*; expected weights of mobilenetv2_035$"),
        ("resnet18", r"w\.safetensors: .*To make it plain"),
        ("nothing", r"w\.safetensors: not a weights file"),
    ],
)
def test_weights_that_do_not_fit_are_told_at_once(params: Path, given: str, holds: str, message: str) -> None:
    file = params.parent / "weights/w.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"") if holds == "nothing" else weights_of(holds, file)
    said: dict[str, Any] = {"settings": ["model.pretrained=weights/w.safetensors"]}
    said = {"pretrained": file} if given == "pretrained" else said
    with pytest.raises(InputError, match=re.compile(message, re.DOTALL)):
        call(params, backbone="mobilenetv2_035", from_scratch=False, **said)
    assert params.read_bytes() == SHIPPED


def test_the_model_of_a_run_that_is_not_made_yet_can_be_named(params: Path) -> None:
    call(params, settings=["model.pretrained=models/herd/model.safetensors"], from_scratch=False)
    assert read_params(params).run("mine").model.pretrained == "models/herd/model.safetensors"


# --- paths


def test_paths_in_the_project_are_relative_and_others_absolute(
    params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = make(tmp_path / "elsewhere", "folder")
    monkeypatch.chdir(params.parent)
    cases = {
        "inside": Path("data/folder"),
        "dotted": Path("data/../data/folder"),
        "whole": params.parent / "data/folder",
        "out": outside,
        "up": Path("../elsewhere"),
    }
    for name, data in cases.items():
        add(Path("params.yaml"), name, data, "classify", None, None, None, None, [], from_scratch=True)
    found = {name: read_params(params).dataset(name).path for name in cases}
    inside, out = "data/folder", outside.as_posix()
    assert found == {"inside": inside, "dotted": inside, "whole": inside, "out": out, "up": out}


@pytest.mark.parametrize(
    "name",
    [
        "my images of cats and dogs " * 4 + "end",
        "a: b # c",
        "'quoted' \"twice\"",
        "été 犬",
        "- {x}, [y]",
        "0x10",
        "null",
        " leading",
        "%percent & @at *star !bang | > `tick`",
        "back\\slash",
    ],
)
def test_any_folder_name_comes_back_as_it_is(params: Path, name: str) -> None:
    make(params.parent / name, "folder")
    add(params, "mine", params.parent / name, "classify", None, None, None, None, [], from_scratch=True)
    assert read_params(params).dataset("mine").path == name


def test_labels_elsewhere(params: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(COCO))
    add(
        params, "given", params.parent / "data/coco/images", "detect", "coco", labels, None, None, [], from_scratch=True
    )
    assert read_params(params).dataset("given").labels == labels.as_posix()


def test_labels_elsewhere_are_looked_at_too(params: Path) -> None:
    root = params.parent / "data/coco"
    said = add(params, "mine", root / "images", "detect", None, root / "annotations", None, None, [], from_scratch=True)
    assert "COCO annotations in instances.json" in said
    dataset = read_params(params).dataset("mine")
    assert (dataset.format, dataset.path, dataset.labels) == ("coco", "data/coco/images", "data/coco/annotations")


# --- what is refused


@pytest.mark.parametrize(
    ("call_with", "message"),
    [
        ({"name": "herd", "data": "coco", "task": "detect"}, r"params\.yaml: datasets\.herd is there already"),
        (
            {"data": "coco", "task": "classify"},
            r"data/coco: found coco \(COCO .*\), but classify learns from ucf101, .*folder, crops",
        ),
        (
            {"data": "folder", "task": "detect"},
            r"found folder \(2 class .*\), but detect learns from ucf24, .*coco, .*yolo.*; give --task classify, or",
        ),
        (
            {"format": "voc", "task": "classify"},
            r"found voc \(as given\), but classify learns from ucf101, .*folder, crops",
        ),
        (
            {"format": "cocoa", "task": "detect"},
            "format 'cocoa'; did you mean 'coco'?",
        ),
        ({"data": "nosuch"}, "data/nosuch: no such file or folder"),
        (
            {"data": "empty"},
            "data/empty: no known format.*; looked for .*ucf24.*ucf101.*coco.*voc.*yolo.*pts.*landmarks_csv.*folder",
        ),
        ({"data": "coco/annotations/instances.json", "task": "detect"}, "instances.json: not a folder"),
        ({"name": ""}, "name '': expected letters, digits"),
        ({"name": "my cats"}, "name 'my cats': expected letters, digits, _ and - only"),
        ({"name": "../up"}, r"name '\.\./up': expected"),
        ({"name": "a.b"}, r"name 'a\.b'"),
        ({"name": "été"}, "name 'été'"),
        ({"name": "line\n"}, "name 'line"),
        ({"settings": ["epoch=5"]}, r"runs\.mine\.epoch: unknown key; did you mean 'train\.epochs'?"),
        (
            {"settings": ["verify.tolerence=1"]},
            r"runs\.mine\.verify\.tolerence: unknown key; did you mean 'tolerance'?",
        ),
        ({"settings": ["exports.targets=1"]}, r"runs\.mine\.exports: unknown key; did you mean 'export'?"),
        ({"settings": ["dataset.maxside=9"]}, r"datasets\.mine\.maxside: unknown key; did you mean 'max_side'?"),
        ({"settings": ["train.epochs.x=9"]}, r"runs\.mine\.train\.epochs: .*found {'x': 9}"),
        ({"settings": ["model.head.channels=9"]}, r"model\.head\.channels: unknown key; expected one of kind, dropout"),
        ({"settings": ["epochs"]}, "--set epochs: expected key=value"),
        ({"settings": ["=5"]}, "--set =5: expected key=value"),
        ({"settings": ["export.targets=[onnx_float"]}, r"--set export\.targets=\[onnx_float: not YAML"),
        (
            {"data": "pts", "task": "localize", "settings": ["dataset.options.lable=face"]},
            "unknown key; did you mean 'label'?",
        ),
        (
            {"data": "pts", "task": "localize", "settings": ["dataset.options.label="]},
            r"datasets\.mine\.options\.label: .*found None",
        ),
        ({"settings": ["train.epochs="]}, r"runs\.mine\.train\.epochs: .*found None"),
        ({"settings": ["train.epochs=five"]}, r"runs\.mine\.train\.epochs: .*found 'five'"),
        ({"settings": ["train.epochs=0"]}, r"runs\.mine\.train: epochs and frozen_epochs are both 0"),
        ({"settings": ["model.size=100"]}, r"runs\.mine\.model\.size: .*multiple of 32, found 100"),
        ({"settings": ["model.head=3"]}, r"runs\.mine\.model\.head: .*found 3"),
        ({"settings": ["task=detect", "model.head.kind=pool"]}, r"runs\.mine\.model\.head\.kind: 'pool' is not one of"),
        ({"settings": ["dataset.splits.val=0.9"]}, r"datasets\.mine\.splits: val \+ test = 1\.1"),
        ({"settings": ["dataset=heard"]}, "no dataset 'heard'; did you mean 'herd'?"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(params: Path, call_with: dict[str, Any], message: str) -> None:
    (params.parent / "data/empty").mkdir()
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        call(params, **call_with)
    assert params.read_bytes() == SHIPPED
    assert sorted(p.name for p in params.parent.iterdir()) == ["data", "params.yaml"]


def test_links_that_lead_out_are_foreseen(params: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.jpg"
    Image.new("RGB", (40, 30)).save(outside)
    (params.parent / "data/folder/cat/linked.jpg").symlink_to(outside)
    said = call(params)
    assert "warning: 1 image or clip is a link that leads out of" in said and "linked.jpg: not taken, unless" in said
    assert "warning" not in call(params, name="followed", settings=["dataset.links_out=follow"])


def test_the_second_of_a_name_is_refused(params: Path) -> None:
    call(params)
    once = params.read_bytes()
    with pytest.raises(InputError, match=r"params\.yaml: datasets\.mine is there already; choose another name"):
        call(params, data="coco", task="detect")
    assert params.read_bytes() == once


@pytest.mark.parametrize("what", ["labels", "pretrained"])
def test_a_path_that_is_not_there_is_named(params: Path, what: str) -> None:
    missing = params.parent / "nosuch"
    with pytest.raises(InputError, match="nosuch"):
        call(params, format="folder", **{what: missing})
    assert params.read_bytes() == SHIPPED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "params.yaml: no such file"),
        ("datasets: [\n", "params.yaml: not YAML"),
        ("- a list\n", "params.yaml: expected keys and values"),
        (SHIPPED.decode().replace(" epochs: ", " epoch: ", 1), r"runs\.actions\.train\.epoch: unknown key"),
    ],
)
def test_a_params_file_that_cannot_be_added_to(params: Path, text: str | None, message: str) -> None:
    params.unlink()
    if text is not None:
        params.write_text(text)
    with pytest.raises(InputError, match=message):
        call(params)
    assert (params.read_text() if params.exists() else None) == text


# --- any name


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    make(root / "data", "folder")
    return root / "params.yaml"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.one_of(
        st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,23}", fullmatch=True),
        st.sampled_from(["null", "true", "no", "0", "007", "1e5", "0x1f", "12_3", "2026-11-21", "_-", "_", "nan"]),
    )
)
def test_any_valid_name(project: Path, name: str) -> None:
    project.write_bytes(SHIPPED)
    if name in read_params(project).runs:
        return
    add(project, name, project.parent / "data", "classify", None, None, None, None, [], from_scratch=True)
    read = read_params(project)
    assert read.run(name).dataset == name
    assert read.dataset(name).path == "data"
    assert is_subsequence(SHIPPED.splitlines(keepends=True), project.read_bytes().splitlines(keepends=True))
    assert sorted(p.name for p in project.parent.iterdir()) == ["data", "params.yaml"]
