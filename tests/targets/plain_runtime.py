"""A runtime on http.client and raw sockets; each event's "do" names what it does with that invocation.

PLAIN_INIT chooses what happens before the first /next: error, restore-error, exit N, kill N, hang, hang-once.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
BASE = "/2018-06-01/runtime/"
Event = dict[str, Any]


class CountingConnection(http.client.HTTPConnection):
    """Knows how often it had to connect."""

    connects = 0

    def connect(self) -> None:
        """Connect and count."""
        super().connect()
        self.connects += 1


connection = CountingConnection(API)
last_status = 0


def call(method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
    """Send one request on the kept connection and return the response, whose body is in `.data`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, BASE + path, body, named)
    response = connection.getresponse()
    response.data = response.read()  # type: ignore[attr-defined]
    return response


def raw(data: bytes, *, read: bool = True) -> bytes:
    """Send bytes on a connection of their own and return what comes back until the server closes."""
    host, port = API.split(":")
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(data)
        if not read:
            return b""
        peer.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: peer.recv(65536), b""))


def stream(request_id: str, event: Event) -> None:
    """Send a streamed response of "chunks" pieces of 64 KiB, with the event's trailers and end."""
    trailers = event.get("trailers", {})
    head = (
        f"POST {BASE}invocation/{request_id}/response HTTP/1.1\r\nHost: {API}\r\n"
        "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
        "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
    )
    data = head.encode() + (b"10000\r\n" + b"s" * 65536 + b"\r\n") * event.get("chunks", 1)
    if event.get("end", True):
        tail = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
        data += f"0\r\n{tail}\r\n".encode()
    raw(data)


def initialise(what: str) -> None:
    """Do what PLAIN_INIT asks for."""
    word, _, number = what.partition(" ")
    document = json.dumps({"errorType": "Plain.Broken", "errorMessage": "no luck", "stackTrace": []}).encode()
    if word == "error":
        call("POST", "init/error", document, Lambda_Runtime_Function_Error_Type="Runtime.PlainBroken")
        sys.exit(7)
    if word == "restore-error":
        assert call("GET", "restore/next").status == 200
        assert call("GET", "restore/next").status == 403
        call("POST", "restore/error", document, Lambda_Runtime_Function_Error_Type="nonsense")
        sys.exit(65)
    if word == "exit":
        os._exit(int(number))
    if word == "kill":
        os.kill(os.getpid(), int(number))
    if word == "hang" or (word == "hang-once" and not Path("hung").exists()):
        Path("hung").touch()
        time.sleep(600)


def probe(request_id: str, attempt: str) -> dict[str, int]:
    """Return the status of requests that do not fit the state."""
    result = f"invocation/{request_id}/response"
    return {
        "next in flight": call("GET", "invocation/next").status,
        "init/error after init": call("POST", "init/error", b"{}").status,
        "restore/next after init": call("GET", "restore/next").status,
        "wrong id": call("POST", "invocation/wrong/response", b"{}").status,
        "wrong attempt": call("POST", result, b"{}", Lambda_Runtime_Invocation_Id=attempt + "x").status,
        "unknown path": call("GET", "invocation/last").status,
        "wrong method": call("POST", "invocation/next", b"{}").status,
    }


def serve(event: Event, request_id: str, headers: dict[str, str]) -> None:
    """Do what one event asks for."""
    global last_status
    attempt = headers.get("lambda-runtime-invocation-id", "")
    result: Any = {"event": event}
    match event["do"]:
        case "look":
            result = {
                "headers": headers,
                "environ": dict(os.environ),
                "connects": connection.connects,
                "last_status": last_status,
                "pid": os.getpid(),
                "pgid": os.getpgid(0),
                "cwd": str(Path.cwd()),
                "fds": sorted(int(name) for name in os.listdir("/proc/self/fd")),
            }
        case "probe":
            result = probe(request_id, attempt)
        case "error":
            document = json.dumps({"errorType": "ValueError", "errorMessage": "boom", "stackTrace": []})
            body = event.get("body", document).encode()
            last_status = call(
                "POST", f"invocation/{request_id}/error", body, **event.get("headers", {})
            ).status
            return
        case "exit":
            os._exit(event["status"])
        case "kill":
            os.kill(os.getpid(), event["signal"])
        case "hang" | "leave":
            child = subprocess.Popen(["/bin/sleep", "600"])
            Path("half").write_text(str(child.pid))
            Path("half").rename("child")
            if event["do"] == "leave":
                os._exit(1)
            time.sleep(600)
        case "stream":
            stream(request_id, event)
            if "exit" in event:
                os._exit(event["exit"])
            return
        case "big":
            path = f"invocation/{request_id}/response"
            last_status = call("POST", path, b"b" * event["size"]).status
            return
        case "mode":
            path = f"invocation/{request_id}/response"
            last_status = call("POST", path, b"{}", Lambda_Runtime_Function_Response_Mode="buffered").status
            return
        case "twice":
            path = f"invocation/{request_id}/response"
            first = call("POST", path, b'"first"').status
            last_status = first * 1000 + call("POST", path, b'"second"').status
            return
        case "answer and die":
            body = b'"last words"'
            path = f"{BASE}invocation/{request_id}/response"
            head = f"POST {path} HTTP/1.1\r\nHost: {API}\r\nContent-Length: {len(body)}\r\n\r\n"
            raw(head.encode() + body, read=False)
            os._exit(event["status"])
    extra = {"Lambda_Runtime_Invocation_Id": attempt}
    body = json.dumps(result).encode()
    last_status = call("POST", f"invocation/{request_id}/response", body, **extra).status
    if event["do"] == "exit after":
        os._exit(event["status"])


def main() -> None:
    """Initialise, then serve for ever."""
    if "PLAIN_STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "PLAIN_LAST_WORDS" in os.environ:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(call_status()))
    initialise(os.environ.get("PLAIN_INIT", ""))
    while True:
        response = call("GET", "invocation/next")
        if response.status == 500:
            sys.exit(50)
        headers = {name.lower(): value for name, value in response.getheaders()}
        body: bytes = response.data  # type: ignore[attr-defined]
        serve(json.loads(body), headers["lambda-runtime-aws-request-id"], headers)


def call_status() -> int:
    """Return a tenth of the status that a request gets now, on a new connection."""
    late = http.client.HTTPConnection(API)
    late.request("GET", BASE + "invocation/next")
    return late.getresponse().status // 10


if __name__ == "__main__":
    main()
