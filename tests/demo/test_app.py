"""The HTTP endpoint through a real socket: what it answers, and that nothing that is sent stops it."""

import base64
import io
import json
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import serving
from helpers.serving import CRASH, HANG, RAISE, SLOW, ask, error, image_file
from PIL import Image

from efficientnet_east.data.images import read_image
from efficientnet_east.demo.limits import Limits

pytest.importorskip("fastapi", reason="the endpoint needs FastAPI")

from starlette.exceptions import HTTPException

from efficientnet_east.demo import page_rules
from efficientnet_east.demo.request_guard import RequestGuard, host_name

WORDS = [{"corners": [[18.0, 28.0], [112.0, 28.0], [112.0, 56.0], [18.0, 56.0]], "score": 0.95}]
LIMIT = 100_000


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with small limits and little patience."""
    with serving.running(
        upload_bytes=LIMIT, upload_seconds=2.0, silent_seconds=2.0, seconds=4.0, waiting=4
    ) as port:
        yield port


def form(*parts: tuple[str, str, bytes], boundary: str = "b0") -> bytes:
    """The body of a form: (name, file name or nothing, content)."""
    lines = b""
    for name, file, content in parts:
        named = f'; filename="{file}"' if file else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
        lines += head.encode() + content + b"\r\n"
    return lines + f"--{boundary}--\r\n".encode()


def expect_well(port: int) -> None:
    """The server still does what it is there for."""
    status, _, body = ask(port, body=image_file())
    assert status == 200 and json.loads(body)["words"] == WORDS


MULTIPART = "multipart/form-data; boundary=b0"


def test_an_image_as_body_or_in_a_form(port: int) -> None:
    status, headers, body = ask(port, body=image_file(), Content_Type="image/png")
    assert status == 200 and headers["content-type"] == "application/json"
    assert json.loads(body) == {"width": 128, "height": 96, "words": WORDS}
    file = ("image", "../../x<b>.png", image_file())
    assert ask(port, body=form(file), Content_Type=MULTIPART)[2] == body
    some = form(("model", "", b"second"), file)
    assert json.loads(ask(port, body=some, Content_Type=MULTIPART)[2])["words"] == []
    for field in ("model=second", "score_threshold=0.96", "box_threshold=0.96"):
        assert json.loads(ask(port, path=f"/detect?{field}", body=image_file())[2])["words"] == []
    assert json.loads(ask(port, "GET", "/health")[2]) == {"status": "ok", "models": ["first", "second"]}


def test_other_formats(port: int) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.0)
    with Image.open(io.BytesIO(image_file())) as image:
        photo = io.BytesIO()
        image.save(photo, "JPEG", exif=exif)
    assert b"Exif" in photo.getvalue()
    text = ask(port, path="/detect?format=icdar", body=photo.getvalue())
    assert text[2] == b"18.00,28.00,112.00,28.00,112.00,56.00,18.00,56.00,0.9500\n"
    status, headers, picture = ask(port, path="/detect?format=picture", body=photo.getvalue())
    assert (status, headers["content-type"]) == (200, "image/jpeg") and b"Exif" not in picture
    drawn, plain = read_image(picture).astype(int), read_image(photo.getvalue()).astype(int)
    changed = abs(drawn - plain).max(axis=2) > 60
    assert changed[28, 40:100].all() and not changed[70:].any()


@pytest.mark.parametrize(
    ("path", "body", "line"),
    [
        ("?score_threshold=7", image_file(), "score_threshold: '7' cannot be used; expected less than 1"),
        ("?nms_iou=x", image_file(), "nms_iou: 'x' cannot be used"),
        ("?scales=16", image_file(), "scales: is unknown; expected some of score_threshold"),
        ("?max_candidates=9999999", image_file(), "max_candidates: is unknown"),
        ("?model=../b0", image_file(), "model: '../b0' is unknown; expected one of first, second"),
        ("?format=xml", image_file(), "format 'xml' is unknown"),
        ("", b"", "no image"),
        ("", b"\xff\xd8\xff\xe0 broken", "image: "),
        ("", image_file()[:90], "image: cannot be read"),
        ("", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image: is empty or not an image"),
        ("", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image: is empty or not an image"),
        ("", image_file(width=1001, height=1000), "image: 1001 x 1000 pixels; expected at most 1000000"),
    ],
)
def test_what_cannot_be_used(path: str, body: bytes, line: str, port: int) -> None:
    assert error(400, ask(port, path=f"/detect{path}", body=body)).startswith(line)


def test_a_bomb(port: int) -> None:
    """60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    assert "pixels" in error(400, ask(port, body=bomb))


