"""Work that is done by several machines: a real scheduler and two real workers, on loopback."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machines import cluster, fall, fatal, halve, only_here, place_of, process_of, scheduler
from PIL import Image

from pipeline.augment.offline import augment_dataset
from pipeline.augment.params import AugmentParams
from pipeline.core import cluster as machines
from pipeline.core.cluster import versions
from pipeline.core.errors import InputError
from pipeline.core.files import sha256
from pipeline.core.image_file import ImageFileError, open_image
from pipeline.core.parallel import each, on_cluster, over
from pipeline.datasets.ingest import ingest as ingest_module
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import DATASETS

IMAGES = 60


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster(tmp_path_factory.mktemp("elsewhere")) as address:
        yield address


@pytest.fixture
def client(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with over(address):
        yield


def test_results_come_in_the_order_of_the_items(client: None) -> None:
    assert on_cluster()
    assert each(halve, range(39), "halve") == [n / 2 for n in range(39)]
    assert each(halve, [], "halve") == []


def test_the_error_of_the_first_item_is_raised_here(client: None) -> None:
    with pytest.raises(ValueError, match="^39 ends in 39"):
        each(halve, range(300), "halve")


def test_an_error_comes_whole(client: None) -> None:
    Path("a.png").write_bytes(b"no image")
    with pytest.raises(ImageFileError, match=r"a\.png: not an image that decodes: not one of") as raised:
        each(open_image, [Path("a.png")], "decode")
    assert raised.value.rule == "unreadable"


def test_one_job_stays_in_this_process(client: None) -> None:
    assert each(process_of, range(3), "where", jobs=1) == [os.getpid()] * 3
    assert os.getpid() not in each(process_of, range(9), "where")


def test_what_ends_each_worker_is_named(client: None) -> None:
    place_of(3).touch()
    with pytest.raises(InputError, match=r"^3\.jpg: fall: each worker that took it was ended, as a system does"):
        each(fall, [3], "fall", reads=place_of)


def test_a_file_that_a_worker_does_not_find_is_no_missing_file(client: None) -> None:
    with pytest.raises(InputError, match=r"/comm: the Dask worker tcp://127\.0\.0\.1:\d+ does not find it; expected a"):
        each(str, [os.getpid()], "read", reads=only_here)
    assert each(str, [7], "read", reads=place_of) == ["7"], "no such file here either"


def test_a_folder_that_is_not_shared_is_said(client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (place := Path("out")).mkdir()
    assert each(str, [1], "write", writes=place) == ["1"]
    assert list(place.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", lambda _: None)
        with pytest.raises(InputError, match=r"^out: the Dask worker \S+ does not find what is written there; expected"):
            each(str, [1], "write", writes=place)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "cwd", lambda: Path("/no/such/folder"))
        with pytest.raises(InputError, match=r"^/no/such/folder: the Dask worker \S+ has no such folder"):
            each(str, [1], "write")


@pytest.mark.parametrize("what", ["Python", "pillow", "code"])
def test_a_worker_with_other_versions_is_refused(client: None, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    there = versions()
    monkeypatch.setattr(machines, "versions", lambda: there | {what: "0.1"})
    found = rf"^the Dask worker \S+ has {what} {re.escape(there[what])}, here 0\.1: start all workers in"
    with pytest.raises(InputError, match=found):
        each(str, [1], "some")


def test_where_no_scheduler_answers_the_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # as one that speaks something else
        port = silent.getsockname()[1]
        with pytest.raises(InputError, match=rf"parallel: dask://127\.0\.0\.1:{port}: no Dask scheduler: what listens"):
            with over(f"dask://127.0.0.1:{port}"):
                pass
    with pytest.raises(InputError, match=rf"dask://127\.0\.0\.1:{port}: no Dask scheduler: Timed out .* --port {port}"):
        with over(f"dask://127.0.0.1:{port}"):
            pass


def test_a_scheduler_without_workers_and_one_that_ends_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "ALONE_S", 0.5)
    with scheduler(tmp_path) as (process, address), over(address):
        with pytest.raises(InputError, match=rf"^machine\.parallel: {address}: the scheduler had no worker for 0\.5 s"):
            each(str, [1], "some")
        monkeypatch.setattr(machines, "ALONE_S", 60.0)
        monkeypatch.setattr(machines.Work, "_start", ending(machines.Work._start, process))
        with pytest.raises(InputError, match=rf"^machine\.parallel: {address}: the scheduler has ended, or the network"):
            each(str, [1], "some")


def ending(start: Callable[..., None], process: subprocess.Popen[str]) -> Callable[..., None]:
    def body(*given: Any) -> None:
        start(*given)
        os.killpg(process.pid, signal.SIGKILL)

    return body
