"""What a run starts from where nothing is said of it: a file in weights/ that fits, else timm's, from its hub."""

from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.files import new_file

FOLDER = "weights"
_DRAWN = ".drawn."  # in the name of a file that has seen the project's drawn animals and nothing else
_KINDS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


def starting_weights(
    project: Path, backbone: str, name_one: str = "--pretrained FILE", scratch: str = "--from-scratch"
) -> tuple[Path, str]:
    """A file in `project`/weights to start `backbone` from, and words on where it is from.

    First what lies there: the file named after the backbone (mobilenetv2_100.safetensors), else the only one that
    holds the whole of it. It comes before the network, so that the same project gives the same run. Then timm's hub,
    whose weights are written there. Raises InputError, with what to do (`name_one` and `scratch` are the words for
    it), if a file named after the backbone does not fit, if several files do, or if there are no weights here or there.
    """
    from safetensors.torch import save_file

    from pipeline.models.backbones import check_known
    from pipeline.models.hub import hub_page, hub_weights

    check_known(backbone)
    folder = project / FOLDER
    if found := _lying_there(folder, backbone, name_one):
        return found, f"{FOLDER}/{found.name}: the run starts from these weights, which fit {backbone}"
    try:
        page = hub_page(backbone)
        state = hub_weights(backbone)
    except InputError as error:
        raise InputError(
            f"no pretrained weights: {FOLDER}/ has none that fit {backbone}{_drawn(folder, backbone, name_one)}; "
            f"{error}. Put a file in timm's or "
            f"torchvision's names at {FOLDER}/{backbone}.safetensors (or name one: {name_one}), or start from random "
            f"weights: {scratch}"
        ) from None
    name = page.partition("@")[0].rpartition("/")[2]  # most are the backbone's, with a word for the training
    file = folder / f"{name if name.startswith(backbone) else f'{backbone}.{name}'}.safetensors"
    with new_file(file) as place:
        save_file(state, place)
    return file, f"{FOLDER}/{file.name}: the run starts from these weights, fetched from timm's hub ({page})"


def _drawn(folder: Path, backbone: str, name_one: str) -> str:
    """Words on a file that fits and is not taken by itself."""
    from pipeline.models.backbones import holds_all

    files = sorted(p for p in folder.glob("[!.]*") if p.suffix in _KINDS and _DRAWN in p.name)
    file = next((f"{FOLDER}/{p.name}" for p in files if holds_all(backbone, p)), None)
    if file is None:
        return ""
    way = name_one.replace("FILE", file) if "FILE" in name_one else f"{name_one}: {file}"
    return f" but {file}, which has seen synthetic animals only (`{way}` takes it)"


def _lying_there(folder: Path, backbone: str, name_one: str) -> Path | None:
    from pipeline.models.backbones import holds_all, read_pretrained

    files = sorted(p for p in folder.glob("[!.]*") if p.suffix in _KINDS and _DRAWN not in p.name)
    own = [p for p in files if p.stem == backbone] or [p for p in files if p.name.startswith(f"{backbone}.")]
    found = own or [p for p in files if holds_all(backbone, p)]
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise InputError(f"{FOLDER}/: several files fit {backbone}: {names}; say which: {name_one}")
    if own:
        read_pretrained(backbone, str(found[0]))
    return found[0] if found else None
