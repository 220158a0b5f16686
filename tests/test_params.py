"""params.yaml: every wrong key is named, with the nearest right one."""

import re
from pathlib import Path

import pytest

from pipeline.config.params import parse_params, read_params
from pipeline.core.errors import InputError

PARAMS = Path(__file__).parents[1] / "params.yaml"


def test_the_shipped_file_is_valid() -> None:
    params = read_params(PARAMS)
    assert set(params.runs) == {"actions", "alpaca", "herd", "pose"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    epochs: ", "    epoch: ", r"runs\.actions\.epoch: unknown key; did you mean 'epochs'\?"),
        ("    batch_size: 16\n", "", r"runs\.actions\.batch_size: missing"),
        ("    size: 96 ", "    size: 97 ", r"runs\.actions\.size: .*multiple of 32, found 97"),
        ("    size: 96 ", "    size: 0 ", r"runs\.actions\.size: .*greater than or equal to 32, found 0"),
        ("task: detect", "task: detekt", r"runs\.herd\.task: 'detekt' is not one of .*did you mean 'detect'\?"),
        ("format: ucf101", "format: ucf11", r"datasets\.actions\.format: 'ucf11' .*did you mean 'ucf101'\?"),
        (
            "    dataset: herd\n",
            "    dataset: heard\n",
            r"runs\.herd\.dataset: no dataset 'heard'; did you mean 'herd'\?",
        ),
        ("split: 1 ", "split: 4 ", r"datasets\.actions\.options\.split: .*found 4"),
        ("learning_rate: 0.004 ", "learning_rate: fast ", r"runs\.actions\.learning_rate: .*found 'fast'"),
        (
            "      tolerance: 0.05 ",
            "      tolerence: 0.05 ",
            r"export\.tolerence: unknown key; did you mean 'tolerance'",
        ),
        ("      tolerance: 0.05 ", "      tolerance: 3.0 ", r"runs\.actions\.export\.tolerance: .*found 3\.0"),
        ("      val: 0.2\n", "      val: 0.9\n", r"datasets\.actions\.splits: val \+ test = 1\.1 leaves nothing"),
        (
            "      channels: 48 ",
            "      channel: 48 ",
            r"runs\.herd\.head\.channel: unknown key; did you mean 'channels'",
        ),
        ("      - onnx_int8\n", "      - onnx_int4\n", r"runs\.actions\.export\.targets\.1: .*found 'onnx_int4'"),
        ("      - onnx_int8\n", "      - onnx_float\n", r"a target stands twice"),
        ("    epochs: 6 ", "    epochs: 0 ", r"runs\.actions: epochs and frozen_epochs are both 0"),
        ("tuned_blocks: all ", "tuned_blocks: -1 ", r"runs\.actions\.tuned_blocks: .*found -1"),
        ("class_weights: none ", "class_weights: fair ", r"runs\.actions\.class_weights: .*found 'fair'"),
        ("track:\n", "trak:\n", r"trak: unknown key; did you mean 'track'\?"),
        (
            "learning_rate: 0.0003 ",
            "learning_rat: 0.0003 ",
            r"compare\.models\.vgg16\.learning_rat: .*'learning_rate'\?",
        ),
        ("learning_rate: 0.0003 ", "learning_rate: fast ", r"compare\.models\.vgg16\.learning_rate: .*found 'fast'"),
        ("head.kind: flatten", "head.kind: flat", r"compare\.settings\.head\.kind: .*found 'flat'"),
        ("head.kind: flatten", "dataset: herd", r"compare\.settings\.dataset: no key of a run that may change"),
        ("  run: actions ", "  run: action ", r"compare\.run: no run 'action'; did you mean 'actions'\?"),
        ("  models:  ", "  model:  ", r"compare\.model: unknown key; did you mean 'models'\?"),
        ("datasets:\n", "datasets: [\n", r"params.yaml: not YAML"),
    ],
)
def test_a_wrong_key_is_named(old: str, new: str, message: str) -> None:
    text = PARAMS.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(InputError, match=message):
        parse_params(text.replace(old, new, 1), PARAMS)


def test_nothing_has_to_be_compared() -> None:
    text = PARAMS.read_text(encoding="utf-8")
    assert parse_params(text[: text.index("compare:\n")], PARAMS).compare is None


def test_all_wrong_keys_are_listed_at_once() -> None:
    text = re.sub("^    epochs: ", "    epoch: ", PARAMS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    with pytest.raises(InputError) as error:
        parse_params(text, PARAMS)
    assert str(error.value).count("unknown key") == 4


@pytest.mark.parametrize(("kind", "name", "near"), [("run", "hurd", "herd"), ("dataset", "posse", "pose")])
def test_an_unknown_name_is_answered_with_the_nearest(kind: str, name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"no {kind} '{name}'.*did you mean '{near}'"):
        getattr(read_params(PARAMS), kind)(name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        read_params(tmp_path / "nowhere.yaml")
