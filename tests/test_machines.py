"""Work that is done by several machines: a real scheduler and two real workers, on loopback."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from machines import cluster, fall, fatal, halve, only_here, place_of, process_of, scheduler
from PIL import Image
from test_features import net_of, pictures, spec
from test_predict import picture, save_model

from pipeline.augment import offline
from pipeline.augment.offline import augment_dataset
from pipeline.augment.params import AugmentParams
from pipeline.core import cluster as machines
from pipeline.core.cluster import versions
from pipeline.core.errors import InputError
from pipeline.core.files import sha256
from pipeline.core.image_file import ImageFileError, open_image
from pipeline.core.parallel import each, on_cluster, over
from pipeline.core.sample import Sample
from pipeline.datasets.ingest import ingest as ingest_module
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import DATASETS
from pipeline.inference.predict import predict_sources
from pipeline.training.devices import launch
from pipeline.training.features import Features

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
    with pytest.raises(ValueError, match=r"^39 ends in 39"):
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
        with pytest.raises(
            InputError, match=r"^out: the Dask worker \S+ does not find what is written there; expected"
        ):
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


def test_a_worker_of_another_list_of_packages_is_refused(client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of older code has packages in its list that this one's lacks, and lacks others."""
    there = versions()
    ours = {name: said for name, said in there.items() if name != "pillow"} | {"anew": "1.0"}
    monkeypatch.setattr(machines, "versions", lambda: ours)
    found = rf" has anew none, here 1\.0; pillow {re.escape(there['pillow'])}, here none: start all workers in"
    with pytest.raises(InputError, match=found):
        each(str, [1], "some")


