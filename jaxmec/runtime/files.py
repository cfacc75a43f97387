"""Halves as files: a StableHLO program and its weights, so that the other side needs no model code.

A file is the SHA-256 of its content, then a msgpack mapping: the program as `jax.export` serialises it and the
weights as bytes. Reading one runs nothing of the writer's: no pickle, no import, and StableHLO operations can only
compute. Those that could reach outside (calls of foreign code, transfers to the host) are refused. The digest
tells damage, not intent: where files come from others, compare it with one from a place you trust.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import msgpack
from jax import export

from jaxmec.config import build
from jaxmec.extras import optional
from jaxmec.runtime.halves import Half, Model
from jaxmec.runtime.messages import Tensor

FORMAT = 1
Side = Literal["head", "tail"]
_DIGEST_BYTES = hashlib.sha256().digest_size
_CUSTOM_CALLS = re.compile(r"custom_call[^@\n]*@(\w+)|call_target_name = \"([^\"]*)\"")
# Checks of symbolic shapes, annotations, and factorisations of LAPACK's and their relatives on GPUs.
_ALLOWED_CALLS = re.compile(r"shape_assertion|Sharding|(lapack|cusolver|cublas|hipsolver|hipblas)_\w+_ffi")
_HOST_TRANSFERS = re.compile(r"stablehlo\.(infeed|outfeed|send|recv)\b")


@dataclasses.dataclass(frozen=True)
class _File:
    """What a file holds."""

    format: int
    name: str
    model: str  # digest of the model that was cut
    cut: int
    side: Side
    sends: int
    many: bool  # takes any number of requests: arrays have a leading axis [R]
    program: bytes
    weights: tuple[Tensor, ...]


def export_halves(
    model: Model, cuts: Sequence[int], folder: str | Path, platforms: Sequence[str] | None = None
) -> list[Path]:
    """Write head and tail of some cuts, `head-CUT.half` and `tail-CUT.half`, each with the weights it needs.

    Where the operations allow it, a program takes any number R of requests at once: every array has a leading axis
    [R]. Where they do not, it takes one.

    Args:
      model: what to cut.
      cuts: rows of its table. At the last one the device computes everything, and there is no tail.
      folder: made if absent.
      platforms: on which the programs shall run, such as ("cpu", "cuda"); this machine's if absent.

    Returns:
      The files.

    Raises:
      ValueError: as `Model.head`; for a network that calls foreign code.
    """
    optional("flatbuffers", "runtime")
    written = []
    for cut in cuts:
        sides: dict[Side, Half] = {"head": model.head(cut)}
        if sides["head"].sends:
            sides["tail"] = model.tail(cut)
        for side, half in sides.items():
            path = _path(Path(folder), side, cut)
            many, program = _exported(half, platforms)
            _refuse_side_effects(program.mlir_module(), path)
            weights = tuple(Tensor.of(one) for one in half.weights)
            content = bytes(program.serialize())
            _write(path, _File(FORMAT, model.name, model.digest, cut, side, half.sends, many, content, weights))
            written.append(path)
    return written


def load_half(path: str | Path) -> Half:
    """Read a half; no model code is needed. It takes one request, whatever the program can do.

    Raises:
      ValueError: for a file that is damaged, of another format, or whose program could do more than compute.
      OSError: if it cannot be read.
    """
    return _half(_read(Path(path)), path)


class Folder:
    """The halves of a folder, as a source of `Server` and `Device`; each side needs only its own files.

    Raises:
      ValueError: if a folder holds no halves, halves of several models, or damaged ones.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read the names of the halves; programs are read when they are needed."""
        self._folder = Path(folder)
        self._paths = sorted(self._folder.glob("*.half"))
        if not self._paths:
            raise ValueError(f"halves: {folder} holds no file *.half; `export_halves` writes them")

    @cached_property
    def _about(self) -> _File:
        files = [_read(path) for path in self._paths]
        if len({file.model for file in files}) > 1:
            raise ValueError(f"halves: {self._folder} holds halves of several models; allowed is one")
        return dataclasses.replace(files[0], program=b"", weights=())

    @property
    def name(self) -> str:
        """Of the model."""
        return self._about.name

    @property
    def digest(self) -> str:
        """Of the model."""
        return self._about.model

    def head(self, cut: int) -> Half:
        """The device's half; ValueError if the folder does not hold it."""
        return self._load("head", cut)

    def tail(self, cut: int) -> Half:
        """The server's half; ValueError if the folder does not hold it."""
        return self._load("tail", cut)

    def _load(self, side: Side, cut: int) -> Half:
        path = _path(self._folder, side, cut)
        if path not in self._paths:
            there = ", ".join(one.name for one in self._paths)
            raise ValueError(f"cut: got {cut}, of which {self._folder} holds no {side}; it holds {there}")
        return load_half(path)


