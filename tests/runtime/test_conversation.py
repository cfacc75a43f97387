"""A device and a server in one process: answers, cuts that change, broken connections, limits, refusals."""

import asyncio
import itertools

import numpy as np
import pytest
from small_network import small

from jaxmec.runtime import Device, LostError, Model, RefusedError, Server, arrivals
from jaxmec.runtime.messages import (
    HEADER,
    MAGIC,
    PROTOCOL,
    Answer,
    Bye,
    Hello,
    Refusal,
    Request,
    Tensor,
    Welcome,
    encode,
    receive,
)


def inputs(count):
    """So many different requests."""
    return [[np.random.default_rng(i).normal(0, 1, (1, 16)).astype("float32")] for i in range(count)]


async def answers(device, requests):
    return np.stack([(await device.infer(arrays))[0] for arrays in requests])


def expected(model, requests):
    return np.stack([np.asarray(model.fn(model.params, *arrays)) for arrays in requests])


@pytest.mark.parametrize("wire_bits", [None, 8])
def test_answers_are_the_networks_at_every_cut(wire_bits):
    model, requests = small(wire_bits=wire_bits), inputs(3)

    async def run():
        async with Server(model) as server, Device(model, port=server.port) as device:
            found = {}
            for cut in range(len(model.table)):
                times = await device.prepare(cut, repeats=1)
                device.cut = cut
                found[cut] = await answers(device, requests), times, device.records[-1].message_bytes
            return found, server.computed

    found, computed = asyncio.run(run())
    for cut, (outputs, times, message_bytes) in found.items():
        exact = cut == len(model.table) - 1 or wire_bits is None
        np.testing.assert_allclose(outputs, expected(model, requests), atol=1e-5 if exact else 0.1)
        assert times.message_bytes == message_bytes
        payload = 16 * 4 if wire_bits is None else 16 + 4  # and a scale
        assert 0 < message_bytes - payload < 200 if cut < 4 else message_bytes == 0
    assert computed == 4 * 3  # nothing of the last cut


def test_the_cut_changes_while_requests_run(model):
    async def run():
        async with Server(model) as server, Device(model, port=server.port) as device:
            await device.prepare(1)
            device.cut = 1
            running = asyncio.create_task(device.run(arrivals("clocked", 500.0, 100), itertools.cycle(inputs(1))))
            while not device.records:
                await asyncio.sleep(0.001)
            await device.prepare(3)
            device.cut = 3
            await running
            await device.run(np.zeros(4), itertools.cycle(inputs(1)), {2: 1})
            return [(one.id, one.cut) for one in sorted(device.records, key=lambda one: one.id)]

    cuts = dict(asyncio.run(run()))
    assert list(cuts) == list(range(104))
    first, later = list(cuts.values())[:100], list(cuts.values())[100:]
    assert sorted(first) == first
    assert later == [3, 3, 1, 1]


