"""Messages to an engine's process: what goes in comes out, and what is no message is refused."""

from __future__ import annotations

import json
import os
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.sampling.vllm.wire import (
    ITEM_BYTES,
    MAX_HEADER,
    Blob,
    Ended,
    Message,
    Pipe,
    TooLate,
    WireError,
    pieces,
    read,
)


@st.composite
def blobs(draw: st.DrawFn) -> Blob:
    dtype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = ITEM_BYTES[dtype]
    for length in shape:
        size *= length
    return Blob(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
heads = st.dictionaries(st.text(max_size=8).filter(lambda key: key != "arrays"), values, max_size=4)
messages = st.builds(Message, heads, st.dictionaries(st.text(max_size=8), blobs(), max_size=4))


def reader(data: bytes):
    at = 0

    def exactly(count: int) -> bytearray:
        nonlocal at
        if at + count > len(data):
            raise Ended
        at += count
        return bytearray(data[at - count : at])

    return exactly


@given(st.lists(messages, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_messages_come_out_as_they_went_in(sent: list[Message]) -> None:
    exactly = reader(b"".join(bytes(piece) for message in sent for piece in pieces(message)))
    for message in sent:
        got = read(exactly)
        assert got.head == message.head
        assert list(got.arrays) == list(message.arrays)
        for name, blob in message.arrays.items():
            other = got.arrays[name]
            assert (other.dtype, other.shape, bytes(other.data)) == (blob.dtype, blob.shape, bytes(blob.data))
    with pytest.raises(Ended):
        read(exactly)


@given(messages, st.data())
@settings(max_examples=60, deadline=None)
def test_a_message_that_is_cut_off_is_an_end_and_never_a_message(message: Message, data: st.DataObject) -> None:
    whole = b"".join(bytes(piece) for piece in pieces(message))
    with pytest.raises(Ended):
        read(reader(whole[: data.draw(st.integers(0, len(whole) - 1))]))


@given(st.binary(min_size=8, max_size=64))
@settings(max_examples=60, deadline=None)
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises((WireError, Ended)):
        read(reader(noise))


def framed(head: object, tail: bytes = b"", *, magic: bytes = b"FrL1") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<4sI", magic, len(text)) + text + tail


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (framed({"arrays": []}, magic=b"INFO"), "begins with b'INFO'"),
        (framed(b"{not json"), "cannot be read"),
        (framed(b"\xff\xfe"), "cannot be read"),
        (framed([1, 2]), "cannot be read"),
        (framed({}), "cannot be read"),
        (framed({"arrays": [["a", "float32", [2]]]}), "cannot be read"),
        (framed({"arrays": [["a", "float32", [2], 4]]}, bytes(4)), "which takes 8"),
        (framed({"arrays": [["a", "object", [1], 8]]}, bytes(8)), "'object' is not one of"),
        (framed({"arrays": [["a", "int8", [-1, -4], 4]]}, bytes(4)), "4 bytes for int8 [-1, -4]"),
        (framed({"arrays": [["a", "int8", [-4], -4]]}), "arrays of -4 bytes"),
        (framed({"arrays": [["a", "int8", [1 << 40], 1 << 40]]}), f"arrays of {1 << 40} bytes"),
        (struct.pack("<4sI", b"FrL1", MAX_HEADER + 1), f"a header of {MAX_HEADER + 1} bytes"),
    ],
)
def test_what_is_no_message_is_named(data: bytes, sentence: str) -> None:
    with pytest.raises(WireError) as caught:
        read(reader(data))
    assert sentence in str(caught.value)


def test_a_header_keeps_the_key_of_the_arrays_for_itself() -> None:
    with pytest.raises(WireError, match="'arrays' of its own"):
        pieces(Message({"arrays": 1}))


@pytest.fixture
def two_pipes():
    fds = [*os.pipe(), *os.pipe()]
    yield fds
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def test_more_than_a_pipe_holds_goes_through_and_back(two_pipes: list[int]) -> None:
    ours_in, theirs_out, theirs_in, ours_out = two_pipes
    big = Message({"do": "push"}, {"w": Blob("float32", (1000, 300), os.urandom(1_200_000))})
    theirs = Pipe(theirs_in, theirs_out)
    echo = threading.Thread(target=lambda: theirs.send(theirs.receive(10), 10))
    echo.start()
    ours = Pipe(ours_in, ours_out)
    ours.send(big, 10)
    back = ours.receive(10)
    echo.join()
    assert back.head == big.head
    assert bytes(back.arrays["w"].data) == big.arrays["w"].data
    assert back.nbytes == 1_200_000


def test_deadlines_hold_in_both_directions(two_pipes: list[int]) -> None:
    ours_in, _, _, ours_out = two_pipes
    pipe = Pipe(ours_in, ours_out)
    with pytest.raises(TooLate):
        pipe.receive(0.01)
    with pytest.raises(TooLate):  # nobody reads, and the pipe is full
        pipe.send(Message({}, {"w": Blob("int8", (1 << 20,), bytes(1 << 20))}), 0.05)


def test_a_closed_end_is_an_end_in_both_directions(two_pipes: list[int]) -> None:
    ours_in, theirs_out, theirs_in, ours_out = two_pipes
    pipe = Pipe(ours_in, ours_out)
    os.write(theirs_out, b"FrL1\x05")
    os.close(theirs_out)
    os.close(theirs_in)
    two_pipes[1] = two_pipes[2] = -1
    with pytest.raises(Ended):
        pipe.receive(1)
    with pytest.raises(Ended):
        pipe.send(Message({}), 1)