def _path(folder: Path, side: Side, cut: int) -> Path:
    return folder / f"{side}-{cut}.half"


def _exported(half: Half, platforms: Sequence[str] | None) -> tuple[bool, export.Exported]:
    """Whether the program takes many requests, and the program."""
    weights = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in half.weights]
    (requests,) = export.symbolic_shape("R")
    many = [jax.ShapeDtypeStruct((requests, *one.shape), one.dtype) for one in half.takes]
    try:
        stacked = jax.jit(jax.vmap(half.function, (None, 0)))
        return True, export.export(stacked, platforms=platforms)(weights, many)
    except (NotImplementedError, TypeError, ValueError):  # an operation without a rule for symbolic shapes
        return False, export.export(jax.jit(half.function), platforms=platforms)(weights, list(half.takes))


def _half(file: _File, path: str | Path) -> Half:
    optional("flatbuffers", "runtime")
    try:
        program = export.deserialize(bytearray(file.program))
        text = program.mlir_module()
    except Exception as error:  # whatever the two parsers raise on foreign bytes
        raise ValueError(f"{path}: program: not readable: {type(error).__name__}: {error}") from None
    _refuse_side_effects(text, path)
    weights = [one.array() for one in file.weights]
    takes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in program.in_avals[len(weights) :]]
    if not file.many:
        return _of(program.call, weights, takes, file.sends)

    def one_request(weights: list, arrays: list) -> list:
        given = program.call(weights, [array[None] for array in arrays])
        return [None if array is None else array[0] for array in given]

    single = [jax.ShapeDtypeStruct(one.shape[1:], one.dtype) for one in takes]
    return _of(one_request, weights, single, file.sends)


def _of(function: Any, weights: list, takes: list[jax.ShapeDtypeStruct], sends: int) -> Half:
    return Half(function, weights, tuple(takes), tuple(jax.eval_shape(function, weights, takes)), sends)


def _refuse_side_effects(text: str, path: str | Path) -> None:
    """Raise ValueError for a program that does more than compute."""
    named = [first or second for first, second in _CUSTOM_CALLS.findall(text)]
    foreign = [name for name in named if not _ALLOWED_CALLS.fullmatch(name)]
    if len(named) < text.count("custom_call"):
        foreign.append("one that is not named")
    foreign += _HOST_TRANSFERS.findall(text)
    if foreign:
        raise ValueError(f"{path}: program: it calls {', '.join(sorted(set(foreign)))}; a half may only compute")


def _write(path: Path, file: _File) -> None:
    """Write beside and rename."""
    content = msgpack.packb(vars(file), default=vars)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_bytes(hashlib.sha256(content).digest() + content)
    beside.replace(path)


def _read(path: Path) -> _File:
    digest, content = (whole := path.read_bytes())[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path}: damaged: its digest does not match its content")
    try:
        fields = msgpack.unpackb(content, strict_map_key=True)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"{path}: not readable: {type(error).__name__}: {error}") from None
    version = fields.get("format") if isinstance(fields, dict) else None
    if version != FORMAT:
        raise ValueError(f"{path}: format: got {version!r}; allowed is {FORMAT}")
    return build(_File, fields, path)