@pytest.mark.parametrize(
    "body",
    [
        form(("image", "a.png", image_file()), boundary="other"),
        form(("image", "a.png", image_file()))[:-30],
        form(("image", "", b"text")),
        form(("image", "a.png", b""), ("image", "b.png", image_file())),
        form(*(("image", f"{number}.png", b"x") for number in range(1001))),
        form(*((f"field{number}", "", b"x") for number in range(1001)))[:LIMIT],
        b"\0" * 1000,
        b"",
    ],
)
def test_broken_forms(body: bytes, port: int) -> None:
    assert error(400, ask(port, body=body, Content_Type=MULTIPART))
    assert error(400, ask(port, body=body, Content_Type="multipart/form-data"))
    expect_well(port)


def test_mutated_forms(port: int) -> None:
    """Any bytes changed, any cut: an answer, or an error in one line."""
    whole, rng = form(("model", "", b"first"), ("image", "a.png", image_file())), np.random.default_rng(0)
    for _ in range(150):
        body = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        for position in rng.integers(0, len(body), rng.integers(1, 6)):
            body[position] = rng.integers(256)
        answer = ask(port, body=bytes(body), Content_Type=MULTIPART)
        assert answer[0] == 200 or error(400, answer)
    expect_well(port)


def conversation(port: int, *sent: bytes, pause: float = 0.0) -> bytes:
    """Send pieces over a socket until the other side has enough; gives all that it said."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        try:
            for piece in sent:
                line.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass
        heard = b""
        try:
            while piece := line.recv(65536):
                heard += piece
        except OSError:
            pass
        return heard


HEAD = b"POST /detect HTTP/1.1\r\nHost: localhost\r\n"


def test_too_large_is_refused_before_it_is_read(port: int) -> None:
    """By what the head says, without a byte of the body; or in the middle of it."""
    heard = conversation(port, HEAD + f"Content-Length: {LIMIT + 1}\r\n\r\n".encode())
    assert heard.startswith(b"HTTP/1.1 413 ") and b'"more than 0.1 megabytes"' in heard
    piece = b"8000\r\n" + b"\0" * 0x8000 + b"\r\n"
    heard = conversation(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[piece] * 50)
    assert heard.startswith(b"HTTP/1.1 413 ")
    assert error(413, ask(port, body=bytes(LIMIT + 1)))
    assert error(413, ask(port, body=bytes(LIMIT + 1), Content_Type=MULTIPART))
    expect_well(port)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /hea",
        b"GET /health HTTP/1.1\r\nX: ",
        b"",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_silence_ends_a_connection(sent: bytes, port: int) -> None:
    begun = time.monotonic()
    conversation(port, sent)
    assert time.monotonic() - begun < 10
    expect_well(port)


def test_too_slow(port: int) -> None:
    """A byte now and then does not help."""
    heard = conversation(port, HEAD + b"Content-Length: 1000\r\n\r\n", *[b"\0"] * 10, pause=0.3)
    assert heard.startswith(b"HTTP/1.1 408 ") and b"takes longer than 2 seconds" in heard
    slow_head = conversation(port, *[b"G", b"E", b"T", b" ", b"/"] * 2, pause=0.3)
    assert slow_head == b""
    expect_well(port)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 not HTTP at all\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        HEAD + b"Content-Length: 5, 6\r\n\r\nabcdefgh",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
        b"GET /\xff\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ],
)
def test_odd_requests(sent: bytes, port: int) -> None:
    heard = conversation(port, sent)
    status = heard.split(b" ")[1:2]
    assert status in ([], [b"400"], [b"404"], [b"421"]) or b"upgrade" in sent
    assert b"Traceback" not in heard
    expect_well(port)


def test_an_upload_that_is_broken_off(port: int) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(HEAD + b"Content-Length: 1000\r\n\r\nabc")
    while ask(port, body=image_file())[0] == 503:  # until the server has seen that they are gone
        time.sleep(0.05)
    expect_well(port)


def test_many_at_once(port: int) -> None:
    """As many as may wait are answered, the others are told to come back; then all is well."""
    answers: list[tuple[int, dict[str, str], bytes]] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(port, body=image_file(SLOW))))
               for _ in range(50)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer[0] != 200]
    assert len(answers) == 50 and 4 <= 50 - len(refused) < 50
    for answer in refused:
        said = error(503, answer)
        assert ("at the moment" in said or "queue is full" in said) and answer[1]["retry-after"]
    assert all(json.loads(body)["words"] == WORDS for status, _, body in answers if status == 200)
    expect_well(port)


@pytest.mark.parametrize(
    ("first", "line"),
    [
        (CRASH, "this image crashed the process that read it (signal 11)"),
        (HANG, "this image took longer than 4 seconds"),
        (RAISE, "this image cannot be used (MemoryError)"),
    ],
)
def test_a_poisoned_image_stops_nothing(first: tuple[int, int, int], line: str, port: int) -> None:
    assert error(500, ask(port, body=image_file(first))) == line
    expect_well(port)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "@localhost"]
)
def test_other_hosts(host: str, port: int) -> None:
    """A name that somebody pointed at this machine is not its own."""
    assert "name" in error(421, ask(port, "GET", "/health", Host=host))


def test_hosts_that_are_known(port: int) -> None:
    for host in ("localhost", "LOCALHOST:1", f"127.0.0.1:{port}", "[::1]:80", "192.168.1.2"):
        assert ask(port, "GET", "/health", Host=host)[0] == 200
    assert host_name("[::1]:80") == "::1" and host_name("A.b.:80") == "a.b"


def test_other_pages(port: int) -> None:
    """Neither answered nor, if it were, readable by them."""
    own = f"http://127.0.0.1:{port}"
    assert ask(port, body=image_file(), Origin=own)[0] == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"):
        assert error(403, ask(port, body=image_file(), Origin=origin))
        assert error(403, ask(port, "GET", "/health", Origin=origin))
        preflight = {"Access_Control_Request_Method": "POST", "Origin": origin}
        assert error(403, ask(port, "OPTIONS", "/detect", **preflight))
    assert error(403, ask(port, body=image_file(), Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors"))
    for answer in (ask(port, "GET", "/health"), ask(port, body=b""), ask(port, "GET", "/none")):
        assert not any(name.startswith("access-control") for name in answer[1])
        assert "frame-ancestors 'none'" in answer[1]["content-security-policy"]
        assert answer[1]["x-content-type-options"] == "nosniff" and "server" not in answer[1]


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/config", "/gradio_api/upload", "/gradio_api/file=/etc/passwd",
     "/../../etc/passwd", "/%2e%2e/etc/passwd", "/detect/x", "/health/"],
)  # fmt: skip
def test_nothing_else_is_there(path: str, port: int) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert error(404, ask(port, method, path))
    assert error(404, ask(port, "GET", "/detect")) and error(404, ask(port, "DELETE", "/detect"))


def test_password() -> None:
    with serving.running(password="open:sesame", hosts=("ocr.example",)) as port:
        status, headers, _ = ask(port, "GET", "/health")
        assert status == 401 and headers["www-authenticate"].startswith("Basic ")
        for given in ("x:open", "x:", "open:sesame", "x:open:sesame2"):
            wrong = "Basic " + base64.b64encode(given.encode()).decode()
            assert error(401, ask(port, body=image_file(), Authorization=wrong))
        for odd in ("Basic", "Basic !!!", "Bearer open:sesame", "Basic \xff"):
            assert error(401, ask(port, "GET", "/health", Authorization=odd))
        right = "Basic " + base64.b64encode(b"any:open:sesame").decode()
        assert ask(port, body=image_file(), Authorization=right, Host="OCR.example:80")[0] == 200


def test_what_goes_wrong_inside_is_not_told() -> None:
    """The application behind the gate fails before, or in the middle of, its answer."""
    import asyncio

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("/secret/place")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
    for path, count in (("/", 2), ("/late", 1)):
        sent.clear()
        asyncio.run(RequestGuard(fail, Limits())({**scope, "path": path}, receive, send))
        assert len(sent) == count and b"secret" not in str(sent).encode()
    assert sent[0]["status"] == 200


# --- what the page's library may be asked for


def test_files_of_the_page(tmp_path: Path) -> None:
    folder, outside = tmp_path / "own", tmp_path / "outside.png"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    outside.write_bytes(b"")
    (folder / "link.png").symlink_to(outside)
    expect = page_rules.rules(folder)
    expect("GET", f"/gradio_api/file={folder}/a.png", None)
    for name in (outside, f"{folder}/../outside.png", f"{folder}/link.png", "a.png", "http://a/b.png",
                 f"{folder}2/a.png", "/etc/passwd", f"{folder}/a.png\0", ""):  # fmt: skip
        with pytest.raises(HTTPException):
            expect("GET", f"/gradio_api/file={name}", None)
        body = json.dumps({"data": [{"path": str(name), "meta": {"_type": "gradio.FileData"}}]}).encode()
        with pytest.raises(HTTPException):
            expect("POST", "/gradio_api/queue/join", body)
    good = {"path": f"{folder}/a.png", "url": f"http://localhost/gradio_api/file={folder}/a.png"}
    expect("POST", "/gradio_api/queue/join", json.dumps({"data": [good, 0.8]}).encode())
    for bad in (b"{", b"[" * 100_000, b"\xff", json.dumps({"data": {**good, "url": "http://a/"}}).encode()):
        with pytest.raises(HTTPException):
            expect("POST", "/gradio_api/queue/join", bad)


def test_routes_that_the_page_does_not_need(tmp_path: Path) -> None:
    expect = page_rules.rules(tmp_path)
    for path in ("/gradio_api/proxy=http://a/", "/gradio_api/info", "/gradio_api/run/predict", "/login",
                 "/gradio_api/call/look", "/gradio_api/vibe-edit", "/monitoring", "/static/../../x",
                 "/gradio_api/custom_component/1/a/b/x", "/gradio_api/stream/1/2/3"):  # fmt: skip
        for method in ("GET", "POST"):
            with pytest.raises(HTTPException):
                expect(method, path, b"")


def test_no_more_uploads_than_the_disk_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect = page_rules.rules(tmp_path)
    expect("POST", "/gradio_api/upload", None)
    (tmp_path / "a").write_bytes(b"12345")
    monkeypatch.setattr(page_rules, "MOST_KEPT", 4)
    with pytest.raises(HTTPException, match="too many uploads"):
        expect("POST", "/gradio_api/upload", None)


def test_old_files_go(tmp_path: Path) -> None:
    from efficientnet_east.demo.app import remove_old

    (tmp_path / "old").mkdir()
    for name in ("old/a", "new"):
        (tmp_path / name).write_bytes(b"")
    for name in ("old/a", "old"):
        os.utime(tmp_path / name, (1, 1))
    remove_old(tmp_path, time.time() - 900)
    os.utime(tmp_path / "old", (1, 1))  # emptying it made it new
    remove_old(tmp_path, time.time() - 900)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
