"""The two commands as processes on loopback: what they print, what they survive, and the queues' recursion."""

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from small_network import small

from jaxmec.runtime import Device, arrivals, export_halves, tandem_delays_s
from jaxmec.runtime.__main__ import main
from jaxmec.runtime.namespace import BURST_BYTES, limited_link

MODEL = ("--model", "runtime_models:small", "--wire-bits", "32")


def serving(process):
    """The port of a server, once it listens."""
    line = process.stdout.readline()
    found = re.fullmatch(r"serving \S+ \(\w{12}\) on 127\.0\.0\.1:(\d+)\n", line)
    assert found, line + process.stdout.read()
    return int(found[1])


def finish(process):
    text, _ = process.communicate(timeout=60)
    return process.returncode, text


def test_a_run_by_command_obeys_the_recursion(start, folder):
    server = start("server", *MODEL, "--port", 0)
    port = serving(server)
    flags = (*MODEL, "--port", port, "--cut", 1, "--rate", 200, "--uplink", 1e6, "--repeats", 3)
    killed = start("device", *flags, "--requests", 100_000)
    assert "halves compiled and timed alone" in killed.stdout.readline()
    killed.kill()
    # The server has lost a device in the middle and serves the next one.
    code, text = finish(start("device", *flags, "--requests", 100, "--switch", "80:4", "--out", folder / "r.csv"))
    assert code == 0, text
    assert "cut 1: 80 poisson requests at 200 Hz" in text
    assert "cut 4: 20 poisson requests at 200 Hz" in text
    assert "answered: 100; dropped as the system was full: 0" in text
    server.send_signal(signal.SIGTERM)
    code, text = finish(server)
    assert (code, text.startswith("stopped; requests computed: ")) == (0, True), text

    table = np.genfromtxt(folder / "r.csv", delimiter=",", names=True)
    one = table[table["cut"] == 1]
    assert one["id"].tolist() == list(range(80))
    # Arrivals are those of the schedule, however late the loop woke.
    np.testing.assert_allclose(np.diff(one["arrival_s"]), np.diff(arrivals("poisson", 200.0, 80)), atol=1e-9)
    # Each stage serves one request at a time, in order, and not before it is there. One machine has one clock.
    stages = (
        ("arrival_s", "device_start_s", "device_end_s"),
        ("server_received_s", "server_start_s", "server_end_s"),
    )
    for ready, begin, end in stages:
        assert (one[begin][1:] >= one[end][:-1]).all()
        assert (one[begin] >= one[ready]).all()
    # A message leaves no earlier than its bits after it was ready and after the one before.
    wire_s = 8 * one["message_bytes"] / 1e6
    before = np.concatenate([[-np.inf], one["uplink_end_s"][:-1]])
    assert (one["uplink_end_s"] >= one["device_end_s"] + wire_s - 1e-6).all()
    assert one["uplink_end_s"][-1] - one["device_end_s"][0] >= wire_s.sum() - 1e-6
    assert (one["uplink_end_s"] >= before).all()
    # So no request is faster than the recursion with these very services says.
    services = np.stack(
        [one["device_end_s"] - one["device_start_s"], wire_s, one["server_end_s"] - one["server_start_s"]], axis=-1
    )
    assert (one["answer_s"] - one["arrival_s"] >= tandem_delays_s(one["arrival_s"], services) - 1e-6).all()


def test_a_server_that_is_killed_and_started_again_loses_and_repeats_nothing(start):
    model = small()
    requests = [[np.random.default_rng(i).normal(0, 1, (1, 16)).astype("float32")] for i in range(150)]
    server = start("server", *MODEL, "--port", 0)
    port = serving(server)

    async def run():
        async with Device(model, port=port, uplink_bps=2e6) as device:
            await device.prepare(2)
            device.cut = 2
            asked = [asyncio.create_task(device.infer(arrays)) for arrays in requests]
            while len(device.records) < 20:
                await asyncio.sleep(0.001)
            server.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.1)  # some requests go out and are not answered
            server.kill()
            server.wait()
            answered = len(device.records)
            again = start("server", *MODEL, "--port", port)
            await asyncio.to_thread(serving, again)
            return await asyncio.gather(*asked), device, answered

    outputs, device, answered = asyncio.run(run())
    assert 20 <= answered < 150
    assert sorted(one.id for one in device.records) == list(range(150))
    assert sum(one.attempts > 1 for one in device.records) > 0
    assert device.repeated == 0
    for arrays, (output,) in zip(requests, outputs, strict=True):
        np.testing.assert_allclose(output, model.fn(model.params, *arrays), atol=1e-5)


