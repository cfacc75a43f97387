"""The token bucket against hand values, and a socket that keeps to it."""

import asyncio
import time

import pytest

from jaxmec.runtime import TokenBucket, link


def test_without_a_burst_a_message_takes_its_bits_over_the_rate():
    bucket = TokenBucket(1000.0)
    assert bucket.reserve(500, ready_s=10.0) == 10.5
    assert bucket.reserve(250, ready_s=10.1) == 10.75  # waits for the one before
    assert bucket.reserve(1000, ready_s=12.0) == 13.0  # the link was idle, which earns nothing
    assert bucket.reserve(1000, ready_s=11.0) == 14.0  # however late the caller asks


def test_a_burst_leaves_at_once_after_a_pause():
    bucket = TokenBucket(1000.0, burst_bits=300.0)
    assert bucket.reserve(300, ready_s=5.0) == 5.0  # all tokens
    assert bucket.reserve(100, ready_s=5.0) == 5.1  # none left
    assert bucket.reserve(100, ready_s=5.2) == 5.2  # 0.1 s made 100
    # A bucket that has filled again holds 300 and no more: 700 bits wait for the rest.
    assert bucket.reserve(1000, ready_s=100.0) == pytest.approx(100.7)


@pytest.mark.parametrize(("rate_bps", "burst_bits"), [(0.0, 0.0), (float("inf"), 0.0), (1.0, -1.0)])
def test_a_rate_or_burst_that_no_link_has(rate_bps, burst_bits):
    with pytest.raises(ValueError, match="allowed is a finite number"):
        TokenBucket(rate_bps, burst_bits)


def test_bytes_leave_whole_in_order_and_not_before_their_time():
    first, second = b"a" * 40_000, b"b" * 20_000  # three chunks and two

    async def received():
        bucket, got, start_s = TokenBucket(4e6), bytearray(), 0.0

        async def take(reader, writer):
            while data := await reader.read(2**16):
                got.extend(data)
            arrived.set_result(time.monotonic())
            writer.close()

        arrived = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(take, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        start_s = time.monotonic()
        for message in (first, second):
            await link.send(writer, message, bucket, start_s)
        writer.close()
        end_s = await arrived
        server.close()
        return bytes(got), end_s - start_s

    data, seconds = asyncio.run(received())
    assert data == first + second
    assert seconds >= 60_000 * 8 / 4e6
