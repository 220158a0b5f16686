"""What a mistake or misfortune looks like: one line on stderr, an exit code, and a log of what nobody foresaw."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from pipeline.core import boundary
from pipeline.core.boundary import LOG, exit_code, known, logged_failure, of_the_machine
from pipeline.core.errors import InputError
from pipeline.core.files import naming, new_folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a folder of images of its owner's."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "weights", tmp_path / "weights")
    for label in ("cat", "dog"):
        (tmp_path / "data/mine" / label).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "data/mine" / label / "a.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(
    cwd: Path, *arguments: str, before: tuple[str, ...] = (), **more: object
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    line = [*before, sys.executable, *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, text=True, check=False, **pipes)


def fail(error: BaseException) -> None:
    raise error


def said(capsys: pytest.CaptureFixture[str], error: BaseException) -> tuple[int, str]:
    code = exit_code(lambda: fail(error))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    return code, shown.err[:-1]


def test_what_nobody_foresaw_is_one_line_with_the_log_of_its_traceback(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = said(capsys, KeyError("two\nlines"))
    assert (code, line) == (1, f"error: KeyError: 'two\\nlines'; the traceback is in {project / LOG}")
    said(capsys, TypeError("at //me:secret@db\nagain"))
    log = (project / LOG).read_text()
    assert [log.count(f"in fail\n    raise error\n{kind}Error") for kind in ("Key", "Type")] == [1, 1]
    assert "secret" not in log + line


def test_a_right_that_no_file_lacks_is_logged(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of a socket: there is nothing to be made writable."""
    _, line = said(capsys, PermissionError(13, "Permission denied"))
    assert line.endswith(f"Permission denied; the traceback is in {project / LOG}")


def test_a_log_does_not_grow_without_bound(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundary, "LARGEST_LOG", 1000)
    for _ in range(50):
        said(capsys, KeyError("cow"))
    assert (project / LOG).stat().st_size < 10_000


def test_a_log_that_the_project_does_not_take_is_in_the_temp_folder(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / LOG).mkdir()
    (project / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(project / "temp"))
    _, line = said(capsys, KeyError("cow"))
    (log,) = (project / "temp").iterdir()
    assert line.endswith(f"the traceback is in {log}")
    assert "KeyError: 'cow'" in log.read_text()


