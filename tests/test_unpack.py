"""Archives: nothing leads out of the folder, what is broken is said, and RAR needs a program."""

import shutil
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from pipeline.core.errors import InputError
from pipeline.datasets.public import unpack as code
from pipeline.datasets.public.unpack import members, unpack
from tests.archives import headed, rarred, tarred, with_flags, zipped

FILES = {"set/a/1.jpg": b"one" * 1000, "set/b/2.jpg": b"two" * 1000, "set/list.txt": b"1 2"}
RAR_PROGRAM = next((name for name in code.RAR_PROGRAMS if shutil.which(name)), None)
needs_rar = pytest.mark.skipif(RAR_PROGRAM is None, reason=f"none of {', '.join(code.RAR_PROGRAMS)} is on PATH")
MAKES = {
    "a.zip": zipped,
    "a.tar.gz": tarred,
    "a.tar": lambda path, files: tarred(path, files, mode="w"),
    "plain.tar.gz": lambda path, files: tarred(path, files, mode="w"),  # as UCF101's subset is
    "a.tar.xz": lambda path, files: tarred(path, files, mode="w:xz"),
    "a.rar": rarred,
}
EACH = [pytest.param(name, marks=needs_rar if name.endswith("rar") else ()) for name in MAKES]


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", EACH)
def test_files_go_where_they_are_told(tmp_path, name):
    archive = MAKES[name](tmp_path / name, FILES)
    assert members(archive) == sorted(FILES)
    for folder, place, expected in (
        ("all", lambda name: name, FILES),
        ("some", lambda name: f"x/{name[-5:]}" if name.endswith("jpg") else None, {
            "x/1.jpg": FILES["set/a/1.jpg"], "x/2.jpg": FILES["set/b/2.jpg"]}),
    ):  # fmt: skip
        (tmp_path / folder).mkdir()
        unpack(archive, tmp_path / folder, place)
        assert files_in(tmp_path / folder) == expected


@pytest.mark.parametrize("name", EACH)
def test_names_are_neither_options_nor_patterns(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "prog"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    program.chmod(0o755)
    names = [f"--use-compress-program={program}", f"--use-compress-program={program} a.jpg", "-P", "@list", "[*?", "*"]
    archive = MAKES[name](tmp_path / name, {one: one.encode() for one in names})
    for number, wanted in enumerate(names):
        (tmp_path / f"{number}").mkdir()
        unpack(archive, tmp_path / f"{number}", lambda name, wanted=wanted: name if name == wanted else None)
        assert files_in(tmp_path / f"{number}") == {wanted: wanted.encode()}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", EACH)
def test_two_files_for_one_place_are_refused(tmp_path, name):
    archive = MAKES[name](tmp_path / name, {"a/1.jpg": b"one", "b/1.jpg": b"two"})
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"a/1\.jpg and b/1\.jpg would both become x/1\.jpg"):
        unpack(archive, tmp_path / "in", lambda name: f"x/{name[-5:]}")


@needs_rar
def test_so_is_a_name_that_an_archive_has_twice(tmp_path):
    (tmp_path / "in").mkdir()
    for archive in (
        rarred(tmp_path / "a.rar", {"1.jpg": b"one", "./1.jpg": b"two"}),
        tarred(tmp_path / "a.tar", {"1.jpg": b"one", "./1.jpg": b"two"}),
        zipped(tmp_path / "a.zip", {"1.jpg": b"one", "./1.jpg": b"two"}),
    ):
        with pytest.raises(InputError, match=r"1\.jpg and (\./)?1\.jpg would both become (\./)?1\.jpg"):
            unpack(archive, tmp_path / "in", lambda name: name)


@needs_rar
def test_a_link_in_a_rar_archive_is_refused_wherever_it_is(tmp_path):
    archive = rarred(tmp_path / "a.rar", {**FILES, "set/link": b"../../secret"}, links=("set/link",))
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"set/link: a link; expected files only"):
        unpack(archive, tmp_path / "in", lambda name: None if "link" in name else name)
    assert files_in(tmp_path / "in") == {}


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("path", ["../out.jpg", "set/../../out.jpg", "/tmp/out.jpg"])
def test_a_path_that_leads_out_is_refused(tmp_path, name, path):
    (tmp_path / "in").mkdir()
    archive = MAKES[name](tmp_path / name, {**FILES, path: b"gotcha"})
    with pytest.raises(InputError, match=r"out\.jpg: leads out of the folder"):
        unpack(archive, tmp_path / "in", lambda name: name)
    assert not list(tmp_path.rglob("out.jpg"))


