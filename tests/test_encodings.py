"""Text of UTF-8, and of UTF-16 and UTF-32 with a byte order mark, is read in every format; other text is named."""

import codecs
from pathlib import Path

import pytest
from drawn import coco, draw, read, rows, splits, write

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, read_text
from pipeline.datasets.formats import detect_format

# Python's utf-16 and utf-32 write the mark themselves
ENCODINGS = {
    "UTF-8": "utf-8",
    "UTF-8 with mark": "utf-8-sig",
    "UTF-16": "utf-16",
    "UTF-16 BE": codecs.BOM_UTF16_BE,
    "UTF-32": "utf-32",
    "UTF-32 BE": codecs.BOM_UTF32_BE,
}
WORD = "Fu\u00dfg\u00e4nger"
TRACKS = '{"v_Run_g01_c01": {"tracks": [{"start_frame": 0, "end_frame": 1, "boxes_xywh": [[1, 2, 3, 4]]}]}}'
CLIPS = ["videos/Run/v_Run_g01_c01", "videos/Hop/v_Hop_g01_c01"]
# form -> the text files that are read whole, by name; {word} is not ASCII
TEXTS = {
    "folder": {"train.txt": "{word}/cat/1.jpg\n", "test.txt": "dog/2.jpg\n"},
    "ucf101": {"ucfTrainTestlist/trainlist01.txt": "Run/v_Run_g01_c01.avi 1\n# {word}\n",
               "ucfTrainTestlist/testlist01.txt": "Hop/v_Hop_g01_c01.avi\n"},
    "ucf24": {"boxes.json": TRACKS.replace("{", "{{").replace("}", "}}") + " " * len(WORD)},
    "coco": {"all.json": coco(["1.jpg", "2.jpg"]).replace("{", "{{").replace("}", "}}").replace("cow", "{word}")},
    "yolo": {"data.yaml": "names: ['{word}']\ntrain: train.txt\n", "train.txt": "1.jpg\n{word}.jpg\n"},
    "yolo names": {"classes.txt": "{word}\r\n"},
    "voc": {"ImageSets/Main/train.txt": "1\n{word}\n", "ImageSets/Main/val.txt": "2\n"},
    "landmarks_csv": {"all.csv": "image,{word}_x,{word}_y\n1.jpg,2,3\n2.jpg,4,5\n"},
}  # fmt: skip
ROWS = {"yolo": "0 .5 .5 .2 .2\n", "pts": "version: 1\nn_points: 2\n{\n3 4\n5 6\n}\n"}


def encoded(text: str, encoding: str | bytes) -> bytes:
    if isinstance(encoding, str):
        return text.encode(encoding)
    return encoding + text.encode("utf-16-be" if len(encoding) == 2 else "utf-32-be")


def drawn(case: str, root: Path, encoding: str | bytes) -> tuple[str, Path]:
    """A dataset of a format whose text files are in `encoding`, and the format's name."""
    form = case.partition(" ")[0]
    names = {"folder": [f"{WORD}/cat/1", f"{WORD}/dog/2"], "ucf101": CLIPS, "ucf24": CLIPS}.get(form, ["1", "2"])
    draw("ucf101" if form == "ucf24" else form, root, names)
    if form == "folder":  # the classes are below
        root = draw("folder", root, ["cat/1", "dog/2"])
        for name in names:
            (root / f"{name}.jpg").unlink()
    if case == "yolo":  # it says its names itself
        (root / "classes.txt").unlink()
    for name, text in TEXTS[case].items():
        write(root, name, encoded(text.format(word=WORD), encoding))
    return form, root


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("case", TEXTS)
def test_every_unicode_encoding_reads_alike(tmp_path: Path, case: str, encoding: str | bytes) -> None:
    form, root = drawn(case, tmp_path / "a", encoding)
    _, plain = drawn(case, tmp_path / "b", "utf-8")
    found, expected = (read(form, r, r / "boxes.json" if form == "ucf24" else None) for r in (root, plain))
    assert (found.labels, found.landmarks, splits(found)) == (expected.labels, expected.landmarks, splits(expected))
    assert [c.objects for c in found.candidates] == [c.objects for c in expected.candidates]
    assert rows(found, "bad_text", "not_here") == rows(expected, "bad_text", "not_here")
    if case in ("coco", "yolo", "yolo names"):
        assert found.labels == [WORD]
    if case == "landmarks_csv":
        assert found.landmarks == [WORD]


