"""The demo as a process: who may ask for what, and what is left of it."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from hf_finetune.cli import main
from tests.pipeline.demo.conftest import Running, running, wait_until

pytestmark = pytest.mark.e2e
HOSTNAME = Path("/etc/hostname")


def asked(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body, whatever they are."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def uploaded(demo: Running, picture: Path) -> str:
    """What Gradio calls the file, once it is there."""
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    body += picture.read_bytes() + b"\r\n--x--\r\n"
    code, said = asked(f"{demo.address}/gradio_api/upload", body, **{"Content-Type": "multipart/form-data; boundary=x"})
    assert code == 200
    (path,) = json.loads(said)
    wait_until(lambda: Path(path).exists())
    return path


def event(demo: Running, path: str) -> list[dict[str, object]]:
    """What the queue says of a request that names `path` as its picture."""
    config = json.loads(asked(f"{demo.address}/config")[1])
    number = next(each["id"] for each in config["dependencies"] if len(each["outputs"]) == 3)
    picture = {"path": path, "orig_name": "a.jpg", "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [picture], "fn_index": number, "session_hash": "s"}).encode()
    code, said = asked(f"{demo.address}/gradio_api/queue/join", body, **{"Content-Type": "application/json"})
    assert code == 200, said
    found = []
    with urllib.request.urlopen(f"{demo.address}/gradio_api/queue/data?session_hash=s", timeout=60) as stream:
        for line in stream:
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
                if found[-1]["msg"] in ("process_completed", "close_stream"):
                    break
    return found


def test_no_file_of_the_machine_can_be_fetched(demo: Running, folder: Path) -> None:
    assert HOSTNAME.exists()
    for route in ("file=", "file/"):
        code, body = asked(f"{demo.address}/gradio_api/{route}{HOSTNAME}")
        assert code in (403, 404) and HOSTNAME.read_bytes().strip() not in body
    (refused,) = [each for each in event(demo, str(HOSTNAME)) if each["msg"] == "process_completed"]
    assert not refused["success"] and "An uploaded picture is expected." in str(refused["output"])
    assert [path for path in demo.left.rglob("*") if path.name == HOSTNAME.name] == []
    picture = uploaded(demo, folder / "train" / "1" / "0.jpg")  # the same request is good for what was uploaded
    (answered,) = [each for each in event(demo, picture) if each["msg"] == "process_completed"]
    assert answered["success"] is True and "said" in str(answered["output"])


def test_no_address_is_fetched_for_whoever_asks(demo: Running) -> None:
    before = demo.asked.read_text("utf-8")
    for address in ("http://192.0.2.1/", "https://images.invalid/a.jpg"):
        for route in ("file=", "file/", "proxy="):
            assert asked(f"{demo.address}/gradio_api/{route}{address}")[0] in (403, 404)
            assert asked(f"{demo.address}/gradio_api/{route}{quote(address, safe='')}")[0] in (403, 404)
        (refused,) = [each for each in event(demo, address) if each["msg"] == "process_completed"]
        assert not refused["success"] and "An uploaded picture is expected." in str(refused["output"])
    assert demo.asked.read_text("utf-8") == before


def test_pages_of_other_sites_are_refused(demo: Running) -> None:
    port = demo.address.rpartition(":")[2]
    assert asked(demo.address)[0] == asked(f"http://localhost:{port}")[0] == 200
    for host in (f"photos.example:{port}", "[", "", f"127.0.0.1.photos.example:{port}"):
        assert asked(demo.address, Host=host)[0] in (400, 403)
    upload = f"{demo.address}/gradio_api/upload"
    assert asked(upload, b"", Origin="https://photos.example")[0] == 403
    assert asked(upload, b"", Origin="null")[0] == 403
    assert asked(upload, b"", Origin=demo.address)[0] != 403


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_uploaded_is_gone_when_the_demo_has_ended(
    trained: Path, folder: Path, tmp_path: Path, number: int
) -> None:
    with running(trained, tmp_path / "demo", "--port", "0") as found:
        path = Path(uploaded(found, folder / "train" / "1" / "0.jpg"))
        assert path.is_relative_to(found.left)
        with urllib.request.urlopen(f"{found.address}/gradio_api/heartbeat/s", timeout=60):  # as an open page does
            code, err = found.ended(number)
        assert (code, err.strip().splitlines()[-1]) == (0, "The demo has ended.")
        assert "Traceback" not in err and "rror" not in err
        assert list(found.left.iterdir()) == []


def test_a_port_in_use_is_named(trained: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, out, err = cli("demo", trained, "--port", port)
        assert (code, out) == (2, "")
        assert f"Port {port} of 127.0.0.1 is in use" in err and "--port" in err.splitlines()[1]
    code, _, err = cli("demo", trained, "--port", 70_000)
    assert code == 2 and "from 0 to 65535 is expected, found 70000" in err
    for host in ("192.0.2.1", "photos..example", "nobody.invalid"):
        code, _, err = cli("demo", trained, "--host", host, "--port", 0)
        assert code == 2 and f"an address of this machine is expected, found {host}" in err


def test_without_a_port_the_next_free_one_is_taken(trained: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", 7860))
            other.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        with running(trained, tmp_path / "demo") as found:
            port = int(found.address.rpartition(":")[2])
            assert 7860 < port < 7870
            _, err = found.ended(signal.SIGINT)
            assert f"Port 7860 is in use; {port} is taken instead." in err


def test_another_host_is_warned_of(trained: Path, tmp_path: Path) -> None:
    with running(trained, tmp_path / "demo", "--host", "0.0.0.0", "--port", "0") as found:
        time.sleep(0.2)
        assert asked(found.address)[0] == 200
        _, err = found.ended(signal.SIGINT)
    assert err.startswith("--host 0.0.0.0: anybody on the network who reaches this machine can use the page")


def test_a_missing_gradio_is_an_error_with_its_remedy(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["demo", str(trained)]) == 2
    err = capsys.readouterr().err
    assert "made by Gradio, which cannot be imported here" in err
    assert err.splitlines()[1].strip() == "pip install 'hf_finetune[demo]'"