def test_the_last_error_of_a_stage_is_in_the_log(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert logged_failure(project, "train", "herd") is None
    errors: list[tuple[str, BaseException]] = [
        ("train.py herd", InputError("first\nand more")),
        ("train.py herd", InputError("a.jpg: broken\nb.jpg: broken")),
        ("train.py herd2", InputError("another run")),
        ("verify.py herd", chained()),
        ("inspect.py", OSError(28, "No space left on device", "reports/inspect")),
    ]
    for words, error in errors:
        monkeypatch.setattr("sys.argv", f"/my farm/stages/{words}".rsplit(" ", words.count(" ")))
        exit_code(lambda error=error: fail(error), logged=True)  # type: ignore[misc]
    found = {s: logged_failure(project, *s) for s in (("train", "herd"), ("verify", "herd"), ("inspect", ""))}
    assert {s: f and f[1] for s, f in found.items()} == {
        ("train", "herd"): "a.jpg: broken",
        ("verify", "herd"): "RuntimeError: cow",
        ("inspect", ""): "reports/inspect: No space left on device; make room on the disk",
    }
    assert all(f and abs(f[0] - time.time()) < 100 for f in found.values())
    assert logged_failure(project, "export", "herd") is None
    exit_code(lambda: fail(InputError("of a command")))
    assert "of a command" not in (project / LOG).read_text()


def chained() -> BaseException:
    """Whose traceback has blank lines."""
    error = RuntimeError("cow")
    error.__cause__ = KeyError("cow")
    return error


def test_a_folder_that_is_no_project_gets_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_code(lambda: fail(KeyError("cow"))) == 1
    assert list((tmp_path / "photos").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.jpg: no such file"), 1, "error: a.jpg: no such file"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            OSError(28, "No space left on device", "models/r"),
            1,
            "error: models/r: No space left on device; make",
        ),
        (
            OSError(30, "Read-only file system", "a"),
            1,
            "error: a: Read-only file system; its disk is",
        ),
        (
            PermissionError(13, "Permission denied", b"a"),
            1,
            "error: a: Permission denied; make it and its",
        ),
        (RuntimeError("I/O error: (os error 28)"), 1, "error: I/O error: (os error 28); make room on the disk"),
        (MemoryError(), 1, "error: out of memory; make memory free: end other programs"),
    ],
)
def test_what_is_known_says_what_to_do_and_leaves_no_log(
    project: Path, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    found = said(capsys, error)
    assert found[0] == code
    assert found[1].startswith(line)
    assert not (project / LOG).exists()


@pytest.mark.parametrize("arguments", [("pipeline.cli", "params"), ("pipeline.cli", "trace", "x"), ("stages.params",)])
def test_a_folder_that_was_deleted_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = python(gone, "-m", *arguments, before=("sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh"))
    said = "error: the folder that this was started in: No such file or directory; change into the project's\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EFBIG])
def test_of_a_copy_the_file_that_lacks_the_room_is_named(error: int) -> None:
    assert known(OSError(error, "no", "models/herd", None, "mlartifacts/herd")).startswith(
        "mlartifacts/herd: no; make "
    )


def test_of_a_copy_the_file_that_cannot_be_read_is_named() -> None:
    assert known(OSError(errno.EACCES, "no", "models/herd", None, "mlartifacts/herd")).startswith("models/herd: no; ")


def test_of_many_processes_one_speaks_but_each_says_what_nobody_foresaw(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(lambda: fail(InputError("no images")), speaks=False) == 1
    assert exit_code(lambda: fail(KeyboardInterrupt()), speaks=False) == 130
    assert capsys.readouterr().err == ""
    assert exit_code(lambda: fail(KeyError("cow")), speaks=False) == 1
    assert capsys.readouterr().err.startswith("error: KeyError: 'cow'; ")


def test_nobody_who_reads_is_no_error(project: Path) -> None:
    """As with `| head`: more than a pipe holds, of which nobody reads a byte."""
    read, write = os.pipe()
    os.close(read)
    done = python(project, "-m", "pipeline.cli", "params", "--json", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    assert not (project / LOG).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_stdout_is_said(project: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = python(project, "-m", "pipeline.cli", "params", stdout=full)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device; make room on the disk\n")


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed_are_no_error(project: Path, closed: tuple[int, ...]) -> None:
    """What is written goes nowhere, and not into a file that got the number of a stream."""
    redirections = " ".join(f"{number}>&-" for number in closed)
    done = python(project, "-m", "stages.params", before=("sh", "-c", f'exec "$@" {redirections}', "sh"))
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout == ("" if 1 in closed else "resolved.yaml: 4 datasets, 4 runs\n")
    assert (project / "resolved.yaml").read_bytes() == (ROOT / "resolved.yaml").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-m", "stages.params"), "resolved.yaml"),
        (
            ("-m", "pipeline.cli", "add", "mine", "--data", "data/mine", "--task", "classify", "--from-scratch"),
            "params.yaml",
        ),
    ],
)
def test_a_read_only_project_is_one_line(
    project: Path, bound: tuple[str, ...], arguments: tuple[str, ...], named: str
) -> None:
    before = sorted(project.rglob("*"))
    project.chmod(0o555)
    try:
        done = python(project, *arguments, before=bound)
    finally:
        project.chmod(0o755)
    advice = "Permission denied; make it and its folder readable and writable"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {named}: {advice}\n"
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried 64 bytes"), "end other"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "smaller batches"),
        (RuntimeError("unable to write to file </torch_12_34>: No space left on device (28)"), "/dev/shm"),
    ],
)
def test_what_torch_says_of_memory_has_advice(error: Exception, advice: str) -> None:
    assert advice in known(error)
    with pytest.raises(type(error)) as raised, naming("models/herd"):
        raise error
    assert raised.value is error


