"""A real link on one machine: a network namespace for the server, behind interfaces that keep to a rate.

Linux only, for root, with `ip` and `tc` of iproute2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

DEVICE_HOST, SERVER_HOST = "198.18.57.1", "198.18.57.2"  # of the block for tests of networks, RFC 2544
BURST_BYTES = 3200  # two Ethernet frames: tc needs room for one
LATENCY_S = 60  # of the queue before the link; longer, and packets are dropped


class Link(NamedTuple):
    """A server behind a link of its own."""

    server_command: tuple[str, ...]  # to be put before the command of the server
    server_host: str  # on which it listens, and to which the device connects


@contextlib.contextmanager
def limited_link(uplink_bps: float) -> Iterator[Link]:
    """Lay a link to a namespace, whose direction there keeps to a rate by `tc`, and remove it at the end.

    Args:
      uplink_bps: bits per second on the wire, which Ethernet, IP and TCP headers share.

    Raises:
      ValueError: for a rate that no link has.
      OSError: without root, `ip` or `tc`, or if the kernel does not do it.
    """
    if not 0 < uplink_bps < float("inf"):
        raise ValueError(f"uplink: got {uplink_bps}; allowed is a finite number above 0")
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise OSError(f"a link needs root, ip and tc; missing: {', '.join(missing) or 'root'}")
    name = f"jaxmec{os.getpid()}"
    here, there = f"{name}a"[-15:], f"{name}b"[-15:]  # an interface's name has at most 15 characters
    inside = ("ip", "netns", "exec", name)
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _run("ip", "address", "add", f"{DEVICE_HOST}/30", "dev", here)
        _run("ip", "link", "set", here, "up")
        _run(*inside, "ip", "address", "add", f"{SERVER_HOST}/30", "dev", there)
        _run(*inside, "ip", "link", "set", there, "up")
        shape = ("rate", f"{uplink_bps:.0f}bit", "burst", f"{BURST_BYTES}", "latency", f"{LATENCY_S}s")
        _run("tc", "qdisc", "add", "dev", here, "root", "tbf", *shape)
        yield Link(inside, SERVER_HOST)
    finally:
        subprocess.run(["ip", "link", "delete", here], check=False, capture_output=True)
        _run("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
