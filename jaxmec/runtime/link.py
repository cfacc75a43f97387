"""The uplink: a sender that keeps to a rate."""

from __future__ import annotations

import asyncio
import selectors
import socket
import time

CHUNK_BYTES = 16 * 2**10  # small enough that a long message leaves evenly
GONE_S = 10  # without a sign of the other machine, it counts as gone


class TokenBucket:
    """Tokens are bits; they flow in at the link's rate and at most `burst_bits` of them wait.

    Kept as the time at which the link falls idle (the virtual scheduling form of the algorithm, ITU-T I.371). It
    does not drift when the caller wakes late: a message that was ready before the previous one had left starts
    where that one ended.
    """

    def __init__(self, rate_bps: float, burst_bits: float = 0.0) -> None:
        """Start idle with a full bucket.

        Args:
          rate_bps: bits per second.
          burst_bits: so many leave at once after a pause. None by default, so that a message takes bits / rate.

        Raises:
          ValueError: for a rate or burst that no link has.
        """
        if not 0 < rate_bps < float("inf"):
            raise ValueError(f"rate_bps: got {rate_bps}; allowed is a finite number above 0")
        if not 0 <= burst_bits < float("inf"):
            raise ValueError(f"burst_bits: got {burst_bits}; allowed is a finite number of at least 0")
        self.rate_bps = rate_bps
        self.burst_bits = burst_bits
        self._idle_s = -float("inf")

    def reserve(self, bits: float, ready_s: float) -> float:
        """When the last of so many bits may leave, if they were ready at a time; later calls queue behind them."""
        start_s = max(self._idle_s, ready_s - self.burst_bits / self.rate_bps)
        self._idle_s = start_s + bits / self.rate_bps
        return max(self._idle_s, ready_s)


async def send(
    writer: asyncio.StreamWriter,
    data: bytes,
    bucket: TokenBucket | None = None,
    ready_s: float = 0.0,
) -> None:
    """Write a message, not faster than a bucket allows, and wait until the transport has taken it.

    Args:
      writer: of the connection.
      data: the message.
      bucket: None for an unlimited link.
      ready_s: since when the message has waited, by `time.monotonic`.
    """
    for begin in range(0, len(data), CHUNK_BYTES):
        chunk = data[begin : begin + CHUNK_BYTES]
        if bucket is not None:
            pause_s = bucket.reserve(8 * len(chunk), ready_s) - time.monotonic()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
        writer.write(chunk)
        await writer.drain()


def watch(writer: asyncio.StreamWriter) -> None:
    """Have the kernel break the connection soon after the other machine has vanished without a word."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; others take their own, longer times
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, GONE_S // 2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * GONE_S)


def event_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are good to microseconds; asyncio's own, on epoll, rounds up to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