class Proxy:
    """Passes bytes on, and breaks every connection after so many of the server's."""

    def __init__(self, port, break_after):
        self.port, self.break_after, self.broken = port, break_after, 0

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self.passing, "127.0.0.1", 0)
        self.address = self.listener.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_):
        self.listener.close()

    async def passing(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def there():
            while data := await reader.read(2**16):
                far_writer.write(data)
            far_writer.close()

        task, passed = asyncio.create_task(there()), 0
        while passed < self.break_after and (data := await far_reader.read(512)):
            passed += len(data)
            writer.write(data)
        self.broken += passed >= self.break_after
        task.cancel()
        for one in (writer, far_writer):
            one.transport.abort()


def test_broken_connections_lose_and_repeat_nothing(model):
    requests = inputs(60)

    async def run():
        async with (
            Server(model) as server,
            Proxy(server.port, 3000) as proxy,
            Device(model, port=proxy.address[1]) as device,
        ):
            await device.prepare(2)
            device.cut = 2
            outputs = await asyncio.gather(*(device.infer(arrays) for arrays in requests))
            return outputs, sorted(one.id for one in device.records), server.computed, proxy.broken

    outputs, ids, computed, broken = asyncio.run(run())
    assert broken >= 2
    assert ids == list(range(60))
    assert computed == 60
    np.testing.assert_allclose(np.stack([one[0] for one in outputs]), expected(model, requests), atol=1e-5)


def test_a_full_system_drops_what_arrives(model):
    async def run():
        async with Server(model) as server, Device(model, port=server.port, queue=3, uplink_bps=1e4) as device:
            await device.prepare(2)
            device.cut = 2
            await device.run(np.zeros(10), itertools.cycle(inputs(1)))
            return [one.id for one in device.records], device.dropped

    assert asyncio.run(run()) == ([0, 1, 2], 7)


def test_a_server_that_stops_answers_what_it_has_and_says_goodbye(model):
    tensor = Tensor.of(np.zeros((1, 16), "float32"))
    requests = b"".join(encode(Request((tensor,), id=i, cut=2, acknowledged=0)) for i in range(50))

    async def run():
        async with Server(model) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(encode(Hello("a client", model.digest)) + requests)
            said = [await receive(reader, "the server") for _ in range(2)]
        while not isinstance(said[-1], Bye):
            said.append(await receive(reader, "the server"))
        writer.close()
        return said, server.computed

    (welcome, *answered, _), computed = asyncio.run(run())
    assert isinstance(welcome, Welcome)
    assert [one.id for one in answered] == list(range(computed))


def test_a_server_that_is_gone_is_told(model):
    async def run():
        async with Server(model) as server:
            port = server.port
        with pytest.raises(LostError, match=f"no server at 127.0.0.1:{port} for 0.2 s"):
            async with Device(model, port=port, patience_s=0.2):
                pass

    asyncio.run(run())


def test_a_device_that_stops_waits_for_its_answers(model):
    async def run():
        async with Server(model) as server, Device(model, port=server.port) as device:
            await device.prepare(2)
            device.cut = 2
            offsets = [0.0] * 20 + [1e6]  # the last would be due in days
            running = asyncio.create_task(device.run(offsets, itertools.cycle(inputs(1))))
            while not device.records:
                await asyncio.sleep(0)
            device.stop()
            await running
            answered = len(device.records)
            await device.infer(model.arrays())
            return answered, [one.id for one in device.records]

    answered, ids = asyncio.run(run())
    assert 1 <= answered <= 20
    assert ids == list(range(answered + 1))  # none of those before the stop was left


async def replies(port, data, max_messages=3):
    """What the server says to some bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    said = []
    try:
        while len(said) < max_messages:
            said.append(await receive(reader, "the server"))
    except asyncio.IncompleteReadError:
        pass
    writer.close()
    return said


def test_wrong_messages_are_refused_and_the_server_goes_on(model):
    hello = encode(Hello("a client", model.digest))
    tensor = Tensor.of(np.zeros((1, 16), "float32"))
    wrong = {
        b"GET / HTTP/1.1\r\n\r\n": "does not speak the jaxmec runtime's protocol",
        HEADER.pack(MAGIC, PROTOCOL + 1, 4) + b"1234": "protocol version: got 2; allowed is 1",
        HEADER.pack(MAGIC, PROTOCOL, 5000) + bytes(5000): "length: got 5000 bytes; allowed are at most 4096",
        encode(Bye()): "the first message: got Bye; allowed is Hello",
        encode(Hello("a client", "0123456789abcdef")): "model: the device runs 0123456789ab, the server",
        hello + encode(Welcome(window=1)): "got Welcome, which a server does not take now",
        hello + encode(Request((tensor,), id=0, cut=9, acknowledged=0)): "cut: got 9; allowed is 0..4",
        hello + encode(Request((tensor, tensor), id=0, cut=2, acknowledged=0)): "got float32[1, 16], float32",
        hello + encode(Request((tensor,), id=256, cut=2, acknowledged=0)): "id: got 256; allowed are 256",
    }  # fmt: skip

    async def run():
        async with Server(model, max_bytes=4096) as server:
            said = [await replies(server.port, data) for data in wrong]
            async with Device(model, port=server.port) as device:
                await device.prepare(2)
                device.cut = 2
                return said, await answers(device, inputs(1))

    said, output = asyncio.run(run())
    for messages, reason in zip(said, wrong.values(), strict=True):
        assert isinstance(messages[-1], Refusal)
        assert reason in messages[-1].reason
    np.testing.assert_allclose(output, expected(model, inputs(1)), atol=1e-5)


def test_the_same_request_is_computed_once(model):
    request = encode(Request((Tensor.of(np.zeros((1, 16), "float32")),), id=0, cut=2, acknowledged=0))
    later = encode(Request((Tensor.of(np.ones((1, 16), "float32")),), id=1, cut=2, acknowledged=1))

    async def run():
        async with Server(model) as server:
            data = encode(Hello("a client", model.digest))
            first = await replies(server.port, data + request, max_messages=2)
            again = await replies(server.port, data + request, max_messages=2)  # on another connection
            await replies(server.port, data + later, max_messages=2)
            # Once acknowledged it is forgotten: the old request gets no answer, the later one its own again.
            forgotten = await replies(server.port, data + request + later, max_messages=2)
            return server.computed, first, again, forgotten

    computed, first, again, forgotten = asyncio.run(run())
    assert computed == 2
    assert first == again
    assert isinstance(first[1], Answer)
    assert [one.id for one in forgotten[1:]] == [1]


def test_a_device_with_another_network_is_told(model):
    other = Model(model.fn, model.params[::-1], model.inputs, wire_bits=None)

    async def run():
        async with Server(model) as server:
            with pytest.raises(RefusedError, match="both need the same function, weights, inputs, wire bits"):
                async with Device(other, port=server.port):
                    pass

    asyncio.run(run())


def test_mistakes_of_the_caller(model):
    async def run():
        async with Server(model) as server, Device(model, port=server.port, queue=1) as device:
            with pytest.raises(ValueError, match=r"cut: got None; allowed are prepared ones: \[\]"):
                await device.infer(model.arrays())
            with pytest.raises(ValueError, match=r"cut: got 9; allowed is 0\.\.4"):
                await device.prepare(9)
            await device.prepare(2)
            device.cut = 2
            with pytest.raises(ValueError, match=r"arrays: got int32\[1, 16\]; allowed are float32\[1, 16\]"):
                await device.infer([np.ones((1, 16), "int32")])
            both = asyncio.gather(*(device.infer(model.arrays()) for _ in range(2)), return_exceptions=True)
            assert [type(one) for one in await both] == [list, asyncio.QueueFull]

    asyncio.run(run())
    for options in ({"queue": 0}, {"patience_s": 0.0}, {"uplink_bps": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(options)).replace('uplink', 'rate').split('_')[0]}"):
            Device(model, **options)
    with pytest.raises(ValueError, match="window: got 0"):
        Server(model, window=0)


def test_a_tail_that_fails_is_told(model):
    class Failing:
        name, digest, head = model.name, model.digest, model.head

        def tail(self, cut):
            raise RuntimeError(f"no memory for cut {cut}")

    async def run():
        async with Server(Failing()) as server, Device(model, port=server.port) as device:
            with pytest.raises(RefusedError, match="no memory for cut 2"):
                await device.prepare(2)

    asyncio.run(run())
