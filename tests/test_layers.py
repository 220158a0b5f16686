"""Label layers: their file, and what `ingest` makes of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_sample import objects

from pipeline.core.errors import InputError
from pipeline.core.layer import Statement, is_of, look_of, pixels_of, read_layer, write_layer

words = st.text(max_size=5)
hexes = st.integers(0, 2**64).map("{:x}".format)
statements = st.builds(
    Statement,
    id=st.text(min_size=1, max_size=5),
    pixels=hexes,
    look=hexes,
    state=st.just("labelled"),
    against=hexes,
    by=words,
    shown=words,
    seconds=st.none() | st.floats(0, 1e4),
    label=st.none() | st.text(min_size=1, max_size=5),
    objects=st.lists(objects, max_size=2),
)


@given(st.lists(statements, max_size=3, unique_by=lambda s: s.id))
def test_what_is_stated_is_read_again(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("layers") / "a.jsonl"
    write_layer(path, rows)
    assert read_layer(path) == sorted(rows, key=lambda s: s.id)


GOOD = Statement("a", "ab", "0f", "empty", "cd", "ann").to_json()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([1], "expected a JSON object"),
        (GOOD | {"state": "done"}, "state 'done'; expected one of labelled, empty"),
        (GOOD | {"label": "cow"}, "a label or objects on an image that is empty"),
        (GOOD | {"colour": "red"}, "unknown key 'colour'"),
        (GOOD | {"look": "zz"}, "not a statement"),
        ({"id": "a", "state": "empty"}, "not a statement"),
        (GOOD, "a second statement about 'a'"),
    ],
)
def test_a_line_that_is_no_statement_is_named(line, said, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(line)}\n")
    with pytest.raises(InputError, match=r"a\.jsonl:2: ") as error:
        read_layer(path)
    assert said in str(error.value)


def test_an_image_is_known_again_when_it_was_scaled_and_saved(tmp_path):
    image = Image.effect_mandelbrot((240, 180), (-2, -1, 1, 1), 40).convert("RGB")
    image.resize((120, 90), Image.Resampling.LANCZOS).save(tmp_path / "small.jpg", quality=80)
    statement = Statement("a", pixels_of(image), look_of(image), "empty", "", "ann")
    with Image.open(tmp_path / "small.jpg") as small:
        assert is_of(statement, small)
    assert not is_of(statement, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