def test_a_worker_without_this_project_is_said(client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("only_here")
    exec("def same(item):\n    return item\nsame.__module__ = 'only_here'", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(InputError, match=r"has not what is asked for \(No module named 'only_here'\); start all of"):
        each(module.same, [1], "some")


def test_where_no_scheduler_answers_the_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "CONNECT_S", 0.5)
    monkeypatch.setattr(machines, "ANSWER_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # as one that speaks something else
        address = f"dask://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"parallel: {address}: no Dask scheduler: what listens"), over(address):
            pass
    monkeypatch.setattr(machines, "ANSWER_S", 120.0)  # however slow this machine is
    tried = r"Timed out trying to connect to tcp://\S+ after 0\.5 s; `dask scheduler --port"
    with pytest.raises(InputError, match=rf"parallel: {address}: no Dask scheduler: {tried}"), over(address):
        pass


def test_a_client_that_comes_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    late, closed = threading.Event(), threading.Event()

    class Late:
        def __init__(self, *_: object, **__: object) -> None:
            assert late.wait(60)

        def close(self) -> None:
            closed.set()

    monkeypatch.setattr(machines, "Client", Late)
    monkeypatch.setattr(machines, "ANSWER_S", 0.01)
    with pytest.raises(InputError, match=r"did not answer for 0\.01 s"), over("dask://127.0.0.1:1"):
        pass
    late.set()
    assert closed.wait(60)


@pytest.mark.parametrize(
    ("fails", "said"), [(1, "refused"), (2, "AssertionError in this process, as on a busy machine")]
)
def test_a_client_whose_thread_does_not_begin_is_tried_once_more(
    fails: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def client(*_: object, **__: object) -> None:
        tried.append(1)
        if len(tried) <= fails:
            raise AssertionError
        raise OSError("refused")

    monkeypatch.setattr(machines, "Client", client)
    with pytest.raises(InputError, match=rf"no Dask scheduler: {said}; "), over("dask://127.0.0.1:1"):
        pass
    assert len(tried) == 2


def test_a_scheduler_without_workers_and_one_that_ends_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "ALONE_S", 0.5)
    with scheduler(tmp_path) as (process, address), over(address):
        with pytest.raises(InputError, match=rf"^machine\.parallel: {address}: the scheduler had no worker for 0\.5 s"):
            each(str, [1], "some")
        monkeypatch.setattr(machines, "ALONE_S", 60.0)
        monkeypatch.setattr(machines.Work, "_start", ending(machines.Work._start, process))
        with pytest.raises(
            InputError, match=rf"^machine\.parallel: {address}: the scheduler has ended, or the network"
        ):
            each(str, [1], "some")


def ending(start: Callable[..., None], process: subprocess.Popen[str]) -> Callable[..., None]:
    def body(*given: Any) -> None:
        start(*given)
        os.killpg(process.pid, signal.SIGKILL)

    return body


def draw(root: Path) -> None:
    """Class folders of IMAGES images, of which one is broken and one is too large to be decoded."""
    drawn = np.random.default_rng(0)
    for i in range(IMAGES):
        folder = root / ("cow", "goat")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        cells = drawn.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{i // 2:02d}.jpg")
    (root / "cow" / "broken.jpg").write_bytes(b"no image")
    Image.new("1", (15000, 13000)).save(root / "goat" / "bomb.png")


def ingested(root: Path) -> Any:
    """Of all that came of `set`: the hash of its files, their number, and the ledger."""
    block = {"format": "folder", "path": str(root / "set"), "labels": str(root / "set"), "max_side": 64}
    data, reports = Path("data"), Path("reports")
    summary = ingest("farm", DATASETS["folder"].model_validate(block), data, reports)
    assert not [*data.rglob(".*")], "nothing unfinished is left"
    return sha256(data), sha256(reports), summary["kept"], (reports / "ledger.csv").read_text()


def killing(take: Callable[[Any], None], killed: list[int]) -> Callable[[Any], None]:
    """Once a first batch has come back, a worker is killed that has others."""

    def body(work: Any) -> None:
        take(work)
        if not killed:
            processes = work._client.run(os.getpid)
            busy = next((worker for worker, keys in work._client.processing().items() if keys), min(processes))
            killed.append(processes[busy])
            os.kill(killed[0], signal.SIGKILL)

    return body


def test_a_worker_that_dies_on_the_way_changes_nothing(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    alone = ingested(tmp_path)
    assert alone[2] == IMAGES
    assert alone[3].count("\n") == 3
    killed: list[int] = []
    monkeypatch.setattr(machines, "BATCH", 3)
    monkeypatch.setattr(machines.Work, "_take", killing(machines.Work._take, killed))
    with over(address):
        assert ingested(tmp_path) == alone
        assert killed
        knobs = AugmentParams(policy="photo_geometry", copies=1)
        with monkeypatch.context() as patch:
            patch.setattr(offline, "FEW", 0)
            copied = augment_dataset(Path("data"), Path("there"), Path("told"), knobs)
    assert augment_dataset(Path("data"), Path("here"), Path("said"), knobs) == copied
    assert (sha256("there"), sha256("told")) == (sha256("here"), sha256("said"))


@pytest.mark.exhaustive
def test_an_image_that_ends_each_process_is_a_row_of_the_ledger(
    client: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "set")
    monkeypatch.setattr(ingest_module, "take_all", fatal)
    *hashes, kept, ledger = ingested(tmp_path)
    with over("processes"):
        assert ingested(tmp_path) == (*hashes, kept, ledger)
    assert kept == IMAGES - 1
    assert "cow/07.jpg,,unreadable,the process that decodes it is ended,refused" in ledger.splitlines()


def test_predictions_of_other_machines_are_those_of_this_one(client: None, tmp_path: Path) -> None:
    save_model(tmp_path / "models" / "r", "detect")
    files = [str(picture(tmp_path / "pictures" / f"{i:02d}.png", seed=i)) for i in range(20)]
    files[7:7] = [str(tmp_path / "nosuch.png")]
    asked = files, "r", "torch", Path("models"), Path("exports")
    found: list[list[Sample]] = []
    for where in (nullcontext(), over("processes")):
        found.append([])
        with where, pytest.raises(InputError, match=r"nosuch\.png: no such file"):
            found[-1].extend(predict_sources(*asked))
    there, here = found
    assert len(there) == 20
    assert [s.to_json() for s in there] == [s.to_json() for s in here]


def test_features_of_other_machines_are_those_of_this_one(
    client: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = spec("pool")
    net, seen = net_of(made), pictures(tmp_path / "p", made, 70)

    def kept(folder: str) -> tuple[list[Any], list[Any], list[str]]:
        found = Features(seen, net, Path(folder), launch("fp32"))
        with sqlite3.connect(next(Path(folder).glob("*.sqlite"))) as database:
            rows = database.execute("SELECT image, maps FROM features ORDER BY image").fetchall()
        return rows, [found[i][1][1:] for i in range(70)], sorted(f.suffix for f in Path(folder).iterdir())

    there = kept("there")
    with over("processes"):
        here = kept("here")
    assert len(there[0]) == 70
    assert there == here
    with monkeypatch.context() as patch:
        patch.setattr(Features, "_insert", None)  # nothing is made anew
        assert kept("here")[1] == here[1]
