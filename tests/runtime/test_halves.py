"""Halves of a model: their outputs, their digest, and files that need no model code."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from jax import export
from small_network import small

from jaxmec.runtime import Folder, Model, export_halves, load_half, load_model

ROOT = Path(__file__).parents[2]


def joined(head, tail, arrays):
    """What the two halves give together."""
    given = head.compiled()(arrays)
    crossing, local = given[: head.sends], given[head.sends :]
    remote = tail.compiled()(crossing) if head.sends else [None] * len(local)
    return [a if b is None else b for a, b in zip(local, remote, strict=True)]


@pytest.mark.parametrize("cut", [0, 2, 4])
def test_the_two_halves_give_what_the_network_gives(model, cut):
    (output,) = joined(model.head(cut), model.tail(cut), model.arrays())
    np.testing.assert_allclose(output, model.fn(model.params, *model.inputs), rtol=1e-5, atol=1e-6)


def test_outputs_stay_on_the_side_that_computes_them():
    def early_exit(weights, x):
        early = jnp.tanh(x @ weights[0])
        return {"early": early.sum(), "late": jnp.tanh(early @ weights[1]) @ weights[2]}

    model = Model(early_exit, [np.eye(4, dtype="float32")] * 3, (np.ones((1, 4), "float32"),), wire_bits=None)
    cut = model.table.labels.index("stage2 matmul")
    head = model.head(cut)
    assert head.sends == 1  # not the early output
    assert [one is None for one in head.gives[1:]] == [False, True]
    assert [one is None for one in model.tail(cut).gives] == [True, False]
    early, late = joined(head, model.tail(cut), model.arrays())
    assert early == pytest.approx(4 * np.tanh(1), rel=1e-6)
    np.testing.assert_allclose(late, np.full((1, 4), np.tanh(np.tanh(1))), rtol=1e-6)


def test_the_last_cut_sends_nothing(model):
    assert model.head(4).sends == 0
    assert model.tail(4).takes == ()


def test_a_digest_is_of_weights_network_and_options(model):
    assert small().digest == model.digest
    changed = [w.copy() for w in model.params]
    changed[3][0, 0] += 1e-3
    others = [
        Model(model.fn, changed, model.inputs, wire_bits=None),
        Model(model.fn, model.params[:3], model.inputs, wire_bits=None),
        Model(model.fn, model.params, (np.ones((2, 16), "float32"),), wire_bits=None),
        small(wire_bits=8),
    ]
    assert len({model.digest, *(one.digest for one in others)}) == 5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere:model", "No module named 'nowhere'"),
        ("runtime_models:none", "has no attribute 'none'"),
        ("runtime_models:broken", r"raised RuntimeError: no weights \[here\]"),
        ("runtime_models:wrong", r"returned int; allowed is \(fn, params, \*inputs\)"),
        ("runtime_models:shapes", "params: got shapes; halves run on arrays"),
    ],
)
def test_models_that_cannot_be_had(folder, monkeypatch, spec, message):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=message):
        load_model(spec)


def test_arrays_of_another_shape_are_told(model):
    with pytest.raises(ValueError, match=r"arrays: got float32\[2, 16\]; allowed are float32\[1, 16\]"):
        model.head(1).compiled()([np.ones((2, 16), "float32")])


OTHER_PROCESS = """
import sys
import numpy as np
from jaxmec.runtime import Folder, load_half
folder, x = sys.argv[1], np.load(sys.argv[1] + "/x.npy", allow_pickle=False)
head, tail = Folder(folder).head(2), load_half(folder + "/tail-2.half")
given = head.compiled()([x])
(output,) = tail.compiled()(given[: head.sends])
np.save(folder + "/y.npy", output)
"""


def test_files_run_in_a_process_without_the_model(tmp_path):
    pytest.importorskip("flatbuffers")
    model = small(wire_bits=8)
    files = export_halves(model, [2], tmp_path)
    assert [file.name for file in files] == ["head-2.half", "tail-2.half"]
    (x,) = model.arrays()
    np.save(tmp_path / "x.npy", x)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, str(tmp_path)], check=True, env=environment, cwd=tmp_path)
    expected = joined(model.head(2), model.tail(2), [x])[0]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-5, atol=1e-6)
    folder = Folder(tmp_path)
    assert folder.digest == model.digest
    # Two matrices of 16 x 16 float32 on either side.
    assert all(sum(w.nbytes for w in half.weights) == 2 * 4 * 256 for half in (folder.head(2), folder.tail(2)))


def test_a_program_takes_any_number_of_requests(tmp_path, model):
    pytest.importorskip("flatbuffers")
    head, _ = export_halves(model, [1], tmp_path)
    program = export.deserialize(bytearray(msgpack.unpackb(head.read_bytes()[32:])["program"]))
    x = np.arange(48, dtype="float32").reshape(3, 1, 16) / 48
    (crossing, local) = program.call([model.params[0]], [x])
    assert local is None
    np.testing.assert_allclose(crossing, np.tanh(x @ model.params[0]), rtol=1e-5)


def test_what_a_folder_does_not_hold_is_told(tmp_path, model):
    pytest.importorskip("flatbuffers")
    with pytest.raises(ValueError, match="holds no file"):
        Folder(tmp_path)
    export_halves(model, [1, 4], tmp_path)  # the last cut has no tail
    with pytest.raises(
        ValueError, match=r"cut: got 2, of which .* holds no head; it holds head-1.half, head-4.half"
    ):
        Folder(tmp_path).head(2)
    export_halves(small(wire_bits=8), [2], tmp_path)
    with pytest.raises(ValueError, match="halves of several models"):
        _ = Folder(tmp_path).digest


def rewritten(path, **fields):
    """A file with other content and a digest that fits it."""
    content = msgpack.packb(msgpack.unpackb(path.read_bytes()[32:]) | fields)
    path.write_bytes(hashlib.sha256(content).digest() + content)


def test_damaged_and_foreign_files_are_refused(tmp_path, model):
    pytest.importorskip("flatbuffers")
    head, tail = export_halves(model, [1], tmp_path)
    good = head.read_bytes()
    head.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match="damaged"):
        load_half(head)
    head.write_bytes(good)
    rewritten(head, format=2)
    with pytest.raises(ValueError, match="format: got 2; allowed is 1"):
        load_half(head)
    rewritten(tail, program=b"no program")
    with pytest.raises(ValueError, match="program: not readable"):
        load_half(tail)


def test_a_program_that_calls_foreign_code_is_refused(tmp_path, model):
    pytest.importorskip("flatbuffers")

    def foreign(weights, arrays):
        return [jax.ffi.ffi_call("open_a_door", jax.ShapeDtypeStruct((1, 16), jnp.float32))(arrays[0])]

    checks = [export.DisabledSafetyCheck.custom_call("open_a_door")]
    x = jax.ShapeDtypeStruct((1, 16), jnp.float32)
    program = export.export(jax.jit(foreign), disabled_checks=checks)([], [x])
    head, _ = export_halves(model, [1], tmp_path)
    rewritten(head, program=bytes(program.serialize()), weights=[], many=False)
    with pytest.raises(ValueError, match="program: it calls open_a_door; a half may only compute"):
        load_half(head)


def test_an_operation_that_cannot_be_stacked_takes_one_request(tmp_path):
    pytest.importorskip("flatbuffers")

    @jax.custom_batching.custom_vmap
    def alone(x):
        return jnp.tanh(x)

    @alone.def_vmap
    def _(*_):
        raise NotImplementedError("one at a time")

    model = Model(lambda w, x: alone(x @ w) @ w, np.eye(2, dtype="float32"), (np.ones((1, 2), "float32"),))
    export_halves(model, [1], tmp_path)
    folder = Folder(tmp_path)
    (output,) = joined(folder.head(1), folder.tail(1), model.arrays())
    np.testing.assert_allclose(
        output, np.full((1, 2), np.tanh(1)), rtol=1e-6
    )  # both values are the scale's largest