@pytest.mark.parametrize("where", ["backslash", "drive"])
def test_so_is_one_of_windows(tmp_path, where):
    (tmp_path / "in").mkdir()
    name = {"backslash": "set\\..\\..\\out.jpg", "drive": "C:/out.jpg"}[where]
    with pytest.raises(InputError, match="leads out of the folder"):
        unpack(tarred(tmp_path / "a.tar", {name: b"gotcha"}), tmp_path / "in", lambda name: name)


def test_links_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    for archive in (
        tarred(tmp_path / "a.tar.gz", FILES, {"set/link.jpg": "../../secret"}),
        zipped(tmp_path / "a.zip", {**FILES, "set/link.jpg": b"../../secret"}, links=("set/link.jpg",)),
    ):
        with pytest.raises(InputError, match=r"set/link\.jpg: a link.*; expected files only"):
            unpack(archive, tmp_path / "in", lambda name: name)
        unpack(archive, tmp_path / "in", lambda name: None if "link" in name else name)
        assert files_in(tmp_path / "in") == FILES


@pytest.mark.parametrize("name", [name for name in MAKES if name != "a.rar"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_half_an_archive_is_said_and_removed(tmp_path, name, share):
    archive = MAKES[name](tmp_path / name, {**FILES, "set/3.jpg": bytes(i * i % 251 for i in range(40_000))})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"not a whole tar, zip or RAR archive .* kept as .*\.refused"):
        unpack(archive, tmp_path / "in", lambda name: name)
    assert not archive.exists()
    assert len(list(tmp_path.glob("*.refused"))) == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"flags": 1}, r"1\.jpg: is encrypted; expected an archive without a password"),
        (
            {"method": 9},
            r"cannot be unpacked here \(.*compression.*\); the archive is kept",
        ),  # Deflate64, as Windows writes large ones
    ],
)
def test_a_sound_archive_that_cannot_be_read_is_kept(tmp_path, how, said):
    archive = with_flags(zipped(tmp_path / "a.zip", FILES), **how)
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=said):
        unpack(archive, tmp_path / "in", lambda name: name)
    assert archive.exists()
    assert files_in(tmp_path / "in") == {}


@pytest.mark.parametrize("how", [{"flags": 0x80}, {"file_flags": 0x04}])  # the list of files, or their bytes
def test_an_encrypted_rar_is_kept(tmp_path, how):
    archive = rarred(tmp_path / "a.rar", FILES, **how)
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="encrypted; expected an archive without a password"):
        unpack(archive, tmp_path / "in", lambda name: name)
    assert archive.exists()


def test_a_changed_byte_is_said(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"a.bin": bytes(i * i % 251 for i in range(40_000))})
    content = bytearray(archive.read_bytes())
    content[300] ^= 1
    archive.write_bytes(content)
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="not a whole"):
        unpack(archive, tmp_path / "in", lambda name: name)


def test_a_page_of_html_is_no_archive(tmp_path):
    page = tmp_path / "a.zip"
    page.write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(
        InputError,
        match=r"a\.zip: not a whole .*; it began with b'<!DOCTYPE html><titl' and is kept as a\.zip\.refused",
    ):
        members(page)


def test_what_does_not_fit_on_the_disk_is_said_before(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2000))
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"a\.tar\.gz: 0 MB more are needed on the disk of .*in, 0 MB are free"):
        unpack(tarred(tmp_path / "a.tar.gz", FILES), tmp_path / "in", lambda name: name)
    assert files_in(tmp_path / "in") == {}


def pax(**fields: str) -> tuple[bytes, int, bytes]:
    text = "".join(
        f"{len(line) + 5:04} {line}" for key, value in fields.items() for line in [f"{key.replace('_', '.')}={value}\n"]
    )
    return tarfile.XHDTYPE, len(text), text.encode()


