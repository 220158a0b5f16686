"""A file is finished or not there."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import sole as sole_module
from pipeline.core.boundary import known
from pipeline.core.errors import InputError
from pipeline.core.files import new_file, new_folder, read_json, write_json, write_text
from pipeline.core.links import link_or_copy
from pipeline.core.spec import ModelSpec, read_spec, write_spec


def test_an_error_leaves_the_old_folder_and_no_rest(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_new_folder_takes_the_old_ones_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with new_folder(tmp_path / "out") as folder:
            (folder / name).touch()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b"]


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(("content", "message"), [(b"{\n]", "a.json:2: not JSON"), (b"\xff\xfe{", "not UTF-8")])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "a.json")


def test_a_folder_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder; expected a file"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "96"}, "size: Input should be a valid integer"),
        ({"mean": [0.5, None, 0.5]}, r"mean\.1: Input should be a valid number"),
        ({"labels": "cow"}, "labels: Input should be a valid array"),
        ({"run": None}, "run: Input should be a valid string"),
        ({"colour": 1}, "colour: Unexpected keyword argument"),
    ],
)
def test_a_card_of_another_form_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    known = ModelSpec(
        *("r", "d", "classify", ["cow", "dog"], ["nose"], [(0, 0)], [], "mobilenetv2_050", {"kind": "pool"}),
        *(96, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    )
    write_spec(tmp_path / "model.json", known)
    assert read_spec(tmp_path / "model.json") == known
    written = read_json(tmp_path / "model.json")
    write_json(tmp_path / "model.json", written | change)
    with pytest.raises(InputError, match=r"model\.json: not as it was written; `dvc checkout` brings back"):
        read_spec(tmp_path / "model.json")
    del written["sha256"]
    write_json(tmp_path / "model.json", written | change)
    with pytest.raises(InputError, match=rf"model\.json: not a model\.json of this version: {message}"):
        read_spec(tmp_path / "model.json")
    write_json(tmp_path / "model.json", written)
    assert read_spec(tmp_path / "model.json") == known


@pytest.mark.parametrize("content", [[1, 2], None, "model"])
def test_a_card_that_is_no_object_is_named(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "model.json", content)
    with pytest.raises(InputError, match=r"model\.json: found \w+; expected an object"):
        read_spec(tmp_path / "model.json")


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "ü" * 125 + ".png"])
def test_a_file_may_have_the_longest_name_there_is(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "cow")
    with new_folder(tmp_path / "folder" / name) as folder:
        write_text(folder / "a", "cow")
    assert (tmp_path / name).read_text() == (tmp_path / "folder" / name / "a").read_text() == "cow"
    assert [p.name for p in (tmp_path / "folder").iterdir()] == [name]


def test_a_name_that_is_not_utf_8_survives_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xff.jpg")
    write_json(tmp_path / "a.json", {"file": name})
    assert (tmp_path / "a.json").read_bytes().isascii()
    assert read_json(tmp_path / "a.json") == {"file": name}


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    """Whenever it was killed: while it wrote, or while it put the new folder in the old one's place."""
    for left in (".out.unfinished", ".out.replaced"):
        (tmp_path / left / "deep").mkdir(parents=True)
        (tmp_path / left / "deep" / "rest").touch()
    with new_folder(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_made_by_one_at_a_time(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
        with pytest.raises(InputError, match="out: another process is making it"), new_folder(tmp_path / "out"):
            pass
        assert (folder / "a").exists()
    with new_folder(tmp_path / "out") as folder:
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_link_in_the_folders_place_stays_and_the_folder_is_made_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("disk/herd")
    for name in ("old", "new"):
        with new_folder(tmp_path / "out") as folder:
            (folder / name).touch()
        assert (tmp_path / "out").is_symlink()
        assert [p.relative_to(tmp_path).as_posix() for p in (tmp_path / "disk").rglob("*")] == [
            "disk/herd",
            f"disk/herd/{name}",
        ]


def test_the_old_folder_is_put_back_when_the_new_one_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "out/a", "old")

    def fail(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))

    monkeypatch.setattr(sole_module, "exchanged", lambda a, b: False)  # a file system that cannot
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"), new_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
    assert [(p.name, (p / "a").read_text()) for p in tmp_path.iterdir()] == [("out", "old")]


def test_what_a_killed_run_has_put_aside_comes_back_if_the_next_one_fails(tmp_path: Path) -> None:
    write_text(tmp_path / ".out.replaced/a", "old")
    with pytest.raises(KeyError), new_folder(tmp_path / "out"):
        raise KeyError
    assert [(p.name, (p / "a").read_text()) for p in tmp_path.iterdir()] == [("out", "old")]


@pytest.mark.parametrize("call", ["os.open", "fcntl.flock"])
def test_a_folder_that_another_process_finishes_now_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """It is renamed before this one opens it, or before this one looks whether it still has its name."""
    module = sole_module.os if call == "os.open" else sole_module.fcntl
    name = call.rpartition(".")[2]
    own = getattr(module, name)

    def late(*arguments: Any, **options: Any) -> Any:
        (tmp_path / ".out.unfinished").rename(tmp_path / "out")
        monkeypatch.undo()
        return own(*arguments, **options)

    monkeypatch.setattr(module, name, late)
    with pytest.raises(InputError, match="out: another process is making it"), new_folder(tmp_path / "out"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("file", "folder"), [(".out.unfinished", "out"), ("note", "note/out"), ("note", "note/a/out")])
