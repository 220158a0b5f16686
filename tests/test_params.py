"""params.yaml: every wrong key is named, with the nearest right one."""

import copy
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipeline.config.params import Params, parse_params, read_params
from pipeline.config.resolve import knobs
from pipeline.config.variants import variants
from pipeline.core.errors import InputError
from pipeline.core.params import flat

PARAMS = Path(__file__).parents[1] / "params.yaml"


def test_the_shipped_file_is_valid() -> None:
    params = read_params(PARAMS)
    assert set(params.runs) == {"actions", "alpaca", "herd", "pose"}


STATED: dict[str, Any] = {
    "datasets": {
        "clips": {"format": "ucf101", "path": "d", "labels": "d", "options": {"split": 1}},
        "herd": {"format": "coco", "path": "d", "labels": "d"},
        "plain": {"format": "folder", "path": "d", "labels": "d"},
    },
    "runs": {
        "clips": {"dataset": "clips", "task": "classify", "export": {"targets": ["onnx_float", "onnx_int8"]}},
        "herd": {"dataset": "herd", "task": "detect", "model": {"head": {"channels": 48}}},
    },
    "compare": {"run": "clips", "settings": {"model.head.kind": "flatten"}, "models": {"vgg16": {}}},
}


def stated(**changes: Any) -> str:
    """STATED with values at dotted keys; `...` takes the key away."""
    tree = copy.deepcopy(STATED)
    for key, value in changes.items():
        *path, last = key.split("/")
        block = tree
        for step in path:
            block = block.setdefault(step, {})
        if value is ...:
            del block[last]
        else:
            block[last] = value
    return json.dumps(tree)  # which is YAML


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("runs/clips/train/epoch", 3, r"runs\.clips\.train\.epoch: unknown key; did you mean 'epochs'\?"),
        ("runs/clips/epochs", 3, r"runs\.clips\.epochs: unknown key; did you mean 'train\.epochs'\?"),
        ("runs/clips/dropout", 0.1, r"runs\.clips\.dropout: unknown key; did you mean 'model\.head\.dropout'\?"),
        ("runs/clips/dataset", ..., r"runs\.clips\.dataset: missing"),
        ("runs/clips/task", ..., r"runs\.clips\.task: missing"),
        ("runs/clips/model/size", 97, r"runs\.clips\.model\.size: .*multiple of 32, found 97"),
        ("runs/clips/model/size", 0, r"runs\.clips\.model\.size: .*greater than or equal to 32, found 0"),
        ("runs/herd/model/head/strides", [8, 32], r"runs\.herd\.model\.head\.strides: .*each twice the one before"),
        ("runs/herd/task", "detekt", r"runs\.herd\.task: 'detekt' is not one of .*did you mean 'detect'\?"),
        ("datasets/clips/format", "ucf11", r"datasets\.clips\.format: 'ucf11' .*did you mean 'ucf101'\?"),
        ("runs/herd/dataset", "heard", r"runs\.herd\.dataset: no dataset 'heard'; did you mean 'herd'\?"),
        ("datasets/clips/options/split", 4, r"datasets\.clips\.options\.split: .*found 4"),
        ("datasets/clips/options/frame", 4, r"datasets\.clips\.options\.frame: unknown key; did you mean 'frames'\?"),
        ("runs/clips/train/learning_rate", "fast", r"runs\.clips\.train\.learning_rate: .*found 'fast'"),
        ("runs/clips/train/learning_rate", float("inf"), r"train\.learning_rate: .*found 'Infinity'"),
        ("runs/clips/verify/tolerence", 0.1, r"verify\.tolerence: unknown key; did you mean 'tolerance'"),
        ("runs/clips/verify/tolerance", 3.0, r"runs\.clips\.verify\.tolerance: .*found 3\.0"),
        ("runs/herd/verify", {"tolerances": {"pkc": 0.1}}, r"runs\.herd\.verify\.tolerances: no .*did you mean 'pck'"),
        ("runs/clips/verify", {"tolerances": {"pck": 0.1}}, r"no figure 'pck'; expected one of accuracy, "),
        ("datasets/clips/splits", {"val": 0.9}, r"datasets\.clips\.splits: val \+ test = 1\.1 leaves nothing"),
        ("runs/herd/model/head/channel", 3, r"runs\.herd\.model\.head\.channel: unknown key; did you mean 'channels'"),
        ("runs/herd/train/online", {"mixup": 0.2}, r"online\.mixup: unknown key; .*; it goes with task: classify"),
        ("datasets/herd/preprocess", "gray", r"herd\.preprocess: found 'gray'; expected a list of steps, each its"),
        ("datasets/herd/preprocess", [{"gray": {}}], r"herd\.preprocess: found {'gray': {}}; expected a list of steps"),
        ("runs/herd/train/online", {"policy": "photo_zom"}, r"online\.policy: .*did you mean 'photo_zoom'\?"),
        ("datasets/clips/augment", {"policy": "foto"}, r"datasets\.clips\.augment\.policy: .*did you mean 'photo'\?"),
        ("runs/clips/export/targets", ["onnx_int4"], r"runs\.clips\.export\.targets\.0: .*found 'onnx_int4'"),
        ("runs/clips/export/targets", ["onnx_float", "onnx_float"], r"a target stands twice"),
        ("runs/clips/export/quantize", {"epochs": 2}, r"quantize\.epochs: unknown key; it goes with mode: qat"),
        ("runs/clips/train/epochs", 0, r"runs\.clips\.train: epochs and frozen_epochs are both 0"),
        ("runs/clips/train/tuned_blocks", -1, r"runs\.clips\.train\.tuned_blocks: .*found -1"),
        ("runs/clips/train/class_weights", "fair", r"runs\.clips\.train\.class_weights: .*found 'fair'"),
        ("datasets/clips/cells", ["cow"], r"datasets\.clips\.cells: unknown key(?!; did you mean)"),
        ("runs/clips/predict/nms", "hard", r"runs\.clips\.predict\.nms: unknown key; did you mean 'nms_iou'"),
        ("runs/herd/predict", {"score": "best"}, r"runs\.herd\.predict\.score: .*found 'best'"),
        ("runs/herd/predict", {"miss_cost": 2.0}, r"herd\.predict: miss_cost: goes with score: auto, found .*0\.3"),
        ("runs/herd/predict", {"score": "auto", "alarm_cost": 0.0}, r"herd\.predict\.alarm_cost: .*greater than 0"),
        ("machine/workers", True, r"machine\.workers: .*found True"),
        ("trak", {}, r"trak: unknown key; did you mean 'track'\?"),
        ("runs/herd/dataset", "plain", r"herd\.task: detect does not learn from dataset 'plain', whose format folder"),
        ("datasets/herd/path", "", r"datasets\.herd\.path: string should have at least 1 character, found ''"),
        ("runs/-a", {}, r"runs: name '-a': expected letters.* no - at the start"),
        ("compare/settings", {"train": {"epochs": 3}}, r"compare\.settings\.train: a block, .*say train\.epochs: "),
        ("runs/a.b", {}, r"runs: name 'a\.b': expected letters, digits, _ and - only"),
        ("datasets/it's", {}, r"datasets: name \"it's\": expected letters"),
        ("datasets/a*", {}, r"datasets: name 'a\*': expected letters"),
        ("runs/a@b", {}, r"runs: name 'a@b': expected letters"),
        ("compare/models/vgg16", {"train.learning_rat": 1}, r"models\.vgg16\.train\.learning_rat: .*'learning_rate'\?"),
        ("compare/models/vgg16", {"train.learning_rate": "fast"}, r"models\.vgg16\.train\.learning_rate: .*'fast'"),
        ("compare/settings", {"model.head.kind": "flat"}, r"settings\.model\.head\.kind: 'flat' is not one of"),
        ("compare/settings", {"dataset": "herd"}, r"compare\.settings\.dataset: no key of a run that may change"),
        ("compare/run", "clip", r"compare\.run: no run 'clip'; did you mean 'clips'\?"),
        ("compare/model", {}, r"compare\.model: unknown key; did you mean 'models'\?"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_params(stated(**{key: value}), PARAMS)


def test_what_is_not_yaml_is_named() -> None:
    with pytest.raises(InputError, match=r"params.yaml: not YAML"):
        parse_params("datasets: [\n", PARAMS)


def test_all_wrong_keys_are_listed_at_once() -> None:
    wrong = {"runs/clips/train/epoch": 1, "runs/herd/model/siz": 1, "trak": 1}
    with pytest.raises(InputError) as error:
        parse_params(stated(**wrong), PARAMS)
    assert str(error.value).count("unknown key") == 3


def test_an_empty_file_has_neither_datasets_nor_runs() -> None:
    params = parse_params("", PARAMS)
    assert (params.datasets, params.runs, params.compare) == ({}, {}, None)


def schemas(schema: Any = Params, found: set[Any] | None = None) -> set[Any]:
    """Every block that params.yaml can hold."""
    found = set() if found is None else found
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        if schema not in found:
            found.add(schema)
            for field in schema.model_fields.values():
                schemas(field.annotation, found)
    else:
        for inner in get_args(schema):
            schemas(inner, found)
    return found


@pytest.mark.parametrize("schema", sorted(schemas(), key=lambda s: s.__name__), ids=lambda s: s.__name__)
def test_every_knob_says_what_it_means(schema: type[BaseModel]) -> None:
    assert [name for name, field in schema.model_fields.items() if not field.description] == []


def test_params_yaml_states_only_what_differs() -> None:
    """A line that repeats a default says nothing, unless it overrules what pretrained weights bring along."""
    raw = YAML(typ="safe").load(PARAMS)
    for name, run in raw["runs"].items():
        for key, value in flat(run).items():
            *path, last = key.split(".")
            less = copy.deepcopy(raw)
            block = less["runs"][name]
            for step in path:
                block = block[step]
            del block[last]
            if key in ("dataset", "task"):
                continue
            shorter = parse_params(json.dumps(less), PARAMS).runs[name]
            assert shorter != parse_params(json.dumps(raw), PARAMS).runs[name], f"runs.{name}.{key} is {value} anyway"


@pytest.mark.parametrize(("kind", "name", "near"), [("run", "hurd", "herd"), ("dataset", "posse", "pose")])
def test_an_unknown_name_is_answered_with_the_nearest(kind: str, name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"no {kind} '{name}'.*did you mean '{near}'"):
        getattr(read_params(PARAMS), kind)(name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        read_params(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("task", "settings", "backbone"),
    [
        ("classify", {"model.pretrained": False}, "mobilenetv2_100"),  # random weights at the rate for pretrained ones
        ("detect", {"model.pretrained": False}, "mobilenetv2_100"),
        ("detect", {}, "resnet18"),  # the last 12 blocks are a MobileNet's
    ],
)
def test_a_variant_has_the_recipe_of_its_own_weights_and_backbone(task: str, settings: Any, backbone: str) -> None:
    dataset = {"format": "coco" if task == "detect" else "folder", "path": "d", "labels": "d"}
    block = {"dataset": "d", "task": task, "model": {"pretrained": True}, "train": {"epochs": 7}}
    compare = {"run": "r", "models": {backbone: settings}}
    base = {"datasets": {"d": dataset}, "runs": {"r": block}, "compare": compare}
    made = variants(parse_params(json.dumps(base), PARAMS), "r", [], {})[backbone]
    stated = {"backbone": backbone, "pretrained": settings.get("model.pretrained", True)}
    alone = json.dumps(base | {"runs": {"r": block | {"model": stated}}, "compare": None})
    assert made.model_dump() == parse_params(alone, PARAMS).runs["r"].model_dump()
    assert made.train.epochs == 7


@pytest.mark.parametrize("pretrained", [True, "weights/mobilenet_v2.pth", "models/herd/model.safetensors"])
@pytest.mark.parametrize("task", ["classify", "localize", "detect"])
def test_what_a_run_starts_from_decides_its_defaults_and_not_how_it_was_said(task: str, pretrained: bool | str) -> None:
    dataset = {"format": "coco" if task != "classify" else "folder", "path": "d", "labels": "d"}

    def train(model: dict[str, Any], **stated: Any) -> dict[str, Any]:
        run = {"dataset": "d", "task": task, "model": model, "train": stated}
        text = json.dumps({"datasets": {"d": dataset}, "runs": {"r": run}})
        found: dict[str, Any] = parse_params(text, PARAMS).runs["r"].train.model_dump()
        return found

    by_hand, scratch = train({"pretrained": pretrained}), train({"pretrained": False})
    assert by_hand != scratch == train({})
    assert by_hand == train({"pretrained": True})
    stated = {key: value for key, value in scratch.items() if by_hand[key] != value}
    assert train({"pretrained": pretrained}, **stated) == scratch


def test_a_block_stated_in_part_keeps_its_other_defaults() -> None:
    sample = parse_params("sample: {herd: {images: 60}, actions: {groups: 4}}", PARAMS).sample
    assert (sample.herd.images, sample.herd.side, sample.alpaca.images) == (60, 256, 360)
    assert (sample.actions.groups, sample.actions.clips) == (4, 2)
    with pytest.raises(InputError, match=r"sample\.herd\.image"):
        parse_params("sample: {herd: {image: 60}}", PARAMS)


def test_the_knobs_of_a_synthetic_dataset_have_how_much_of_it_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    block = "format: coco, path: {0}, labels: {0}"
    drawn, own = (f"{{{block.format(path)}}}" for path in ("data/sample/herd", "data/herd"))
    file.write_text(f"datasets: {{herd: {drawn}, mine: {own}}}\n")
    found = {name: {knob.key.rsplit(".", 1)[0] for knob in knobs(file, name)} for name in ("herd", "mine")}
    assert "sample.herd" in found["herd"] and not any(key.startswith("sample") for key in found["mine"])
    assert {key.split(".")[1] for key in found["herd"] | found["mine"]} == {"herd", "mine"}
