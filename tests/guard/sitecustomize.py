"""First on PYTHONPATH, in each Python process of a test: addresses off this machine are refused, and written down.

POCKETLENS_ASKED names the file: a line for each process that began, and one for each address that it asked for.
"""

import ipaddress
import os
import sys

NAMES, ADDRESSES = ("socket.getaddrinfo", "socket.gethostbyname"), ("socket.connect", "socket.sendto")


def _write(line: str) -> None:
    place = os.open(os.environ["POCKETLENS_ASKED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, f"{line}\n".encode())  # in one call, as several processes write
    os.close(place)


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("", "localhost")
    return address.is_loopback or address.is_unspecified


def _refuse(event: str, given: tuple[object, ...]) -> None:
    if event in NAMES:
        host = given[0]
    elif event in ADDRESSES and isinstance(given[1], tuple):  # else it is a socket of this machine's file system
        host = given[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host or "")
    if not _is_here(host):
        _write(f"asked {host} {' '.join(sys.argv)[:200]}")
        raise OSError(f"{host}: not on this machine")


if "POCKETLENS_ASKED" in os.environ:
    _write(f"began {' '.join(sys.orig_argv)[:200]}")
    sys.addaudithook(_refuse)
