"""The list of what an export holds and was made with, as CycloneDX 1.6 (ECMA-424): sbom.json of the bundle."""

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline.core.files import sha256

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec

LIST = "sbom.json"


def sbom(folder: Path, spec: "ModelSpec", libraries: dict[str, str]) -> dict[str, Any]:
    """Of the exported files in `folder` and the `libraries` (name: version) that made and run them. It has neither a
    date nor a number of its own: the same export gives the same bytes.

    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.core.files import write_text
    >>> from pipeline.core.spec import ModelSpec
    >>> spec = ModelSpec(
    ...     *("herd", "herd", "classify", ["cow"], [], [], [], "mobilenetv2_050", {"kind": "pool"}),
    ...     *(96, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ... )
    >>> with TemporaryDirectory() as place:
    ...     write_text(f"{place}/labels.txt", "cow")
    ...     found = sbom(Path(place), spec, {"pillow": "12.0.0"})
    >>> [(part["type"], part["name"]) for part in found["components"]]
    [('file', 'labels.txt'), ('library', 'pillow')]
    """
    files = sorted(file for file in folder.rglob("[!.]*") if file.is_file() and _ships(file.relative_to(folder)))
    model = {"type": "machine-learning-model", "name": spec.run, "bom-ref": "model"}
    if spec.weights_sha256:
        model["version"] = spec.weights_sha256
    parts = [_file(file, folder) for file in files] + [_library(*row) for row in sorted(libraries.items())]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model},
        "components": parts,
        "dependencies": [{"ref": "model", "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _ships(file: Path) -> bool:
    return str(file) != LIST and not any(part.startswith(".") for part in file.parts)


def _file(file: Path, folder: Path) -> dict[str, Any]:
    name = file.relative_to(folder).as_posix()
    return {
        "type": "file",
        "name": name,
        "bom-ref": f"file:{name}",
        "hashes": [{"alg": "SHA-256", "content": sha256(file)}],
    }


def _library(name: str, version: str) -> dict[str, Any]:
    """With its package URL (ECMA-427), which has names of PyPI in small letters."""
    place = f"pkg:pypi/{quote(name.lower().replace('_', '-'), safe='')}@{quote(version, safe='')}"
    said = {"type": "library", "name": name, "version": version, "bom-ref": place, "purl": place}
    licences = _licences(name)
    return said | ({"licenses": licences} if licences else {})


def _licences(package: str) -> list[dict[str, Any]]:
    """As the installed package states them: an expression of SPDX, or a name; none where it states none in a line."""
    try:
        about = metadata(package)
    except PackageNotFoundError:
        return []
    expression, line = (about.get_all(key, [""])[0] for key in ("License-Expression", "License"))
    if expression:
        return [{"expression": str(expression)}]
    kinds = [kind.rpartition(" :: ")[2] for kind in about.get_all("Classifier", []) if kind.startswith("License ::")]
    name = (" / ".join(kinds) or str(line).split("\n")[0])[:80]
    return [{"license": {"name": name}}] if name else []
