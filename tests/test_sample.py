"""The one form of data and its file."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import InputError
from pipeline.core.sample import (
    Dataset,
    Landmark,
    Object,
    Sample,
    read_dataset,
    read_samples,
    write_dataset,
    write_samples,
)

share = st.floats(0, 1)
landmarks = st.lists(st.builds(Landmark, share, share, st.sampled_from([0, 1, 2])), max_size=3)
objects = st.builds(
    Object, st.text(max_size=5), st.tuples(share, share, share, share), landmarks, st.booleans(), st.none() | share
)
samples = st.builds(
    Sample,
    id=st.text(min_size=1, max_size=8),
    file_name=st.text(min_size=1, max_size=8),
    width=st.integers(1, 9999),
    height=st.integers(1, 9999),
    split=st.none() | st.sampled_from(["train", "val", "test"]),
    group=st.none() | st.text(max_size=5),
    label=st.none() | st.text(max_size=5),
    scores=st.none() | st.dictionaries(st.text(max_size=3), share, max_size=2),
    objects=st.lists(objects, max_size=3),
)


@given(st.lists(samples, max_size=4))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[Sample]) -> None:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, rows)
    assert read_samples(folder) == rows


def test_file_name_comes_first_as_imagefolder_wants_it(tmp_path: Path) -> None:
    write_samples(tmp_path, [Sample("a", "a.jpg", 4, 3, label="cat")])
    row = json.loads((tmp_path / "metadata.jsonl").read_text())
    assert next(iter(row)) == "file_name"
    assert "split" not in row


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.jpg", "id": "a", "width": 1, "height": 1}\n{"id": "b"}\n'
    )
    with pytest.raises(InputError, match=r"metadata\.jsonl:2: not a sample"):
        read_samples(tmp_path)


GOOD = b'{"file_name": "a.jpg", "id": "a", "width": 1, "height": 1}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1, 2]", r"metadata\.jsonl:2: not a sample: .*found \[1, 2\], expected a JSON object"),
        (b"7", r"metadata\.jsonl:2: not a sample: .*found 7, expected a JSON object"),
        (b"null", r"metadata\.jsonl:2: not a sample: .*found None"),
        (GOOD[:-1] + b', "objects": ["cow"]}', r"a sample: objects\[0\]: found 'cow', expected an object with"),
        (GOOD[:-1] + b', "objects": {"cow": 1}}', r"jsonl:2: not a sample: objects: found {'cow': 1}, expected a list"),
        (GOOD[:-1] + b', "objects": {}}', r"jsonl:2: not a sample: objects: found {}, expected a list"),
        (b'{"file_name": "a.jpg"}', r"jsonl:2: not a sample: no id, width, height; expected file_name, id, width, h"),
        (GOOD[:-1] + b', "colour": 1}', r"jsonl:2: not a sample: unknown key 'colour'; expected some of id, file_name"),
        (GOOD[:-1] + b', "objects": [{"box": 1}]}', r"jsonl:2: not a sample: objects\[0\]: no label; expected label"),
        (
            GOOD[:-1] + b', "objects": [{"label": "cow", "box": [0, 0, 1, 1, 1]}]}',
            r"sample: objects\[0\]: box: found \[0, 0, 1, 1, 1\], expected \[x, y, w, h\]",
        ),
        (
            GOOD[:-1] + b', "objects": [{"label": "cow", "box": [0, 0, 1, 1], "landmarks": [[0, 0]]}]}',
            r"jsonl:2: not a sample: objects\[0\]: landmarks: found \[\[0, 0\]\], expected a list of",
        ),
        (GOOD.replace(b'"a"', b'"\xe9"'), r"metadata\.jsonl:2: not UTF-8 text \(byte 30 of the line\)"),
    ],
)
def test_a_line_that_is_no_sample_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "metadata.jsonl").write_bytes(GOOD + b"\n" + line + b"\n")
    with pytest.raises(InputError, match=message):
        read_samples(tmp_path)


NAN = float("nan")


@pytest.mark.parametrize(
    "bad",
    [
        Sample("b", "b.jpg", 1, 1, scores={"cow": NAN}),
        Sample("b", "b.jpg", 1, 1, objects=[Object("cow", (0, 0, NAN, 1))]),
        Sample("b", "b.jpg", 1, 1, objects=[Object("cow", (0, 0, 1, 1), [Landmark(float("inf"), 0)])]),
    ],
)
def test_a_sample_with_a_number_that_json_has_not_is_named(tmp_path: Path, bad: Sample) -> None:
    with pytest.raises(InputError, match=r"metadata\.jsonl:2: sample 'b': expected finite numbers"):
        write_samples(tmp_path, [Sample("a", "a.jpg", 1, 1), bad])
    assert not list(tmp_path.iterdir())


def test_dataset_round_trip(tmp_path: Path) -> None:
    dataset = Dataset("d", ["a"], ["left_eye", "right_eye"], [(0, 1)], [(0, 1)], {"format": "coco"}, {"train": 3})
    write_dataset(tmp_path, dataset)
    assert read_dataset(tmp_path) == dataset