@pytest.mark.parametrize("case", [case for case in TEXTS if "{word}" in "".join(TEXTS[case].values())])
def test_text_of_a_code_page_is_named_with_its_byte(tmp_path: Path, case: str) -> None:
    form, root = drawn(case, tmp_path, "cp1252")
    name = next(name for name, text in TEXTS[case].items() if "{word}" in text)
    place = TEXTS[case][name].format(word=WORD).index("\u00df")
    with pytest.raises(InputError, match=rf"{name}: not UTF-8 text \(byte {place} is 0xdf\)"):
        read(form, root)


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
def test_a_label_file_of_one_image(tmp_path: Path, form: str, encoding: str | bytes) -> None:
    root = draw(form, tmp_path, ["1", "2"])
    suffix = {"yolo": "txt"}.get(form, form)
    write(root, f"1.{suffix}", encoded(ROWS[form], encoding))
    assert [len(c.objects) for c in read(form, root).candidates] == [1, 1]
    assert detect_format(root)[0] == form


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"0 .5 .5 .2 .2 \xdf\n", "not UTF-8 text (byte 14 is 0xdf)"),
        ("0 .5".encode("utf-16-le"), "not UTF-8 text (byte 1 is zero)"),
        (b"\xff\xfe0", "not UTF-8 text, nor UTF-16 as its first bytes say (byte 2 is 0x30)"),
        (b"0 .5 .5\0\0\0\0", "not UTF-8 text (byte 7 is zero)"),
    ],
)
def test_a_label_file_that_is_no_text_refuses_its_image_alone(
    tmp_path: Path, form: str, content: bytes, found: str
) -> None:
    root = draw(form, tmp_path, ["1", "2"])
    suffix = {"yolo": "txt"}.get(form, form)
    write(root, f"1.{suffix}", content)
    reading = read(form, root)
    assert [c.name for c in reading.candidates] == ["2.jpg"]
    (problem,) = [p for p in reading.problems if p.rule == "bad_text"]
    assert (problem.found, problem.done) == (found, "refused")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_xml_declares_its_encoding(tmp_path: Path, encoding: str) -> None:
    root = draw("voc", tmp_path, ["1"])
    xml = (root / "1.xml").read_text().replace("cow", WORD)
    write(root, "1.xml", f'<?xml version="1.0" encoding="{encoding}"?>{xml}'.encode(encoding))
    assert read("voc", root).labels == [WORD]
    assert detect_format(root)[0] == "voc"


@pytest.mark.parametrize("encoding", ["no-such", "gbk", "utf-7"])
def test_xml_of_an_encoding_that_cannot_be_read_is_a_row(tmp_path: Path, encoding: str) -> None:
    root = draw("voc", tmp_path, ["1", "2"])
    write(root, "1.xml", f'<?xml version="1.0" encoding="{encoding}"?>{(root / "1.xml").read_text()}')
    reading = read("voc", root)
    assert [file for file, _ in rows(reading, "bad_xml")] == ["1.xml"]
    assert [c.name for c in reading.candidates] == ["2.jpg"]


@pytest.mark.parametrize(
    "content", [b"{\xff", b"[" * 100_000, b"1" * 5000, b'{"a": 1, \xff', b"\xef\xbb\xbf{\n]", "{".encode("utf-16-be")]
)
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "a.json", content)
    with pytest.raises(InputError, match=r"^[^:]*a\.json(:\d+)?: not (JSON|UTF-8)[^/]*$"):
        read_json(tmp_path / "a.json")


def test_the_byte_counts_from_the_mark(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", codecs.BOM_UTF8 + b"ab\xff")
    with pytest.raises(InputError, match=r"a\.txt: not UTF-8 text \(byte 5 is 0xff\)"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(InputError, match="no such file"):
        read_text(tmp_path / "b.txt")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_line_reads_alike(tmp_path: Path, end: str) -> None:
    texts = {
        "yolo": {"classes.txt": "cow\ndog\n", "1.txt": "0 .5 .5 .2 .2\n1 .5 .5 .1 .1\n", "train.txt": "1.jpg\n2.jpg\n"},
        "pts": {"1.pts": ROWS["pts"]},
        "landmarks_csv": {"all.csv": "image,a_x,a_y\n1.jpg,2,3\n2.jpg,4,5\n"},
        "voc": {"train.txt": "1.jpg\n2.jpg\n"},
    }
    for form, files in texts.items():
        root = draw(form, tmp_path / form, ["1", "2"])
        for name, text in files.items():
            write(root, name, text.replace("\n", end))
        reading = read(form, root)
        assert len(reading.candidates) == 2
        assert splits(reading)["1"] == ("train" if "train.txt" in files else None)
        assert len(reading.candidates[0].objects) == (2 if form == "yolo" else 1)
        assert [p.rule for p in reading.problems] == []
