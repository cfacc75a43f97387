"""The server: runs tails for any number of devices, one request after the other."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from jaxmec.runtime.halves import Half, Source, check, median_s
from jaxmec.runtime.link import watch
from jaxmec.runtime.messages import (
    MAX_BYTES,
    Answer,
    Bye,
    Hello,
    Message,
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

HELLO_S = 10.0  # within which a connection must say who it is
LINGER_S = 2.0  # that the last message of a connection may take
MAX_CLIENTS = 64  # devices that are remembered


@dataclasses.dataclass
class _Tail:
    half: Half
    run: Callable


@dataclasses.dataclass
class _Session:
    """A device, over all its connections."""

    client: str
    acknowledged: int = 0
    waiting: set[int] = dataclasses.field(default_factory=set)
    answered: dict[int, bytes] = dataclasses.field(default_factory=dict)  # until acknowledged
    writer: asyncio.StreamWriter | None = None  # None while it is away
    prepares: Prepare | None = None  # what it has asked for and not been told is ready
    preparing: asyncio.Task | None = None

    def send(self, data: bytes) -> None:
        if self.writer is not None and not self.writer.is_closing():
            self.writer.write(data)


class Server:
    """Answers requests first come, first served: a bounded queue and one thread that computes.

    A request that comes twice, because the connection broke before its answer arrived, is computed once: answers
    are kept until the device acknowledges them. Where the queue is full, the server stops reading, and TCP holds
    the devices back.

        async with Server(model, port=5717) as server:
            await asyncio.Event().wait()

    Args:
      source: where tails come from.
      host: the loopback device by default. There is neither authentication nor encryption: on another address,
        anyone who reaches the port may have work done.
      port: 0 for any that is free; see `port` once it runs.
      queue: requests that wait at most, over all devices.
      window: requests that one device may have unanswered.
      max_bytes: of one message.

    Raises:
      ValueError: for a queue or window below 1.
    """

    def __init__(
        self,
        source: Source,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        queue: int = 256,
        window: int = 256,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        for name, value in (("queue", queue), ("window", window), ("max_bytes", max_bytes)):
            if value < 1:
                raise ValueError(f"{name}: got {value}; allowed is a whole number of at least 1")
        self.host, self.port = host, port
        self.computed = 0  # requests, each once
        self._source = source
        self._window = window
        self._max_bytes = max_bytes
        self._queue: asyncio.Queue[tuple[_Session, Request, float]] = asyncio.Queue(queue)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._tails: dict[int, asyncio.Task[_Tail]] = {}
        self._worker = ThreadPoolExecutor(1, "tail")  # one thread, so that requests are served one by one
        self._connections: set[asyncio.StreamWriter] = set()
        self._stopping = False

    async def __aenter__(self) -> Server:
        """Listen."""
        self._listener = await asyncio.start_server(self._converse, self.host, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._computing = asyncio.create_task(self._compute())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take no more requests, answer those that wait, say goodbye."""
        self._stopping = True
        self._listener.close()
        await self._queue.join()
        self._computing.cancel()
        for writer in (open_ := list(self._connections)):
            writer.write(encode(Bye()))
            writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await asyncio.gather(*(writer.wait_closed() for writer in open_), return_exceptions=True)
        self._worker.shutdown(wait=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from Hello to its end."""
        host, port = writer.get_extra_info("peername")[:2]
        peer = f"{host}:{port}"
        watch(writer)
        self._connections.add(writer)
        session = None
        try:
            async with asyncio.timeout(HELLO_S):
                hello = await receive(reader, peer, self._max_bytes)
            session = self._session(hello, writer)
            writer.write(encode(Welcome(self._window)))
            while not isinstance(message := await receive(reader, peer, self._max_bytes), Bye):
                await self._take(session, message)
            self._sessions.pop(session.client, None)
        except ValueError as error:
            writer.write(encode(Refusal(str(error))))
            await _linger(reader, writer)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the device may come back
        finally:
            if session is not None and session.writer is writer:
                session.writer = None
            self._connections.discard(writer)
            writer.close()

    def _session(self, hello: Message, writer: asyncio.StreamWriter) -> _Session:
        """The session of the device that says hello; a new connection takes the old one's place."""
        if not isinstance(hello, Hello):
            raise ProtocolError(f"the first message: got {type(hello).__name__}; allowed is Hello")
        if hello.model != self._source.digest:
            raise ProtocolError(
                f"model: the device runs {hello.model[:12]}, the server {self._source.digest[:12]} "
                f"({self._source.name}); both need the same function, weights, inputs, wire bits and max_tensors"
            )
        session = self._sessions.get(hello.client)
        if session is None:
            self._make_room()
            session = self._sessions[hello.client] = _Session(hello.client)
        self._sessions.move_to_end(hello.client)
        if session.writer is not None:
            session.writer.close()
        session.writer = writer
        return session

    def _make_room(self) -> None:
        """Forget the device that has been away for longest, if there are too many."""
        if len(self._sessions) < MAX_CLIENTS:
            return
        away = next((client for client, session in self._sessions.items() if session.writer is None), None)
        if away is None:
            raise ProtocolError(f"devices: {MAX_CLIENTS} are connected, which is the limit")
        del self._sessions[away]

    async def _take(self, session: _Session, message: Message) -> None:
        """One message after Hello."""
        match message:
            case Request():
                await self._accept(session, message)
            case Prepare() if not session.prepares:
                # Beside the requests of other cuts, which go on.
                session.prepares = message
                session.preparing = asyncio.create_task(self._prepare(session, message))
            case Prepare() if message == session.prepares:
                pass  # asked again over a new connection, which will hear of it
            case _:
                raise ProtocolError(f"message: got {type(message).__name__}, which a server does not take now")

    async def _tail(self, cut: int) -> _Tail:
        """The compiled tail; compiling does not hold up the requests of other cuts."""
        if cut not in self._tails:
            self._tails[cut] = asyncio.create_task(asyncio.to_thread(_compiled, self._source, cut))
        try:
            return await asyncio.shield(self._tails[cut])
        except ValueError:
            self._tails.pop(cut, None)  # a client's mistake, of which any number is possible
            raise

    async def _prepare(self, session: _Session, message: Prepare) -> None:
        """Compile a tail and time it alone, in the thread that serves requests."""
        try:
            tail, service_s = await self._tail(message.cut), None
            if message.repeats:
                zeros = tuple(Tensor.of(np.zeros(spec.shape, spec.dtype)) for spec in tail.half.takes)
                run = partial(_answer, tail, Request(zeros, 0, message.cut, 0), 0.0)
                loop = asyncio.get_running_loop()
                service_s = await loop.run_in_executor(self._worker, median_s, run, message.repeats)
            session.send(encode(Ready(message.cut, service_s)))
        except Exception as error:  # of one cut; the server goes on
            session.send(encode(Refusal(str(error))))
        finally:
            session.prepares = None

    async def _accept(self, session: _Session, request: Request) -> None:
        """Queue a request, unless its answer is known or under way."""
        if request.acknowledged > session.acknowledged:
            session.acknowledged = request.acknowledged
            session.answered = {i: data for i, data in session.answered.items() if i >= request.acknowledged}
        if request.id >= session.acknowledged + self._window:
            raise ProtocolError(f"request: id: got {request.id}; allowed are {self._window} unanswered ones")
        if request.id in session.answered:
            session.send(session.answered[request.id])
        elif request.id >= session.acknowledged and request.id not in session.waiting and not self._stopping:
            received_s = time.monotonic()
            tail = await self._tail(request.cut)
            check([tensor.array() for tensor in request.tensors], tail.half.takes, "request: tensors")
            session.waiting.add(request.id)
            await self._queue.put((session, request, received_s))

    async def _compute(self) -> None:
        """Serve the queue for ever."""
        loop = asyncio.get_running_loop()
        while True:
            session, request, received_s = await self._queue.get()
            tail = await self._tail(request.cut)
            try:
                answer = await loop.run_in_executor(self._worker, _answer, tail, request, received_s)
                session.answered[request.id] = answer
                self.computed += 1
            except Exception as error:  # of one request; the server goes on
                answer = encode(Refusal(f"request {request.id}: {type(error).__name__}: {error}"))
            session.waiting.discard(request.id)
            session.send(answer)
            self._queue.task_done()


def _compiled(source: Source, cut: int) -> _Tail:
    half = source.tail(cut)
    return _Tail(half, half.compiled())


def _answer(tail: _Tail, request: Request, received_s: float) -> bytes:
    """From bytes to bytes, all that the server does for a request."""
    start_s = time.monotonic()
    outputs = tail.run([tensor.array() for tensor in request.tensors])
    tensors = tuple(None if one is None else Tensor.of(one) for one in outputs)
    return encode(Answer(received_s, start_s, time.monotonic(), tensors, request.id))


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Discard what still arrives until the other side has gone; closing on unread bytes would lose the refusal."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(LINGER_S):
            writer.write_eof()
            while await reader.read(2**16):
                pass
