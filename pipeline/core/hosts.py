"""Who asks a server of ours: a page that it gave itself, or another site's in the same browser."""

import ipaddress
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit


def own_names(host: str) -> set[str]:
    """What a machine may be called by those who open a server that listens on `host`.

    >>> "localhost" in own_names("127.0.0.1")
    True
    """
    name, own = socket.gethostname().lower(), {"localhost", host.lower()}
    return own | {name, f"{name}.local", socket.getfqdn().lower()} if host in ("0.0.0.0", "::", name) else own


def stranger(headers: Mapping[str, str], own: Collection[str], opens: bool, knob: str = "") -> str | None:
    """Why a request is not answered, by its headers in small letters, or None. `opens`: it is a GET for a whole page;
    `knob`: what to do where the name is one all the same.

    Its Host is to be an address or a name of this machine: under a name of its own another site could lead a browser
    here (DNS rebinding) and read the answers. Its Origin, which browsers send where pages ask, is to be the same.

    >>> stranger({"host": "localhost:5151"}, own_names("127.0.0.1"), opens=False)
    >>> stranger({"host": "evil.example:5151"}, own_names("127.0.0.1"), opens=False)
    'Host evil.example:5151 is no name of this machine'
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if not _is_own(host, own):
        return f"Host {host[:100]} is no name of this machine{knob}"
    if origin is not None and _place(origin) != host:
        return f"asked by a page of {origin[:100]}"
    by_another = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    if by_another and not (opens and headers.get("sec-fetch-mode") == "navigate"):
        return "asked by a page of another site"
    return None


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # brackets that hold no address
        return ""


def _is_own(host: str, own: Collection[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name in own:
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
