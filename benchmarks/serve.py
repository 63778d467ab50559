"""Whether ``focus serve`` can be left alone: many requests, some of them hostile, beside the same number of direct calls.

    python benchmarks/serve.py --checkpoint starter-salient            # 2,000 requests of 8 clients, 200 of them hostile

Three parts, each with a service of its own on loopback. Load: what is answered, how fast, beside `Model.predict` in a process of its own,
half of the calls before and half after, and how the memory of the service grows after the first fifth. A full line: 429 instead of more
waiting. The end: SIGTERM under load, and what becomes of every request. On a machine that is busy with other things the processor's
time an image tells more than the rate.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

WARM = 0.2
DIRECT = """
import json, sys, time
from pathlib import Path
from focus_framework import runtime
runtime.prepare()
from focus_framework import load
from focus_framework.deploy.serve.forms import draw
model = load(sys.argv[1], device="cpu")
images = [Path(name).read_bytes() for name in sys.argv[3:]]
for image in images: draw("mask", model.predict(image), "png")
times, work, begin = [], time.process_time(), time.monotonic()
for number in range(int(sys.argv[2])):
    start = time.monotonic()
    draw("mask", model.predict(images[number % len(images)]), "png")
    times.append(time.monotonic() - start)
print(json.dumps({"times": times, "seconds": time.monotonic() - begin, "processor": time.process_time() - work}))
"""


def images(count: int, side: int) -> list[bytes]:
    """Blurred noise with a bright disc, as JPEG."""
    made = []
    for number in range(count):
        draw = np.random.default_rng(number)
        small = Image.fromarray(draw.integers(0, 160, (side // 16, side // 16, 3), np.uint8))
        pixels = np.array(small.resize((side, side * 3 // 4), Image.Resampling.BICUBIC))
        rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
        pixels[(rows - side // 3) ** 2 + (columns - side // 2) ** 2 < (side // 6) ** 2] = 230
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=90)
        made.append(content.getvalue())
    return made


@contextmanager
def service(checkpoint: str, *options: str) -> Iterator[tuple[int, psutil.Process, list[str]]]:
    """Port, process and log of a service."""
    call = [
        sys.executable,
        "-m",
        "focus_framework",
        "serve",
        checkpoint,
        "--port",
        "0",
        "--device",
        "cpu",
        "--json",
        "--stop-after",
        "1500",
    ]
    with subprocess.Popen([*call, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        log: list[str] = []
        reader = threading.Thread(target=lambda: log.extend(process.stderr or []), daemon=True)
        reader.start()
        url = json.loads((process.stdout or io.StringIO()).readline())["url"]
        try:
            yield int(url.rpartition(":")[2]), psutil.Process(process.pid), log
        finally:
            process.terminate()
            process.wait()
            reader.join()


def post(port: int, content: bytes, wait: float = 120) -> str:
    """The status, or in words what happened."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=wait)
        connection.connect()
    except OSError:
        return "no connection"
    try:
        connection.request("POST", "/v1/predict", content, {"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    except (OSError, http.client.HTTPException):
        return "no answer"
    finally:
        connection.close()


def raw(port: int, head: str, *pieces: bytes, pause: float = 0.0, read: bool = True) -> str:
    """Bytes sent piece by piece; the status, or that the connection was closed."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        if read:
            answer = connection.recv(65536)
            return answer.split()[1].decode() if answer else "closed"
    return "cut by the client" if not read else "closed"


def hostile(good: bytes) -> dict[str, Callable[[int], str]]:
    """What clients do that mean no good, or are broken."""
    tall = Image.new("1", (30000, 30000))
    content = io.BytesIO()
    tall.save(content, "PNG")
    bomb = content.getvalue()
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    return {
        "truncated image": lambda port: post(port, good[: len(good) // 3]),
        "bomb of 900 million pixels": lambda port: post(port, bomb),
        "text": lambda port: post(port, b"no image at all " * 100),
        "empty": lambda port: post(port, b""),
        "endless body": lambda port: raw(port, "Transfer-Encoding: chunked", *[chunk] * 40),
        "slow sender": lambda port: raw(port, "Content-Length: 9000", *[b"x" * 10] * 4, pause=0.5),
        "cut connection": lambda port: raw(port, f"Content-Length: {len(good)}", good[:500], read=False),
        "gone before the answer": lambda port: raw(port, f"Content-Length: {len(good)}", good, read=False),
        "broken form": lambda port: raw(port, "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9", b"--x\r\n\r\n--"),
        "no HTTP": lambda port: raw(port, "Content-Length: many"),
    }


def load_run(checkpoint: str, good: list[bytes], files: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """The first part."""
    kinds = hostile(good[0])
    order: list[str] = ["good"] * (arguments.requests - arguments.hostile)
    order += [list(kinds)[number % len(kinds)] for number in range(arguments.hostile)]
    random.Random(0).shuffle(order)
    answers: Counter[tuple[str, str]] = Counter()
    times: list[float] = []
    memory: list[tuple[float, float]] = []
    half = (arguments.requests - arguments.hostile) // 2
    before = direct(checkpoint, half, files)
    with service(checkpoint, "--max-body", "2", "--max-seconds", "30") as (port, process, log):
        for content in good:
            post(port, content)
        line, lock, begin = iter(enumerate(order)), threading.Lock(), time.monotonic()
        worked = sum(process.cpu_times()[:2])

        def client() -> None:
            while True:
                with lock:
                    number, kind = next(line, (0, ""))
                if not kind:
                    return
                start = time.monotonic()
                status = post(port, good[number % len(good)]) if kind == "good" else kinds[kind](port)
                with lock:
                    answers[kind, status] += 1
                    if kind == "good":
                        times.append(time.monotonic() - start)
                    memory.append((float(sum(answers.values())), process.memory_info().rss / 1e6))

        clients = [threading.Thread(target=client) for _ in range(arguments.clients)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        seconds, worked = time.monotonic() - begin, sum(process.cpu_times()[:2]) - worked
    after = direct(checkpoint, half, files)
    settled = np.array([row for row in memory if row[0] > WARM * arguments.requests])
    calls = {key: before[key] + after[key] for key in before}
    count = 2 * half
    return {
        "answers": {f"{kind}: {status}": count for (kind, status), count in sorted(answers.items())},
        "status 500": sum(" 500," in text for text in log),
        "service": {**percentiles(times), "images_per_second": len(times) / seconds, "processor_per_image": worked / len(times)},
        "direct": {
            **percentiles(calls["times"]),
            "images_per_second": count / calls["seconds"],
            "processor_per_image": calls["processor"] / count,
        },
        "memory": {
            "first_MB": memory[0][1], "last_MB": memory[-1][1], "highest_MB": max(row[1] for row in memory),
            "slope_MB_per_1000": float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0] * 1000),
        },
    }  # fmt: skip


def direct(checkpoint: str, count: int, files: list[str]) -> dict[str, Any]:
    """The same images and the same files out, by one loop in a process of its own."""
    done = subprocess.run([sys.executable, "-c", DIRECT, checkpoint, str(count), *files], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def percentiles(times: list[float]) -> dict[str, float]:
    return {f"p{share}_ms": float(np.percentile(times, share) * 1000) for share in (50, 95)}


def full_line(checkpoint: str, good: list[bytes]) -> dict[str, int]:
    """The second part: 24 clients where 4 may wait."""
    statuses: list[str] = []
    with service(checkpoint, "--max-waiting", "4") as (port, _, _):
        clients = [threading.Thread(target=lambda: statuses.extend(post(port, good[0]) for _ in range(5))) for _ in range(24)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
    return dict(Counter(statuses))


def ended(checkpoint: str, good: list[bytes], clients: int) -> dict[str, Any]:
    """The third part: what clients see, and requests that the service had begun and not answered."""
    statuses: list[str] = []
    with service(checkpoint) as (port, process, log):
        told = threading.Event()

        def client() -> None:
            while not (told.is_set() and statuses and statuses[-1] == "no connection"):
                statuses.append(post(port, good[0]))

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for each in threads:
            each.start()
        time.sleep(4)
        process.send_signal(signal.SIGTERM)
        told.set()
        for each in threads:
            each.join()
    seen = Counter(statuses)
    return {
        **{name: seen[name] for name in sorted(seen) if name != "no connection"},
        "begun and cut off": sum("cut off" in text for text in log),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="starter-salient")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--hostile", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--side", type=int, default=320)
    arguments = parser.parse_args()
    good = images(8, arguments.side)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{number}.jpg") for number in range(len(good))]
        for name, content in zip(files, good, strict=True):
            Path(name).write_bytes(content)
        print(json.dumps({"load": load_run(arguments.checkpoint, good, files, arguments)}, indent=1), flush=True)
    print(json.dumps({"full line": full_line(arguments.checkpoint, good)}), flush=True)
    print(json.dumps({"end": ended(arguments.checkpoint, good, arguments.clients)}), flush=True)


if __name__ == "__main__":
    main()