def test_both_sides_from_files_alone(start, folder):
    pytest.importorskip("flatbuffers")
    model = small(wire_bits=8)
    export_halves(model, [2], folder / "halves")
    np.savez(folder / "inputs.npz", np.ones((3, 1, 16), "float32"))
    server = start("server", "--halves", "halves", "--port", 0)
    port = serving(server)
    flags = ("--halves", "halves", "--port", port, "--cut", 2, "--rate", 100, "--arrivals", "clocked")
    code, text = finish(start("device", *flags, "--requests", 20, "--inputs", "inputs.npz", "--repeats", 2))
    assert code == 0, text
    assert "cut 2: 20 clocked requests at 100 Hz" in text

    async def one_request():
        async with Device(model, port=port) as device:  # a model on this side, a file on the other
            await device.prepare(2)
            device.cut = 2
            await device.run(np.zeros(1), itertools.repeat(model.arrays()))
            return await device.infer(model.arrays())

    (output,) = asyncio.run(one_request())
    np.testing.assert_allclose(output, model.fn(model.params, *model.inputs), atol=0.1)
    server.send_signal(signal.SIGINT)
    assert finish(server) == (0, "stopped; requests computed: 22\n")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(not (shutil.which("ip") and shutil.which("tc")), reason="needs ip and tc")
def test_a_real_link_keeps_to_its_rate():
    with contextlib.ExitStack() as stack:
        try:
            link = stack.enter_context(limited_link(2e6))
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        asyncio.run(received_over(link))
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert link.server_command[-1] not in names  # gone with the block


RECEIVE = """
import socket, sys, time
with socket.create_server((sys.argv[1], 5718)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    start_s, count = None, 0
    while data := connection.recv(2**16):
        start_s, count = start_s or time.monotonic(), count + len(data)
    print(count, time.monotonic() - start_s)
"""


async def received_over(link):
    command = [*link.server_command, sys.executable, "-c", RECEIVE, link.server_host]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    _, writer = await asyncio.open_connection(link.server_host, 5718)
    writer.write(bytes(200_000))
    await writer.drain()
    writer.close()
    count, seconds = (float(word) for word in (await asyncio.to_thread(process.communicate))[0].split())
    assert count == 200_000
    assert seconds >= 8 * (200_000 - 2 * BURST_BYTES) / 2e6  # the first frames leave at once


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("server",), "allowed is one of --model and --halves"),
        (("server", "--model", "nowhere:model"), "No module named 'nowhere'"),
        (("server", "--halves", "nowhere"), "nowhere holds no file *.half"),
        (("server", *MODEL, "--core", "4096"), "core: got 4096; allowed are cores of this machine"),
        (("server", *MODEL, "--queue", "0"), "queue: got 0; allowed is a whole number of at least 1"),
        (("device", *MODEL, "--rate", "0"), "rate: got 0.0; allowed is a finite number above 0"),
        (("device", *MODEL, "--uplink", "-1"), "rate_bps: got -1.0"),
        (("device", *MODEL, "--switch", "5"), "switch: got '5'; allowed is REQUEST:CUT, such as 100:3"),
        (("device", *MODEL, "--port", "1", "--patience", "0.1"), "no server at 127.0.0.1:1 for 0.1 s"),
        (("link", "--uplink", "0"), "uplink: got 0.0; allowed is a finite number above 0"),
        (("device", "--model", "runtime_models:broken"), "raised RuntimeError: no weights [here]"),
        (
            ("export", "--model", "runtime_models:small", "--cuts", "9", "--out", "x"),
            "cut: got 9; allowed is 0..4",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(folder, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(folder)
    assert main([str(flag) for flag in flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
