"""Bytes to arrays and back; whatever does not fit is an InputError that says what is expected."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbaas.deploy.answers import Encoder
from nbaas.deploy.codec import JSON_BODY, decode_infer, inflated
from nbaas.deploy.fast import FastDecoder
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.deploy.plain import decode_plain
from nbaas.deploy.wire import decode_outputs, encode_inputs
from nbaas.errors import InputError

ONE = Signature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 2)),))
TWO = Signature(
    (TensorSpec("ids", "INT64", (-1, 4)), TensorSpec("mask", "BOOL", (-1, 4))),
    (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT64", (-1,))),
)


def infer(signature=ONE, /, **fields) -> list[np.ndarray]:
    entry = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} | fields
    body = json.dumps({"inputs": [entry]}).encode()
    return decode_infer(body, JSON_BODY, signature).arrays


def test_flat_and_nested_data_are_the_same_array():
    flat = infer(shape=[2, 3], data=[1, 2, 3, 4, 5, 6])[0]
    nested = infer(shape=[2, 3], data=[[1, 2, 3], [4, 5, 6]])[0]
    assert flat.dtype == np.float32
    assert np.array_equal(flat, nested)


@pytest.mark.parametrize(
    "datatype", ["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP64"]
)
def test_every_datatype_arrives_in_its_own_dtype(datatype):
    signature = Signature((TensorSpec("x", datatype, (-1, 2)),), ONE.outputs)
    data = [True, False] if datatype == "BOOL" else [1, 0]
    array = infer(signature, shape=[1, 2], datatype=datatype, data=data)[0]
    assert array.tolist() == [data]
    header, body = encode_inputs(array, signature)
    again = decode_infer(body, header, signature).arrays[0]
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"shape": [1, 2], "data": [1, 2]}, "input 'x': expected FP32 [-1,3], got FP32 [1,2]"),
        ({"shape": [3]}, "input 'x': expected FP32 [-1,3], got FP32 [3]"),
        ({"datatype": "INT64"}, "input 'x': expected FP32 [-1,3], got INT64 [1,3]"),
        ({"data": ["a", "b", "c"]}, "got `str`"),
        ({"data": [1, 2]}, "shape says [1, 3], data is [2]"),
        ({"data": [[1, 2, 3], [4, 5]]}, "the rows differ in length"),
        ({"data": {"a": 1}}, "no list of numbers"),
        ({"data": [None, 1, 2]}, "got `null`"),
        ({"data": [True, 1, 2]}, "got `bool`"),
        ({"shape": [-1, 3]}, "got FP32 [-1,3]"),
        ({"shape": [0, 3], "data": []}, "holds no row"),
        ({"name": "z"}, "there is no input 'z'"),
        ({"shape": "1,3"}, "Expected `array`"),
        ({"parameters": {"binary_data_size": 12}}, "binary_data_size is 12, 0 bytes follow"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_the_reason(fields, reason):
    with pytest.raises(InputError) as refused:
        infer(**fields)
    assert reason in str(refused.value)
    assert "FP32 [-1,3]" in str(refused.value) or "binary_data_size" in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nope", b"[]", b"{}", b"null", b"\xff\xfe", b'{"inputs":[]}', b"[" * 100_000,
     b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":' + b"[" * 100_000 + b"}]}"],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_the_signature(body):
    for decode in (lambda b: decode_infer(b, JSON_BODY, ONE), lambda b: decode_plain(b, ONE)):
        with pytest.raises(InputError) as refused:
            decode(body)
        assert refused.value.http_status == 400
        assert len(str(refused.value)) < 400


def test_an_integer_out_of_range_is_refused_not_wrapped():
    signature = Signature((TensorSpec("x", "UINT8", (-1, 1)),), ONE.outputs)
    for data in ([300], [-1], [2**70]):
        with pytest.raises(InputError):
            infer(signature, shape=[1, 1], datatype="UINT8", data=data)


def test_binary_tensors_are_read_without_a_copy_of_their_meaning():
    ids, mask = np.arange(8).reshape(2, 4), np.eye(2, 4).astype(bool)
    header, body = encode_inputs({"ids": ids, "mask": mask}, TWO)
    request = decode_infer(body, header, TWO)
    assert np.array_equal(request.arrays[0], ids)
    assert np.array_equal(request.arrays[1], mask)
    assert request.binary == {"a", "b"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h, b: (h, b[:-1]), "bytes follow"),
        (lambda h, b: (h, b + b"1"), "1 bytes follow the last"),
        (lambda h, b: (len(b) + 1, b), "the body has"),
        (lambda h, b: (0, b), "the body has"),
        (
            lambda h, b: (h, b.replace(b'"binary_data_size": 64', b'"binary_data_size": 60')),
            "takes 64",
        ),
        (
            lambda h, b: (h, b.replace(b'"binary_data_size": 64', b'"binary_data_size": -4')),
            "is -4",
        ),
        (lambda h, b: (h, b[:-8] + b"\x02" * 8), "a BOOL is a byte 0 or 1"),
    ],
)
def test_binary_data_of_another_length_is_refused(change, reason):
    ids, mask = np.arange(8).reshape(2, 4), np.zeros((2, 4), bool)
    header, body = change(*encode_inputs({"ids": ids, "mask": mask}, TWO))
    with pytest.raises(InputError, match=reason):
        decode_infer(body, header, TWO)


def test_inputs_must_hold_the_same_number_of_rows():
    body = json.dumps({"ids": [[1, 2, 3, 4]], "mask": [[True] * 4] * 2}).encode()
    with pytest.raises(InputError, match="ids 1, mask 2"):
        decode_plain(body, TWO)


@pytest.mark.parametrize(
    "body", [{"inputs": [[1, 2, 3]]}, {"instances": [[1, 2, 3]]}, [[1, 2, 3]], {"x": [[1, 2, 3]]},
             {"inputs": {"x": [[1, 2, 3]]}}]
)  # fmt: skip
def test_the_plain_form_takes_lists_as_people_write_them(body):
    request = decode_plain(json.dumps(body).encode(), ONE)
    assert request.arrays[0].tolist() == [[1, 2, 3]]


def test_one_row_without_batch_dimension_is_answered_without_one():
    request = decode_plain(b"[1, 2, 3]", ONE)
    assert request.squeeze
    _, answer = Encoder("m", "1", ONE).encode(request, [np.array([[0.5, 1.5]], "f4")])
    assert json.loads(answer) == {"outputs": [0.5, 1.5], "model_version": "1"}


def test_an_answer_says_model_version_and_id():
    body = json.dumps(
        {
            "id": "7",
            "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}],
        }
    ).encode()
    request = decode_infer(body, JSON_BODY, ONE)
    length, answer = Encoder("m", "4", ONE).encode(request, [np.array([[0.5, -1.0]], "f4")])
    assert length == JSON_BODY
    assert json.loads(answer) == {
        "model_name": "m",
        "model_version": "4",
        "id": "7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}],
    }


def test_outputs_can_be_chosen_and_mixed_between_json_and_binary():
    asked = {
        "inputs": [
            {"name": "ids", "shape": [1, 4], "datatype": "INT64", "data": [1, 2, 3, 4]},
            {"name": "mask", "shape": [1, 4], "datatype": "BOOL", "data": [True] * 4},
        ],
        "outputs": [{"name": "b"}, {"name": "a", "parameters": {"binary_data": True}}],
    }
    request = decode_infer(json.dumps(asked).encode(), JSON_BODY, TWO)
    arrays = [np.array([[1.5, 2.5]], "f4"), np.array([9])]
    length, answer = Encoder("m", "1", TWO).encode(request, arrays)
    described = json.loads(answer[:length])["outputs"]
    assert [entry["name"] for entry in described] == ["b", "a"]
    assert described[0]["data"] == [9]
    assert np.frombuffer(answer[length:], "f4").tolist() == [1.5, 2.5]
    outputs = decode_outputs(answer, {"Inference-Header-Content-Length": str(length)})
    assert outputs["a"].tolist() == [[1.5, 2.5]]


def test_an_unknown_output_is_refused():
    asked = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}],
             "outputs": [{"name": "logits"}]}  # fmt: skip
    with pytest.raises(InputError, match="there is no output 'logits'"):
        decode_infer(json.dumps(asked).encode(), JSON_BODY, ONE)


def test_bfloat16_travels_as_its_sixteen_bits():
    import torch

    signature = Signature((TensorSpec("x", "BF16", (-1, 2)),), (TensorSpec("y", "BF16", (-1, 2)),))
    header, body = encode_inputs(torch.tensor([[1.5, -2.0]]), signature)
    request = decode_infer(body, header, signature)
    length, answer = Encoder("m", "1", signature).encode(request, request.arrays)
    assert decode_outputs(answer, {"inference-header-content-length": str(length)}).tolist() == [
        [1.5, -2]
    ]


def test_a_compressed_body_is_inflated_up_to_the_limit():
    text = b"1" * 1000
    assert inflated(gzip.compress(text), "gzip", 1000) == text
    with pytest.raises(InputError, match="over 999 bytes"):
        inflated(gzip.compress(text), "gzip", 999)
    with pytest.raises(InputError, match="ends too early"):
        inflated(gzip.compress(text)[:-9], "gzip", 2000)
    with pytest.raises(InputError, match="is not deflate"):
        inflated(text, "deflate", 2000)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.zeros((1, 3), "U1"), "got <U1"),
        ([[1, 2], [3]], "differ in length"),
        ({"z": [1]}, "there is no input 'z'"),
        ({}, "input 'x' is missing"),
    ],
)
def test_a_client_refuses_what_cannot_be_sent(value, reason):
    with pytest.raises(InputError, match=reason):
        encode_inputs(value, ONE)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries(
        {}, optional={"inputs": JSON_VALUES, "outputs": JSON_VALUES, "id": JSON_VALUES}
    )
    | JSON_VALUES
)
def test_any_json_is_either_decoded_or_refused(content):
    body = json.dumps(content).encode()
    for signature in (ONE, TWO):
        for decode in (lambda b, s: decode_infer(b, JSON_BODY, s), decode_plain):
            try:
                request = decode(body, signature)
            except InputError:
                continue
            assert len(request.arrays) == len(signature.inputs)


NUMBERS = st.integers(-3, 300) | st.floats(width=32) | st.booleans() | st.none()
ROWS = st.lists(
    st.lists(NUMBERS, min_size=3, max_size=3) | st.lists(NUMBERS, max_size=4), max_size=3
)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.sampled_from(["FP32", "INT8", "UINT8", "BOOL", "FP64"]), st.integers(0, 2))
def test_the_fast_path_gives_what_the_careful_one_gives_or_nothing(rows, datatype, form):
    signature = Signature((TensorSpec("x", datatype, (-1, 3)),), ONE.outputs)
    flat = [cell for row in rows for cell in row]
    entry = {"name": "x", "shape": [len(rows), 3], "datatype": datatype, "data": flat}
    body = json.dumps([rows, {"inputs": rows}, {"inputs": [entry], "id": "7"}][form]).encode()
    fast = FastDecoder(signature)
    quick = fast.infer(body) if form == 2 else fast.plain(body)
    try:
        careful = (
            decode_infer(body, JSON_BODY, signature) if form == 2 else decode_plain(body, signature)
        )
    except InputError:
        assert quick is None
        return
    if quick is not None:
        assert np.array_equal(quick.arrays[0], careful.arrays[0], equal_nan=datatype[:2] == "FP")
        assert quick.arrays[0].dtype == careful.arrays[0].dtype
        assert (quick.id, quick.style, quick.squeeze) == (
            careful.id,
            careful.style,
            careful.squeeze,
        )


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(-1, 250))
def test_any_bytes_are_either_decoded_or_refused(body, header_length):
    for decode in (lambda: decode_infer(body, header_length, ONE), lambda: decode_plain(body, ONE)):
        try:
            decode()
        except InputError:
            continue