def test_a_right_that_is_no_files_gets_no_file() -> None:
    with pytest.raises(PermissionError) as raised, naming("exports/herd"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert raised.value.filename is None


def test_a_read_only_project_has_the_log_elsewhere(project: Path, bound: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "temp").mkdir()
    script = "from pipeline.core.boundary import exit_code; import sys; sys.exit(exit_code(lambda: {}['cow']))"
    project.chmod(0o555)
    try:
        done = python(project, "-c", script, before=("env", f"TMPDIR={tmp_path / 'temp'}", *bound))
    finally:
        project.chmod(0o755)
    (log,) = (tmp_path / "temp").iterdir()
    assert done.stderr == f"error: KeyError: 'cow'; the traceback is in {log}\n"


def test_a_folder_that_cannot_be_made_is_named_by_its_own_name(tmp_path: Path, bound: tuple[str, ...]) -> None:
    script = f"from pipeline.core.files import new_folder\nwith new_folder({str(tmp_path / 'herd')!r}): pass"
    tmp_path.chmod(0o555)
    try:
        done = python(ROOT, "-c", script, before=bound)
    finally:
        tmp_path.chmod(0o755)
    assert done.stderr.splitlines()[-1] == f"PermissionError: [Errno 13] Permission denied: '{tmp_path / 'herd'}'"


def test_a_write_that_fails_names_its_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="models") as raised, new_folder(tmp_path / "models"):
        raise OSError(28, "No space left on device")
    assert raised.value.filename == str(tmp_path / "models")
    with pytest.raises(InputError, match=r"models: Error: \(os error 28\); make room"), new_folder(tmp_path / "models"):
        raise RuntimeError("Error: (os error 28)")


NO_FILES = """
import resource, sys
from pathlib import Path
from pipeline.core.image_file import decode_image, upright_size
from pipeline.datasets.video import frame_rate
read = {"decode": decode_image, "size": upright_size, "clip": frame_rate}[sys.argv[1]]
read(sys.argv[2])  # imports what it needs
held, (_, most) = [], resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (60, most))
try:
    while True:
        held.append(open("/dev/null"))
except OSError:
    pass
try:
    read(sys.argv[2])
except OSError as error:
    del held
    print(type(error).__name__, error.errno)
"""


@pytest.mark.parametrize("how", ["decode", "size", "clip"])
def test_too_many_open_files_spoil_no_image_and_no_clip(tmp_path: Path, how: str) -> None:
    """Or ingest would leave good ones out."""
    file = tmp_path / ("a.avi" if how == "clip" else "a.png")
    if how == "clip":
        with av.open(str(file), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode(None)])
    else:
        Image.new("RGB", (64, 48)).save(file)
    command = [sys.executable, "-c", NO_FILES, how, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["OSError", str(errno.EMFILE)], done.stderr


NO_MEMORY = """
import resource, sys
from pipeline.core.image_file import decode_image
from pipeline.datasets.video import frames
read = {"image": decode_image, "clip": lambda file: list(frames(file, 1))}[sys.argv[1]]
read(sys.argv[3])  # imports what it needs
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000, resource.getrlimit(resource.RLIMIT_AS)[1]))
try:
    read(sys.argv[2])
except BaseException as error:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(isinstance(error, MemoryError) or getattr(error, "errno", None) == 12, repr(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
@pytest.mark.parametrize("how", ["image", "clip"])
def test_too_little_memory_spoils_no_image_and_no_clip(tmp_path: Path, how: str) -> None:
    """Of what is to be read one is small, and read before memory is short."""
    for name, size in (("large", (6400, 6400)), ("small", (64, 48))):
        if how == "image":
            Image.new("RGB", size).save(tmp_path / name, "PNG", compress_level=1)
        else:
            with av.open(str(tmp_path / name), "w", format="avi") as container:
                stream = container.add_stream("mpeg4", rate=25)
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                frame = av.VideoFrame.from_ndarray(np.zeros((*size[::-1], 3), np.uint8), format="rgb24")
                container.mux([*stream.encode(frame), *stream.encode(None)])
    command = [sys.executable, "-c", NO_MEMORY, how, str(tmp_path / "large"), str(tmp_path / "small")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split()[:1] == ["True"], done.stdout + done.stderr


def test_a_file_that_asks_for_more_memory_than_any_needs_is_spoilt() -> None:
    assert not of_the_machine(MemoryError())
    assert not of_the_machine(OSError(errno.ENOMEM, "Cannot allocate memory"))
