"""Following the Runtime API's messages: heads are read, bodies never, and what cannot be followed is not guessed at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.egress.relay import Responses, answers, asks_for_next

NEXT = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: %s\r\nContent-Length: %d\r\n\r\n%s"
FORGED = b"\r\n\r\nHTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: forged\r\nContent-Length: 0\r\n\r\n"

bodies = st.binary(max_size=64) | st.just(FORGED)


def chunked(body: bytes) -> bytes:
    """A body in chunks of seven bytes."""
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: 1\r\n\r\n"


@given(st.lists(st.tuples(st.booleans(), bodies), max_size=5), st.lists(st.integers(1, 50), max_size=20))
def test_any_cut_of_the_stream_says_the_same(messages: list[tuple[bool, bytes]], cuts: list[int]) -> None:
    """However a stream of responses is cut into pieces, each id is seen in its turn and no body is taken for a head."""
    stream = b"HTTP/1.1 100 Continue\r\n\r\n"
    for i, (plain, body) in enumerate(messages):
        if plain:
            stream += NEXT % (b"id-%d" % i, len(body), body)
        else:
            head = b"HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: id-%d\r\nTransfer-Encoding: chunked\r\n\r\n" % i
            stream += head + chunked(body)
    stream += b"HTTP/1.1 204 No Content\r\n\r\n"
    responses = Responses()
    seen: list[str] = []
    at = 0
    for size in [*cuts, len(stream)]:
        responses.feed(stream[at : at + size])
        at += size
        if responses.request and (not seen or seen[-1] != responses.request):
            seen.append(responses.request)
    assert responses.finished == len(messages) + 1
    assert "forged" not in seen
    assert not messages or seen[-1] == f"id-{len(messages) - 1}"


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_anything_at_all(pieces: list[bytes]) -> None:
    """Arbitrary bytes raise nothing."""
    responses = Responses()
    for piece in pieces:
        responses.feed(piece)
        assert not asks_for_next(piece)
        assert answers(piece) is None or b"invocation" in piece


def test_what_ends_with_the_connection_is_followed_no_further() -> None:
    """A response without a length may hold anything: nothing behind its head is read."""
    responses = Responses()
    responses.feed(b"HTTP/1.1 200 OK\r\n\r\n" + FORGED)
    assert (responses.request, responses.finished) == (None, 0)


def test_request_lines() -> None:
    """Which lines ask for the next invocation, and which answer one."""
    assert asks_for_next(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1")
    assert answers(b"POST /2018-06-01/runtime/invocation/ab-1/response HTTP/1.1") == "ab-1"
    assert answers(b"POST /2018-06-01/runtime/invocation/ab-1/error HTTP/1.1") == "ab-1"
    assert answers(b"POST /2018-06-01/runtime/init/error HTTP/1.1") is None
