"""Who asks a server of ours: a page that it gave itself, or another site's in the same browser."""

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z_.-]+))(?::[0-9]{1,5})?", re.IGNORECASE)


def own_names(host: str) -> set[str]:
    """What a machine may be called by those who open a server that listens on `host`.

    >>> "localhost" in own_names("127.0.0.1")
    True
    """
    name, own = socket.gethostname().lower(), {"localhost", host.lower()}
    return own | {name, f"{name}.local", socket.getfqdn().lower()} if host in ("0.0.0.0", "::", name) else own


def by_name(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers of a request by their names in small letters. What stands there twice is joined, as HTTP has it, so
    that two names of hosts are none.

    >>> by_name([("Host", "localhost"), ("host", "evil.example")])
    {'host': 'localhost, evil.example'}
    """
    found: dict[str, str] = {}
    for name, value in headers:
        known = found.get(name.lower())
        found[name.lower()] = value if known is None else f"{known}, {value}"
    return found


def stranger(target: str, headers: Mapping[str, str], own: Collection[str], opens: bool, knob: str = "") -> str | None:
    """Why a request is not answered, by its target and its headers as `by_name` gives them, or None. `opens`: it is
    a GET for a whole page; `knob`: what to do where the name is one all the same.

    Its Host is to be an address or a name of this machine: under a name of its own another site could lead a browser
    here (DNS rebinding) and read the answers. A target that has a host of its own is for a proxy. The port may be any,
    as where another one is forwarded here. Its Origin, which browsers send where pages ask, is to be the same.

    >>> stranger("/", {"host": "localhost:5151"}, own_names("127.0.0.1"), opens=False)
    >>> stranger("/", {"host": "evil.example:5151"}, own_names("127.0.0.1"), opens=False)
    'Host evil.example:5151 is no name of this machine'
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if not target.startswith("/"):
        return f"{target[:100]} is no path of this machine"
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
    found = HOST.fullmatch(host)
    if found is None:
        return False
    try:
        ipaddress.ip_address(found[1] or found[2])
    except ValueError:
        return found[2] is not None and found[2].lower() in own
    return True
