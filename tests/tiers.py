"""Which tests each of make's targets runs, in which order, and on which of xdist's workers."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from joblib import cpu_count
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# What `make test-fast` leaves out, the longest first, because others would wait for one that begins last; and whether
# each test goes to the worker that is free. Where not, tests share what one worker alone has: a server, a browser.
SLOW = {
    "test_ranks": False,
    "test_train": True,
    "test_web": False,
    "test_verify": True,
    "test_qat": True,
    "test_exporters": True,
    "test_targets": False,
    "test_stages": True,
    "test_chain": True,
    "test_bare_shell": True,
    "test_quantization": True,
    "test_backbones": True,
    "test_epochs": True,
    "test_tracking": False,
    "test_tracking_store": False,
    "test_compare": False,
    "test_rerun": False,
    "test_inspect": False,
    "test_label_studio_server": False,
    "test_serving": False,
    "test_predict": False,
    "test_models": False,
}
# how many exhaustive tests were left out, and the tests that were found: (path below the root, name, is exhaustive)
LEFT = pytest.StashKey[int]()
FOUND = pytest.StashKey[set[tuple[str, str, bool]]]()
gc.set_threshold(10_000)  # with Python's own 700 a third of the time in which tests are found goes into looking


class ByFile(LoadScopeScheduling):
    """A file's tests go to one worker, which makes what they share once, but for those of which each goes to any.

    xdist's own `--dist loadgroup` has no effect with pytest 9.2: it renames tests by an attribute that is read no more.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if SLOW.get(Path(file).stem, False) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: tests wait too, for servers, browsers and processes that they have killed."""
    return int(cpu_count()) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=_turn)  # stable: a file's tests stay in their order
    config.stash[FOUND] = {(item.path.name, item.name, _is_exhaustive(item)) for item in items}


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there now stays to the end


def pytest_unconfigure() -> None:
    gc.unfreeze()  # else libraries take what was frozen for leaked


def _turn(item: pytest.Item) -> int:
    if item.name == "test_every_stage_ran_once":  # makes the chain; the other tests of it come when it is there
        return -1
    names = list(SLOW)
    return names.index(item.path.stem) if item.path.stem in SLOW else len(names)


def _is_exhaustive(item: pytest.Item) -> bool:
    return item.get_closest_marker("exhaustive") is not None


def pytest_deselected(items: list[pytest.Item]) -> None:
    left = sum(map(_is_exhaustive, items))
    if left:
        config = items[0].config
        config.stash[LEFT] = config.stash.get(LEFT, 0) + left


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest's own, which writes the line of how many passed
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["exhaustive"] = config.stash.get(LEFT, 0)
    yield
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    left = config.stash.get(LEFT, 0)
    if reporter and left and not hasattr(config, "workeroutput"):
        reporter.write_line(f"{left} exhaustive tests were left out; `make test-all` runs all tests")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """It is the workers that collect, each all tests."""
    stash, output = node.config.stash, getattr(node, "workeroutput", {})  # one that crashed has said nothing
    stash[LEFT] = max(stash.get(LEFT, 0), output.get("exhaustive", 0))
