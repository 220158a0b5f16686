"""timm's own weights of a backbone, from its hub: within seconds, or with a message that says why not."""

from typing import Any

import httpx2
import timm
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled, RemoteEntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor

from pipeline.core.boundary import WITHOUT_NAME, known
from pipeline.core.errors import InputError
from pipeline.models.mobilenets import nearest_width

SECONDS = 5.0  # to connect, and for the first answer
_OF_THE_HUB = (httpx2.HTTPError, EntryNotFoundError, ConnectionError, TimeoutError)  # of those that are an OSError too
_FILE = "model.safetensors"


def hub_page(backbone: str) -> str:
    """Where timm has the weights of `backbone`: the name of a repository on its hub, timm/mobilenetv2_100.ra_in1k.

    Raises InputError if it has none there; for a MobileNet it names the nearest width that has some.
    """
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        near = nearest_width(backbone, [name.partition(".")[0] for name in timm.list_models(pretrained=True)])
        raise InputError(f"timm has no weights of {backbone}{near and f' (the nearest width with some is {near})'}")
    if not config.hf_hub_id:
        raise InputError(f"timm's weights of {backbone} are not on its hub, but at {config.url}")
    return str(config.hf_hub_id)


def hub_weights(backbone: str) -> dict[str, Tensor]:
    """The weights of timm's whole net, in its names; what the hub's cache on this machine holds is taken from there.

    Raises InputError as `hub_page` does, and if nothing answers within SECONDS, or what comes is damaged; OSError where
    this machine does not take the file, as where its disk is full. A download that has begun takes as long as the
    network needs; where it stalls, the hub's client gives up within a minute.
    """
    page = hub_page(backbone)
    repository, _, revision = page.partition("@")
    file = getattr(timm.get_pretrained_cfg(backbone), "hf_hub_filename", None) or _FILE
    where = hf_hub_url(repository, file, revision=revision or None)
    try:
        if not _is_cached(repository, file, revision):
            _reach(where)
        net: Any = timm.create_model(backbone, pretrained=True)
    except OfflineModeIsEnabled:
        raise InputError(f"{where}: not asked, as HF_HUB_OFFLINE is set, and not in the hub's cache") from None
    except httpx2.TimeoutException:
        raise InputError(f"{where}: no answer within {SECONDS:g} seconds") from None
    except (httpx2.HTTPError, EntryNotFoundError, SafetensorError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, _OF_THE_HUB):
            if error.errno in WITHOUT_NAME and error.filename is None:
                error.filename = constants.HF_HUB_CACHE
            raise
        # the client's own of a download that breaks off is a RuntimeError too
        if isinstance(error, RuntimeError) and (known(error) or _is_cached(repository, file, revision)):
            raise
        why = str(error).strip().splitlines()
        raise InputError(f"{where}: {type(error).__name__}{f': {why[0]}' if why else ''}") from None
    return {name: tensor.contiguous() for name, tensor in net.state_dict().items()}


def _is_cached(repository: str, file: str, revision: str) -> bool:
    return isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str)


def _reach(where: str) -> None:
    """Whether the hub answers at all: its client would wait for minutes and try again. Raises what the client does."""
    try:
        get_hf_file_metadata(where, timeout=SECONDS)
    except RemoteEntryNotFoundError:
        return  # it answers; timm knows other names of the file
