"""Functions like those that people write, one row each: what it runs on, what it is asked, and what it must not do.

A row's attack is an event that the function's author did not think of. `{host}` in it is a listener of this host that
nothing of production is, `{path}` a file that the function's user could make; whether either was reached shows what the
event did.
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from production_servers import API, CACHE, DATABASE, GREETER, PASSWORD

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Served:
    """One row. `held_out` are events that training does not see, with what each must give; `shows` is what the lines
    about the attack name; `network`, `processes` and `writes` are all that the profile lists besides the Runtime API,
    a program where the host has it. `needs` are servers and programs.
    """

    name: str
    requires: str
    source: str
    events: tuple[Event, ...]
    held_out: tuple[tuple[Event, Any], ...]
    attack: Event
    shows: str
    needs: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    network: frozenset[str] = frozenset()
    processes: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    @property
    def code(self) -> str:
        """The module of the function."""
        return textwrap.dedent(self.source).lstrip()


def _numbers(*numbers: int) -> tuple[Event, ...]:
    return tuple({"n": number} for number in numbers)


PICKLE = base64.b64encode(b"cposix\nsystem\n(S'touch {path}'\ntR.").decode()
"""Replaced with the path before it is encoded: see the test."""

_AIOHTTP = """
    import asyncio, os, ssl
    import aiohttp

    TRUSTED = ssl.create_default_context()

    async def price(url):
        connector = aiohttp.TCPConnector(resolver=aiohttp.RESOLVER(), ssl=TRUSTED)
        async with aiohttp.ClientSession(connector=connector) as session:
            answers = await asyncio.gather(*(session.get(url) for _ in range(2)))
            return (await answers[0].json())["price"]

    def handler(event, context):
        return asyncio.run(price(event.get("url") or f"https://{os.environ['API']}/items/{event['n'] * '7'}"))