LONG = 3 << 20
HOLES = pax(GNU_sparse_major="1", GNU_sparse_minor="0")
BAD_HEADERS = {
    "name": (
        [(tarfile.GNUTYPE_LONGNAME, LONG, b"a" * LONG)],
        r"a header of 3,145,728 bytes, .*expected at most 262,144",
    ),
    "link": ([(tarfile.GNUTYPE_LONGLINK, LONG, bytes(LONG))], "a header of 3,145,728 bytes"),
    "attributes": ([(tarfile.XHDTYPE, LONG, bytes(LONG))], "a header of 3,145,728 bytes"),
    "of all files": ([(tarfile.XGLTYPE, LONG, bytes(LONG))], "a header of 3,145,728 bytes"),
    "claimed": ([(tarfile.GNUTYPE_LONGNAME, 1 << 60, b"a")], "a header of 1,152,921,504,606,846,976 bytes"),
    "negative": ([(tarfile.GNUTYPE_LONGNAME, -512, b"a")], "a header of -512 bytes"),
    "holes": ([(tarfile.GNUTYPE_SPARSE, 0, b"")], r"1\.jpg: a file with holes; expected files as they are"),
    "list of holes": ([HOLES, (tarfile.REGTYPE, LONG, b"0\n" * (LONG // 2))], r"1\.jpg: a file with holes"),
}


@pytest.mark.parametrize("what", BAD_HEADERS)
@pytest.mark.parametrize("later", [False, True])
def test_what_is_no_header_by_its_length_is_not_read(tmp_path, what, later):
    headers, said = BAD_HEADERS[what]
    archive = headed(tmp_path / "a.tar.gz", *[(tarfile.REGTYPE, 0, b"")] * later, *headers)
    tracemalloc.start()
    try:
        for read in (members, lambda archive: unpack(archive, tmp_path, lambda _: None)):
            with pytest.raises(InputError, match=said):
                read(archive)
        assert tracemalloc.get_traced_memory()[1] < LONG
    finally:
        tracemalloc.stop()
    assert archive.exists()


NONE = {  # on some versions of Python the first one is read for ever
    "negative": [pax(size="-1024")],
    "beyond": [pax(size="9" * 30), (tarfile.REGTYPE, 0, b"")],
    "no number": [pax(GNU_sparse_map="a,b", GNU_sparse_size="9")],
    "in each other": [(tarfile.GNUTYPE_LONGNAME, 2, b"a")] * 2000,
}


@pytest.mark.parametrize("what", NONE)
@pytest.mark.parametrize("later", [False, True])
def test_a_header_that_says_nothing_is_an_error(tmp_path, what, later):
    archive = headed(tmp_path / "a.tar.gz", *[(tarfile.REGTYPE, 0, b"")] * later, *NONE[what])
    with pytest.raises(InputError, match=r"a\.tar\.gz: not a whole tar, zip or RAR archive"):
        members(archive)


def test_headers_of_a_tar_are_bounded_in_all_and_forgotten(tmp_path, monkeypatch):
    files = [(tarfile.XHDTYPE, 200_000, b"200000 comment=" + b"a" * 199_985), (tarfile.REGTYPE, 0, b"")] * 50
    archive = headed(tmp_path / "a.tar.gz", *files)
    tracemalloc.start()
    try:
        assert len(members(archive)) == 51
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(code, "MOST_OF_HEADERS", 5 << 20)
    with pytest.raises(InputError, match=r"a\.tar\.gz: headers of more than 5 MB, as of millions of files"):
        members(archive)


def test_without_a_program_for_rar_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    archive = rarred(tmp_path / "a.rar", FILES)
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"no program here unpacks RAR; install one of bsdtar, unrar, .*is kept"):
        unpack(archive, tmp_path / "in", lambda name: name)
    assert archive.exists()


@pytest.mark.parametrize("ends", ["exit 3", "exit 0"])
def test_a_program_that_fails_or_leaves_files_out_is_said(tmp_path, monkeypatch, ends):
    program = tmp_path / "bin/unrar"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho cannot >&2\n{ends}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    (tmp_path / "in").mkdir()
    expected = "unrar ended with 3: cannot" if ends == "exit 3" else "did not come out of it as it is listed, by unrar"
    with pytest.raises(InputError, match=expected):
        unpack(rarred(tmp_path / "a.rar", FILES), tmp_path / "in", lambda name: name)
    assert files_in(tmp_path / "in") == {}


@pytest.mark.parametrize("pack", [tarred, zipped])
@pytest.mark.parametrize(
    "names",
    [["a", "a/x.jpg"], ["a/x.jpg", "a"], ["a/" * 3000 + "x.jpg"], ["n" * 300]],
    ids=["in", "over", "deep", "long"],
)
def test_a_path_that_no_file_can_have_is_named(tmp_path: Path, pack, names: list[str]) -> None:
    archive = pack(tmp_path / "a.bin", dict.fromkeys(names, b"1"))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"a\.bin: .*: cannot lie there: .*; the archive is kept"):
        unpack(archive, tmp_path / "out", lambda name: name)
    assert archive.is_file()