def test_a_file_in_the_way_of_a_folder_is_named_and_stays(tmp_path: Path, file: str, folder: str) -> None:
    (tmp_path / file).write_text("mine")
    with (
        pytest.raises(InputError, match=f"{file}: a file, in the way of the folder .*out"),
        new_folder(tmp_path / folder),
    ):
        pass
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(file, "mine")]


def test_a_file_in_the_folders_place_stays(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="out: a file; expected a folder"), new_folder(tmp_path / "out"):
        pass
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out", "mine")]


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.core import files, sole

root, last = Path(sys.argv[1]), 0
if sys.argv[2] == "moved":
    sole.exchanged = lambda a, b: False

def event(name, arguments):
    global last
    if last and name.startswith(("open", "os.", "shutil.", "ctypes.dlsym")):
        last -= 1
        if not last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(event)
for moment in range(1, 100):
    out = root / str(moment) / "out"
    files.write_text(out / "a", "old")
    files.write_text(out / "b", "old")
    child = os.fork()
    if not child:
        last = moment
        with files.new_folder(out) as folder:
            for name in "ab":
                (folder / name).write_text("new")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(moment)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="two names are exchanged at once on Linux only")
@pytest.mark.parametrize("way", ["exchanged", "moved"])
def test_a_folder_that_is_replaced_is_whole_at_every_moment(tmp_path: Path, way: str) -> None:
    """Killed at each thing that is asked of the system; where two names cannot be exchanged, the old one is whole under
    another name at one of them, and comes back.
    """
    command = [sys.executable, "-c", KILLED, str(tmp_path), way]
    made = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    moments = int(made.stdout)
    assert 10 < moments < 99
    seen = set()
    for moment in range(1, moments + 1):
        out = tmp_path / str(moment) / "out"
        if way == "moved" and not out.exists():
            with pytest.raises(KeyError), new_folder(out):
                raise KeyError
        seen.add(tuple((p.name, p.read_text()) for p in sorted(out.iterdir())))
        write_text(out / "c", "a third")
        with new_folder(out) as folder:
            (folder / "d").touch()
        assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert seen == {(("a", "old"), ("b", "old")), (("a", "new"), ("b", "new"))}


def test_a_file_is_written_by_one_process_after_the_other(tmp_path: Path) -> None:
    program = "import sys\nfrom pipeline.core.files import write_text\n"
    program += "for _ in range(100): write_text(sys.argv[1], sys.argv[2] * 100_000)"
    command = [sys.executable, "-c", program, str(tmp_path / "note")]
    writers = [subprocess.Popen([*command, letter], cwd=Path(__file__).parents[1]) for letter in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert (tmp_path / "note").read_text() in {letter * 100_000 for letter in "abc"}
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


def test_a_file_that_another_process_writes_for_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sole_module, "WAIT_S", 0.0)
    with new_file(tmp_path / "note") as place:
        place.write_text("mine")
        with pytest.raises(InputError, match="note: another process is writing it"):
            write_text(tmp_path / "note", "yours")
    assert (tmp_path / "note").read_text() == "mine"


def test_a_hard_link_of_a_link_is_one_of_its_file(tmp_path: Path) -> None:
    write_text(tmp_path / "cache/a", "cow")
    (tmp_path / "a").symlink_to("cache/a")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").is_symlink() and (tmp_path / "b").samefile(tmp_path / "cache/a")


def test_who_looks_whether_a_folder_is_in_use_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `doctor` does; it has its lock for a moment."""
    (tmp_path / ".herd.unfinished").mkdir()
    looks = os.open(tmp_path / ".herd.unfinished", os.O_RDONLY)
    sole_module.fcntl.flock(looks, sole_module.fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda _: sole_module.fcntl.flock(looks, sole_module.fcntl.LOCK_UN))
    with new_folder(tmp_path / "herd") as folder:
        (folder / "a").touch()
    os.close(looks)
    assert (tmp_path / "herd/a").is_file()


@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize(
    "made",
    [
        lambda place: OSError(errno.EFBIG, "File too large", str(place)),
        lambda place: OSError(errno.EFBIG, "File too large", place),
        lambda place: OSError(errno.ENOSPC, "No space left", "elsewhere.jpg", None, str(place)),
        lambda place: PermissionError(errno.EACCES, "Permission denied", os.fsencode(place)),
        lambda place: InputError(f"{place}: not a model"),
        lambda place: RuntimeError(f"write {place}: no space left on device"),
    ],
)
def test_what_goes_wrong_names_what_was_to_be_written_and_no_hidden_name(
    tmp_path: Path, what: str, made: Callable[[Path], Exception]
) -> None:
    path = tmp_path / "herd"
    with pytest.raises((OSError, InputError)) as said, (new_file if what == "file" else new_folder)(path) as place:
        raise made(place if what == "file" else place / "cam" / "1.jpg")
    shown = known(said.value) or str(said.value)
    assert "unfinished" not in shown
    assert str(path if what == "file" else path / "cam" / "1.jpg") in shown
