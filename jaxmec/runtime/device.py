"""The device: makes requests, runs heads, sends what crosses at the rate of the uplink, and takes the answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from jaxmec.runtime import link
from jaxmec.runtime.halves import Half, Source, check, median_s
from jaxmec.runtime.messages import (
    MAX_BYTES,
    Answer,
    Bye,
    Hello,
    Prepare,
    ProtocolError,
    Ready,
    Refusal,
    Request,
    Tensor,
    Welcome,
    encode,
    receive,
)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0  # between attempts to connect


class RefusedError(RuntimeError):
    """The server has refused this device; trying again would not help."""


class LostError(ConnectionError):
    """The server could not be reached for as long as the device was told to wait."""


@dataclasses.dataclass(frozen=True)
class StageTimes:
    """What a request takes at one cut, each stage alone."""

    device_s: float
    uplink_s: float
    server_s: float
    message_bytes: int  # 0 where nothing crosses


@dataclasses.dataclass
class Record:
    """What became of a request: times of the device's monotonic clock, except for the server's three, of its own.

    Where nothing crosses, uplink and server take no time at the end of the device's work.
    """

    id: int
    cut: int
    arrival_s: float  # as scheduled
    device_start_s: float = math.nan
    device_end_s: float = math.nan
    uplink_end_s: float = math.nan  # when its last byte was handed to the transport, the last time if sent again
    server_received_s: float = math.nan
    server_start_s: float = math.nan
    server_end_s: float = math.nan
    answer_s: float = math.nan
    message_bytes: int = 0
    attempts: int = 0  # at sending it

    @property
    def delay_s(self) -> float:
        """From its scheduled arrival to its answer."""
        return self.answer_s - self.arrival_s


@dataclasses.dataclass
class _Pending:
    """A request without an answer."""

    record: Record
    arrays: Sequence[np.ndarray]
    answered: asyncio.Future[Sequence[np.ndarray | None]]
    local: list[np.ndarray | None] = dataclasses.field(default_factory=list)  # outputs that the head computed
    message: bytes = b""


@dataclasses.dataclass(frozen=True)
class _Head:
    half: Half
    run: Callable


class Device:
    """One device that sends requests to one server, in three queues in a row: its own compute, uplink, server.

    After a lost connection it connects again and sends what is unanswered; an answer that comes twice counts once.

        async with Device(model, port=5717, uplink_bps=20e6) as device:
            times = await device.prepare(cut=5)
            device.cut = 5
            outputs = await device.infer(arrays)

    Args:
      source: where heads come from.
      host: of the server.
      port: of the server.
      uplink_bps: rate that the sender keeps to, bits per second; None for what the network gives.
      burst_bits: of the token bucket, see `jaxmec.runtime.TokenBucket`.
      queue: requests in the system at most; more are dropped as they arrive. The server's window may be less.
      patience_s: how long to try to reach a server that is gone.
      max_bytes: of one message.

    Raises:
      ValueError: for a rate, burst, queue or patience out of range.
    """

    def __init__(
        self,
        source: Source,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        uplink_bps: float | None = None,
        burst_bits: float = 0.0,
        queue: int = 256,
        patience_s: float = 30.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        for name, value in (("queue", queue), ("patience_s", patience_s), ("max_bytes", max_bytes)):
            if not value > 0:
                raise ValueError(f"{name}: got {value}; allowed is a number above 0")
        self.cut: int | None = None  # of the next requests; one that is prepared
        self.records: list[Record] = []  # of answered requests, as they were answered
        self.dropped = 0  # requests that found the system full
        self.repeated = 0  # answers that came for a request that had one
        self._source = source
        self._address = (host, port)
        self._bucket = None if uplink_bps is None else link.TokenBucket(uplink_bps, burst_bits)
        self._queue = queue
        self._patience_s = patience_s
        self._max_bytes = max_bytes
        self._client = uuid.uuid4().hex
        self._next_id = 0
        self._pending: dict[int, _Pending] = {}  # by id, oldest first
        self._heads: dict[int, _Head] = {}
        self._preparing = asyncio.Lock()
        self._asked: Prepare | None = None  # of the server, which has not said Ready
        self._ready: asyncio.Future[float | None]
        self._to_compute: asyncio.Queue[_Pending] = asyncio.Queue()  # bounded by `queue`, as all others
        self._to_send: deque[tuple[bytes, _Pending | None]] = deque()  # None: not a request
        self._something_to_send = asyncio.Event()
        self._connected = asyncio.Event()
        self._connected_s = 0.0
        self._leaving = False
        self._stopping = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, "head")  # one thread, so that requests are served one by one

    async def __aenter__(self) -> Device:
        """Connect.

        Raises:
          RefusedError: if the server runs another network, or has no room.
          LostError: if there is no server.
        """
        self._tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(self._compute())]
        try:
            await self._unless_failed(self._connected.wait())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Say goodbye and leave; requests without an answer are given up."""
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pending in self._pending.values():
            pending.answered.cancel()
        self._worker.shutdown(wait=True)

    async def prepare(self, cut: int, repeats: int = 0) -> StageTimes:
        """Compile both halves of a cut, while requests at other cuts go on; a second time only the times are new.

        Args:
          cut: row of the cut table.
          repeats: so often each side runs its half alone; times are medians, nan if 0.

        Returns:
          The three stages; the uplink's is the message's bits over the rate, zero without a rate.

        Raises:
          ValueError: for a cut that does not exist.
          RefusedError, LostError: as on entering.
        """
        head = self._heads[cut] if cut in self._heads else await asyncio.to_thread(_compiled, self._source, cut)
        half = head.half
        arrays = [np.zeros(spec.shape, spec.dtype) for spec in half.takes]
        run = partial(_request, head, arrays, 0, cut, 0)
        loop = asyncio.get_running_loop()
        message, _, _, _ = await loop.run_in_executor(self._worker, run)
        device_s = await loop.run_in_executor(self._worker, median_s, run, repeats) if repeats else math.nan
        server_s = await self._prepare_tail(Prepare(cut, repeats)) if half.sends else 0.0
        self._heads[cut] = head
        uplink_s = 8 * len(message) / self._bucket.rate_bps if self._bucket else 0.0
        return StageTimes(device_s, uplink_s, math.nan if server_s is None else server_s, len(message))

    async def _prepare_tail(self, message: Prepare) -> float | None:
        async with self._preparing:
            self._ready = asyncio.get_running_loop().create_future()
            self._asked = message
            self._to_send.appendleft((encode(message), None))
            self._something_to_send.set()
            try:
                return await self._unless_failed(self._ready)
            finally:
                self._asked = None

    async def infer(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One request at the present cut.

        Args:
          arrays: the inputs' leaves.

        Returns:
          The outputs' leaves.

        Raises:
          ValueError: for arrays of other shapes, or without a cut that is prepared.
          asyncio.QueueFull: if the system is full.
          RefusedError, LostError: as on entering.
        """
        answered = self._submit(arrays, time.monotonic())
        if answered is None:
            raise asyncio.QueueFull(f"queue: {self._queue} requests are unanswered, which is the limit")
        return list(await self._unless_failed(answered))

    def _submit(self, arrays: Sequence[np.ndarray], arrival_s: float) -> asyncio.Future | None:
        """A request that was due at a time; None if the system is full and the request dropped."""
        if self.cut not in self._heads:
            raise ValueError(f"cut: got {self.cut}; allowed are prepared ones: {sorted(self._heads)}")
        check(arrays, self._heads[self.cut].half.takes, "arrays")
        if self._next_id - next(iter(self._pending), self._next_id) >= self._queue:
            self.dropped += 1
            return None
        record = Record(self._next_id, self.cut, arrival_s)
        pending = _Pending(record, arrays, asyncio.get_running_loop().create_future())
        self._next_id += 1
        self._pending[record.id] = pending
        self._to_compute.put_nowait(pending)
        return pending.answered

    async def run(
        self,
        offsets_s: Iterable[float],
        inputs: Iterator[Sequence[np.ndarray]],
        cuts: Mapping[int, int] | None = None,
    ) -> None:
        """Requests by a schedule, until all are answered; `records` tells what became of them.

        Args:
          offsets_s: arrivals, seconds from now.
          inputs: arrays of each request.
          cuts: request -> prepared cut from that request on.

        Raises:
          ValueError, RefusedError, LostError: as `infer`.
        """
        start_s = time.monotonic()
        for index, offset_s in enumerate(offsets_s):
            await self._unless_failed(self._pause(start_s + offset_s - time.monotonic()))
            if self._stopping.is_set():
                break
            if cuts and index in cuts:
                self.cut = cuts[index]
            self._submit(next(inputs), start_s + offset_s)
        await self.drain()

    def stop(self) -> None:
        """Let `run` make no more requests; it still waits for the answers."""
        self._stopping.set()

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless told to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def drain(self) -> None:
        """Wait until every request is answered; raises as `run`."""
        while self._pending:
            await self._unless_failed(asyncio.wait([one.answered for one in self._pending.values()]))

    async def _unless_failed(self, awaitable: Any) -> Any:
        """Wait for something, or raise what has ended one of the tasks that it needs."""
        wanted = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait({wanted, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
            return wanted.result()
        finally:
            wanted.cancel()

    async def _compute(self) -> None:
        """The first queue."""
        loop = asyncio.get_running_loop()
        while True:
            pending = await self._to_compute.get()
            record, head = pending.record, self._heads[pending.record.cut]
            oldest = next(iter(self._pending))
            work = partial(_request, head, pending.arrays, record.id, record.cut, oldest)
            done = await loop.run_in_executor(self._worker, work)
            pending.message, pending.local, record.device_start_s, record.device_end_s = done
            record.message_bytes = len(pending.message)
            if pending.message:
                self._to_send.append((pending.message, pending))
                self._something_to_send.set()
            else:
                record.uplink_end_s = record.server_received_s = record.device_end_s
                record.server_start_s = record.server_end_s = record.device_end_s
                self._finish(pending, pending.local)

    async def _stay_connected(self) -> None:
        """Connect, work until the connection breaks, and again."""
        while True:
            reader, writer = await self._connect()
            sending = asyncio.create_task(self._send(writer))
            try:
                await self._receive(reader)
            except (asyncio.IncompleteReadError, OSError):
                pass  # whatever is unanswered is sent again
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                if self._leaving:
                    writer.write(encode(Bye()))
                writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that the server has welcomed, with all that is unanswered ready to be sent."""
        give_up_s, pause_s = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(give_up_s - time.monotonic()):
                    reader, writer = await asyncio.open_connection(*self._address)
                    link.watch(writer)
                    await self._greet(reader, writer)
                break
            except (OSError, asyncio.IncompleteReadError) as error:
                if time.monotonic() + pause_s > give_up_s:
                    where = "{}:{}".format(*self._address)
                    raise LostError(f"no server at {where} for {self._patience_s:g} s: {error}") from error
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._connected_s = time.monotonic()
        self._to_send = deque((one.message, one) for one in self._pending.values() if one.message)
        if self._asked is not None:
            self._to_send.appendleft((encode(self._asked), None))
        self._something_to_send.set()
        self._connected.set()
        return reader, writer

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say who this is, and hear whether that is welcome."""
        try:
            writer.write(encode(Hello(self._client, self._source.digest)))
            message = await receive(reader, "the server", self._max_bytes)
            if isinstance(message, Refusal):
                raise RefusedError(message.reason)
            if not isinstance(message, Welcome):
                raise ProtocolError(f"message from the server: got {type(message).__name__}; allowed is Welcome")
        except BaseException:
            writer.close()
            raise
        self._queue = min(self._queue, message.window)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """The second queue."""
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            while self._to_send:
                message, pending = self._to_send.popleft()
                if pending is None:
                    await link.send(writer, message)
                    continue
                if pending.answered.done():
                    continue  # by an answer to its last attempt
                pending.record.attempts += 1
                ready_s = max(pending.record.device_end_s, self._connected_s)
                await link.send(writer, message, self._bucket, ready_s)
                pending.record.uplink_end_s = time.monotonic()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        """Take what the server says, until the connection ends."""
        while True:
            message = await receive(reader, "the server", self._max_bytes)
            match message:
                case Answer():
                    self._take(message)
                case Ready():
                    # A second one, after a new connection, is of no interest.
                    if self._asked is not None and message.cut == self._asked.cut and not self._ready.done():
                        self._ready.set_result(message.service_s)
                case Refusal():
                    raise RefusedError(message.reason)
                case Bye():
                    return
                case _:
                    raise ProtocolError(f"message from the server: got {type(message).__name__} out of turn")

    def _take(self, answer: Answer) -> None:
        """The first answer of a request counts."""
        pending = self._pending.get(answer.id)
        if pending is None:
            self.repeated += 1
            return
        record = pending.record
        record.server_received_s, record.server_start_s = answer.received_s, answer.start_s
        record.server_end_s = answer.end_s
        if len(answer.tensors) != len(pending.local):
            raise ProtocolError(f"answer {answer.id}: got {len(answer.tensors)} outputs of {len(pending.local)}")
        outputs = [None if tensor is None else tensor.array() for tensor in answer.tensors]
        self._finish(pending, [a if b is None else b for a, b in zip(pending.local, outputs, strict=True)])

    def _finish(self, pending: _Pending, outputs: Sequence[np.ndarray | None]) -> None:
        pending.record.answer_s = time.monotonic()
        del self._pending[pending.record.id]
        self.records.append(pending.record)
        pending.answered.set_result(outputs)


def _compiled(source: Source, cut: int) -> _Head:
    half = source.head(cut)
    return _Head(half, half.compiled())


def _request(
    head: _Head, arrays: Sequence[np.ndarray], id: int, cut: int, acknowledged: int
) -> tuple[bytes, list[np.ndarray | None], float, float]:
    """From arrays to bytes, all that the device does for a request; what it computed itself, start and end."""
    start_s = time.monotonic()
    given, sends = head.run(arrays), head.half.sends
    tensors = tuple(Tensor.of(one) for one in given[:sends])
    message = encode(Request(tensors, id, cut, acknowledged)) if sends else b""
    return message, given[sends:], start_s, time.monotonic()