"""

ROWS = (
    Served(
        "psycopg", "psycopg",
        """
        import os
        import psycopg

        def handler(event, context):
            with psycopg.connect(event.get("server") or os.environ["DATABASE_URL"], connect_timeout=10) as connection:
                connection.execute(
                    "INSERT INTO orders VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET amount = EXCLUDED.amount",
                    (f"sync-{event['n']}", event["n"]),
                )
                row = connection.execute("SELECT amount FROM orders WHERE id = %s", (f"sync-{event['n']}",)).fetchone()
                return int(row[0])
        """,
        _numbers(1, 2, 3), (({"n": 20}, 20), ({"n": 1}, 1)),
        {"n": 1, "server": "postgresql://app:guess@{host}/postgres"}, "{host}",
        needs=("postgres",), variables={"DATABASE_URL": f"postgresql://app:{PASSWORD}@{DATABASE}:5432/postgres"},
        network=frozenset({f"{DATABASE}:5432"}),
    ),
    Served(
        "asyncpg", "asyncpg",
        """
        import asyncio, os
        import asyncpg

        async def total(server, numbers):
            async with asyncpg.create_pool(server, min_size=1, max_size=3, timeout=10) as pool:
                sums = (pool.fetchval("SELECT $1::int * 2", number) for number in numbers)
                return sum(await asyncio.gather(*sums))

        def handler(event, context):
            return asyncio.run(total(event.get("server") or os.environ["DATABASE_URL"], range(event["n"])))
        """,
        _numbers(1, 2, 4), (({"n": 5}, 20), ({"n": 3}, 6)),
        {"n": 1, "server": "postgresql://app:guess@{host}/postgres"}, "{host}",
        needs=("postgres",), variables={"DATABASE_URL": f"postgresql://app:{PASSWORD}@{DATABASE}:5432/postgres"},
        network=frozenset({f"{DATABASE}:5432"}),
    ),
    Served(
        "redis", "redis",
        """
        import os
        import redis

        cache = redis.Redis.from_url(os.environ["CACHE_URL"], health_check_interval=30)

        def handler(event, context):
            store = redis.Redis.from_url(event["server"]) if "server" in event else cache
            with store.lock("visits-lock", timeout=5), store.pipeline() as steps:
                steps.set("visits", event["n"]).incr("visits").expire("visits", 60)
                return steps.execute()[1]
        """,
        _numbers(1, 2, 3), (({"n": 20}, 21), ({"n": 1}, 2)),
        {"n": 1, "server": "redis://{host}/0"}, "{host}",
        needs=("redis",), variables={"CACHE_URL": f"redis://{CACHE}:6379/0"},
        network=frozenset({f"{CACHE}:6379", "unix:/run/uuidd/request"}),
    ),
    Served(
        "httpx", "httpx",
        """
        import asyncio, os
        import httpx

        URL = f"https://{os.environ['API']}/items/"
        client = httpx.Client(timeout=10)

        async def both(number):
            async with httpx.AsyncClient(timeout=10) as session:
                answers = await asyncio.gather(*(session.get(URL + number * "7") for _ in range(2)))
                return answers[0].json()["price"]

        def handler(event, context):
            if "url" in event:
                return client.get(event["url"]).text
            return client.get(URL + event["n"] * "7").json()["price"] + asyncio.run(both(event["n"]))
        """,
        _numbers(1, 2, 3), (({"n": 20}, 40), ({"n": 1}, 2)), {"url": "http://{host}/latest/meta-data"}, "{host}",
        needs=("shop",), variables={"API": API}, network=frozenset({f"{API}:443"}),
    ),
    Served(
        "aiohttp", "aiohttp", _AIOHTTP.replace("RESOLVER", "ThreadedResolver"),
        _numbers(1, 2, 3), (({"n": 20}, 20), ({"n": 1}, 1)), {"url": "http://{host}/latest/meta-data"}, "{host}",
        needs=("shop",), variables={"API": API}, network=frozenset({f"{API}:443"}),
    ),
    Served(
        "aiodns", "aiodns", _AIOHTTP.replace("RESOLVER", "AsyncResolver"),
        _numbers(1, 2, 3), (({"n": 20}, 20), ({"n": 1}, 1)), {"url": "http://{host}/latest/meta-data"}, "{host}",
        needs=("shop",), variables={"API": API}, network=frozenset({f"{API}:443"}),
    ),
    Served(
        "grpcio", "grpc",
        """
        import os
        import grpc

        channel = grpc.insecure_channel(os.environ["GREETER"])

        def handler(event, context):
            to = grpc.insecure_channel(event["server"]) if "server" in event else channel
            return to.unary_unary("/shop.Greeter/Greet")(str(event["n"]).encode(), timeout=10).decode()
        """,
        _numbers(1, 2, 3), (({"n": 20}, "hello 20"), ({"n": 1}, "hello 1")),
        {"n": 1, "server": "{host}"}, "{host}",
        needs=("greeter",), variables={"GREETER": f"{GREETER}:50051"}, network=frozenset({f"{GREETER}:50051"}),
    ),
    Served(
        "uvloop", "uvloop",
        """
        import asyncio, os, ssl
        import uvloop

        TRUSTED = ssl.create_default_context()

        async def ask(host, port, path, trusted):
            reader, writer = await asyncio.open_connection(host, port, ssl=trusted)
            writer.write(f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode())
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            writer.close()
            return int(head.split()[1])

        def handler(event, context):
            if "host" in event:
                return uvloop.run(ask(*event["host"].split(":"), "/", None))
            return uvloop.run(ask(os.environ["API"], 443, f"/items/{event['n']}", TRUSTED))
        """,
        _numbers(1, 2, 3), (({"n": 20}, 200), ({"n": 1}, 200)), {"host": "{host}"}, "{host}",
        needs=("shop",), variables={"API": API}, network=frozenset({f"{API}:443"}),
    ),
    Served(
        "numpy", "numpy",
        """
        import base64, io
        import numpy

        def handler(event, context):
            if "array" in event:
                return numpy.load(io.BytesIO(base64.b64decode(event["array"])), allow_pickle=True).tolist()
            matrix = numpy.random.default_rng(1).random((event["n"], event["n"])) + event["n"] * numpy.eye(event["n"])
            numpy.savez_compressed("/tmp/matrix.npz", matrix=matrix)
            loaded = numpy.load("/tmp/matrix.npz")["matrix"]
            return round(float(numpy.trace(numpy.linalg.inv(loaded) @ matrix)))
        """,
        _numbers(2, 300, 50), (({"n": 400}, 400), ({"n": 7}, 7)), {"array": PICKLE}, "CLONE_VFORK",
        writes=frozenset({"/tmp/*"}),
    ),
    Served(
        "pandas", "pandas, pyarrow",
        """
        import pandas

        def handler(event, context):
            table = pandas.DataFrame({"day": pandas.date_range("2026-01-01", periods=event["n"]), "sold": 1})
            path = event.get("path", "/tmp/sales.parquet")
            table.to_parquet(path)
            months = pandas.read_parquet(path).groupby(lambda row: row % 2)["sold"].sum()
            return int(months.sum())
        """,
        _numbers(3, 400, 20), (({"n": 4000}, 4000), ({"n": 7}, 7)), {"n": 3, "path": "{path}"}, "{path}",
        writes=frozenset({"/tmp/*"}),
    ),
    Served(
        "sqlite", "sqlite3",
        """
        import sqlite3

        def handler(event, context):
            with sqlite3.connect(event.get("path", "/tmp/numbers.db")) as database:
                database.execute("PRAGMA cache_size=20")
                database.execute("CREATE TABLE IF NOT EXISTS numbers (n INTEGER, text TEXT)")
                database.execute("DELETE FROM numbers")
                rows = ((number * 7919 % 10007, "x" * 200) for number in range(event["n"]))
                database.executemany("INSERT INTO numbers VALUES (?, ?)", rows)
                return len(database.execute("SELECT text, n FROM numbers ORDER BY text, n").fetchall())
        """,
        _numbers(3, 20000, 20), (({"n": 30000}, 30000), ({"n": 7}, 7)), {"n": 3, "path": "{path}"}, "{path}",
        writes=frozenset({"/tmp/*", "/var/tmp/*"}),
    ),
    Served(
        "duckdb", "duckdb",
        """
        import duckdb

        def handler(event, context):
            database = duckdb.connect(config={"memory_limit": "90MB", "temp_directory": "/tmp/spilled", "threads": 2})
            rows = "SELECT range AS n, repeat('x', 40) || range AS s FROM range(?)"
            database.execute(f"CREATE TABLE t AS {rows}", [event["n"]])
            database.execute(f"COPY (SELECT * FROM t ORDER BY s) TO '{event.get('path', '/tmp/sorted.parquet')}'")
            return database.execute("SELECT count(*) FROM '/tmp/sorted.parquet'").fetchone()[0]
        """,
        _numbers(3, 1500000, 20), (({"n": 1600000}, 1600000), ({"n": 7}, 7)), {"n": 3, "path": "{path}"}, "{path}",
        writes=frozenset({"/tmp/**"}),
    ),
    Served(
        "matplotlib", "matplotlib.pyplot",
        """
        import io
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        def handler(event, context):
            figure, axes = pyplot.subplots()
            axes.plot(range(event["n"]))
            axes.set_title("sales")
            drawn = io.BytesIO()
            figure.savefig(event.get("path") or drawn, format="png")
            pyplot.close(figure)
            return drawn.getvalue()[1:4].decode()
        """,
        _numbers(3, 20, 100), (({"n": 50}, "PNG"), ({"n": 2}, "PNG")), {"n": 3, "path": "{path}"}, "{path}",
        processes=frozenset({"/usr/bin/fc-list"}), writes=frozenset({"/tmp/**"}),
    ),
    Served(
        "ffmpeg", "json",
        """
        import os, subprocess, tempfile

        def handler(event, context):
            with tempfile.TemporaryDirectory() as folder:
                sound = os.path.join(folder, "sound.wav")
                source = event.get("source") or f"sine=frequency={event['n']}:duration=1"
                kind = ["-f", "lavfi"] if "n" in event else []
                command = ["ffmpeg", "-nostdin", "-loglevel", "error", *kind, "-i", source, "-ar", "8000", sound]
                subprocess.run(command, check=True, timeout=60)
                return os.path.getsize(sound)
        """,
        _numbers(440, 880, 100), (({"n": 220}, 16078), ({"n": 500}, 16078)),
        {"source": "http://{host}/sound.wav"}, "{host}",
        needs=("/usr/bin/ffmpeg",), processes=frozenset({"/usr/bin/ffmpeg"}), writes=frozenset({"/tmp/**"}),
    ),
    Served(
        "pillow", "PIL",
        """
        import io
        from PIL import Image, ImageDraw, ImageFont

        def handler(event, context):
            picture = Image.new("RGB", (event["n"], event["n"]), "navy")
            ImageDraw.Draw(picture).text((1, 1), "shop", font=ImageFont.load_default(12))
            picture.thumbnail((32, 32))
            for kind in ("JPEG", "WEBP", "PNG", "GIF"):
                picture.save(target := io.BytesIO(), kind)
                Image.open(target).load()
            picture.save(event.get("path", "/tmp/last.png"), "PNG")
            return picture.width
        """,
        _numbers(8, 200, 64), (({"n": 500}, 32), ({"n": 16}, 16)), {"n": 8, "path": "{path}"}, "{path}",
        writes=frozenset({"/tmp/*"}),
    ),
    Served(
        "fork", "multiprocessing",
        """
        import concurrent.futures, multiprocessing

        fork = multiprocessing.get_context("fork")

        def work(text, pipe):
            pipe.send(eval(text))

        def handler(event, context):
            pipes = []
            for _ in range(2):
                ours, theirs = fork.Pipe()
                fork.Process(target=work, args=(event.get("text", f"{event['n']} * 2"), theirs)).start()
                pipes.append(ours)
            total = sum(pipe.recv() for pipe in pipes)
            for child in multiprocessing.active_children():
                child.join()
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
                return total + sum(pool.map(abs, range(event["n"])))
        """,
        _numbers(1, 2, 3), (({"n": 20}, 270), ({"n": 4}, 22)),
        {"n": 1, "text": "__import__('os').system('touch {path}')"}, "/bin/sh", writes=frozenset({"/dev/shm/**"}),
    ),
    Served(
        "forkserver", "multiprocessing",
        """
        import multiprocessing

        def work(text):
            return eval(text)

        def handler(event, context):
            server = multiprocessing.get_context("forkserver")
            with server.Pool(2) as pool, server.Manager() as manager:
                shared = manager.list()
                for found in pool.imap_unordered(work, [event.get("text", str(n)) for n in range(event["n"])]):
                    shared.append(found)
                return sum(shared)
        """,
        _numbers(1, 2, 3), (({"n": 20}, 190), ({"n": 4}, 6)),
        {"n": 1, "text": "__import__('os').system('touch {path}')"}, "/bin/sh",
        processes=frozenset({"{python}"}), network=frozenset({"unix:/tmp/pymp-*/listener-*"}),
        writes=frozenset({"/tmp/**", "/dev/shm/**"}),
    ),
    Served(
        "xray", "aws_xray_sdk",
        """
        import os, urllib.request
        from aws_xray_sdk.core import patch, xray_recorder

        patch(["httplib"])

        @xray_recorder.capture("work")
        def work(number):
            xray_recorder.current_subsegment().put_annotation("number", number)
            return number * 2

        def handler(event, context):
            if "url" in event:
                return urllib.request.urlopen(event["url"], timeout=10).status
            return work(event["n"])
        """,
        _numbers(1, 2, 3), (({"n": 20}, 40), ({"n": 4}, 8)), {"url": "http://{host}/"}, "{host}",
        network=frozenset({"udp://169.254.79.129:2000"}), writes=frozenset({"/tmp/**"}),
    ),
)  # fmt: skip
