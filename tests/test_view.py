"""`lnauto_view`: what it serves, to whom, and nothing beyond."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from lnauto.report import view_server
from lnauto.report.view_server import Rate, Served, ViewServer
from lnauto.workflow import view as viewing
from lnauto.workflow.view import table_of

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measured masks: one of a CT as NIfTI, and one whose scan is gone."""
    from lnauto.workflow.measure import Request, measure

    root = tmp_path_factory.mktemp("viewed")
    mask = np.zeros((12, 20, 30), np.uint8)
    mask[4:8, 10:15, 20:26] = 1
    for part in ("masks", "scans"):
        (root / part).mkdir()
    for name in ("first", "gone"):
        for path, array in ((f"masks/{name}.nrrd", mask), (f"scans/{name}_0000.nrrd", mask.astype(np.int16) * 100)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.5, 3.0))
            sitk.WriteImage(image, str(root / path))
    measure(root / "masks", root / "scans", root / "out", Request(kind="labels", channels=["CT"], quiet=True))
    (root / "scans/gone_0000.nrrd").unlink()
    (root / "out/secret.txt").write_text("nobody's business")
    return root / "out"


@pytest.fixture
def served(folder: Path, tmp_path: Path) -> Iterator[ViewServer]:
    pytest.importorskip("ipyniivue")
    yield from running(ViewServer(table_of(folder, tmp_path)))


def running(server: ViewServer) -> Iterator[ViewServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(server: ViewServer, address: str, method: str = "GET", secret: str | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and content; headers are named as `Content_Length`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    path = f"/{server.secret if secret is None else secret}/{address}"
    try:
        connection.request(method, path, headers=told)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class TestWhatIsServed:
    def test_the_page_its_program_and_what_there_is_to_see(self, served: ViewServer, folder: Path) -> None:
        assert ask(served, "")[1].startswith(b"<!doctype html>")
        assert b"export" in ask(served, "niivue.js")[1][-200:]
        run = json.loads(ask(served, "run.json")[1])
        first, gone = run["cases"]
        table = json.loads((folder / "nodes.json").read_text())["cases"][0]["each_node"][0]
        assert first["nodes"] == [
            {
                "number": 1,
                "short_axis_mm": table["short_axis_mm"],
                "volume_ml": table["volume_mm3"] / 1000,
                "station": None,
                "place": [table["centroid_x_mm"], table["centroid_y_mm"], table["centroid_z_mm"]],
            }
        ]
        assert first["images"][0]["windows"][0] == {"name": "soft tissue", "low": -160, "high": 240, "inverted": False}
        assert "gone_0000.nrrd is no longer there" in gone["missing"]
        assert gone["images"] == []

    def test_other_formats_are_served_as_nifti_with_the_same_voxels_in_the_same_place(
        self, served: ViewServer, folder: Path, tmp_path: Path
    ) -> None:
        first = json.loads(ask(served, "run.json")[1])["cases"][0]
        (tmp_path / "got.nii.gz").write_bytes(ask(served, first["images"][0]["at"])[1])
        got, was = (sitk.ReadImage(str(path)) for path in (tmp_path / "got.nii.gz", folder.parent / "scans/first_0000.nrrd"))
        assert np.array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(was))
        assert got.GetSpacing() == pytest.approx(was.GetSpacing())

    def test_pet_is_shown_by_suv_and_dark_where_it_is_hot(self) -> None:
        row = {"case": "a", "each_node": []}
        here = Path(__file__)
        case, _ = viewing._case(here.parent, row, {"mask": here.name, "images": [str(here), str(here)]}, ["CT", "PET SUV"], "0/")
        assert case["images"][1]["windows"][0] == {"name": "PET, SUV 0 to 10", "low": 0, "high": 10, "inverted": True}


class TestWhoIsServed:
    @pytest.mark.parametrize("secret", ["", "guess", "x" * 32])
    def test_without_the_secret_there_is_nothing(self, served: ViewServer, secret: str) -> None:
        assert ask(served, "", secret=secret)[0] == 404
        assert ask(served, "run.json", secret=secret)[0] == 404

    def test_only_what_is_in_the_table(self, served: ViewServer) -> None:
        for address in ("../secret.txt", "..%2fsecret.txt", "secret.txt", "0/../secret.txt", "/etc/passwd", "0/", "0"):
            assert ask(served, address)[0] == 404, address

    def test_a_page_from_elsewhere_is_refused(self, served: ViewServer) -> None:
        assert ask(served, "run.json", Host=f"localhost:{served.server_port}")[0] == 200
        assert ask(served, "run.json", Host="evil.example")[0] == 403
        assert ask(served, "run.json", Sec_Fetch_Site="cross-site")[0] == 403

    def test_this_machine_alone_is_served(self, served: ViewServer) -> None:
        assert served.server_address[0] == "127.0.0.1"

    def test_requests_are_bounded(self, served: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
        assert ask(served, "a" * 400)[0] == 414
        assert ask(served, "run.json", Content_Length="5")[0] == 413
        assert ask(served, "run.json", method="POST")[0] == 501
        assert ask(served, "run.json", method="HEAD") == (200, b"")
        served.rate = Rate(0.001, 2)
        assert [ask(served, "run.json")[0] for _ in range(3)] == [200, 200, 429]

    def test_each_run_has_a_secret_of_its_own(self) -> None:
        servers = [ViewServer({}) for _ in range(2)]
        assert servers[0].secret != servers[1].secret
        assert len(servers[0].secret) >= 32
        for server in servers:
            server.server_close()

    def test_a_browser_is_told_to_load_nothing_from_elsewhere(self, served: ViewServer) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.server_port)
        connection.request("GET", f"/{served.secret}/")
        headers = connection.getresponse().headers
        connection.close()
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert (headers["Referrer-Policy"], headers["X-Content-Type-Options"]) == ("no-referrer", "nosniff")

    def test_a_file_that_goes_meanwhile_is_told(self, tmp_path: Path) -> None:
        for server in running(ViewServer({"a": Served(tmp_path / "gone.nii.gz", "application/octet-stream")})):
            assert ask(server, "a")[0] == 410


class TestClientsThatDoNotBehave:
    """Whoever is on this machine knows the port, if not the secret."""

    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[ViewServer]:
        monkeypatch.setattr(view_server, "MOST_CONNECTIONS", 4)
        monkeypatch.setattr(view_server, "ASKING_SECONDS", 600)
        yield from running(ViewServer({"a": Served(b"a", "text/plain")}))

    def test_one_that_sends_a_byte_now_and_then_is_hung_up_on(self, small: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(view_server, "ASKING_SECONDS", 0.2)
        with slow(small) as client:
            begun = time.monotonic()
            while not is_hung_up_on(client):
                assert time.monotonic() - begun < 10
                client.send(b"a")
        assert time.monotonic() - begun > 0.1
        assert ask(small, "a") == (200, b"a")

    def test_many_of_them_hold_few_threads_and_keep_nobody_out(self, small: ViewServer) -> None:
        before = threading.active_count()
        clients = []
        for number in range(12):
            clients.append(slow(small))
            assert ask(small, "a") == (200, b"a"), number
        assert eventually(lambda: sum(map(is_hung_up_on, clients)) >= 8)
        assert eventually(lambda: threading.active_count() - before <= 4)
        for client in clients:
            client.close()
        assert eventually(lambda: not small.asking and not small.answered)

    def test_when_all_are_being_answered_another_is_hung_up_on(self, small: ViewServer) -> None:
        for _ in range(view_server.AT_ONCE):
            small.busy.acquire()
        waiting = [slow(small) for _ in range(4)]
        for client in waiting:
            client.sendall(f"ET /{small.secret}/a HTTP/1.0\r\nHost: 127.0.0.1:{small.server_port}\r\n\r\n".encode())
        assert eventually(lambda: len(small.answered) == 4)
        with slow(small) as another:
            assert eventually(lambda: is_hung_up_on(another))
        for _ in range(view_server.AT_ONCE):
            small.busy.release()
        assert [client.recv(12) for client in waiting] == [b"HTTP/1.0 200"] * 4
        for client in waiting:
            client.close()

    def test_strangers_do_not_use_up_the_readers_share(self, small: ViewServer) -> None:
        small.strangers = Rate(0.001, 2)
        assert [ask(small, "a", secret="guess")[0] for _ in range(3)] == [404, 404, 429]
        assert ask(small, "a") == (200, b"a")


def slow(server: ViewServer) -> socket.socket:
    """A client whose request has begun."""
    client = socket.create_connection(("127.0.0.1", server.server_port))
    client.settimeout(0.02)
    client.send(b"G")
    return client


def is_hung_up_on(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def eventually(there: Callable[[], bool]) -> bool:
    begun = time.monotonic()
    while not there() and time.monotonic() - begun < 10:
        time.sleep(0.01)
    return there()


class TestCommand:
    def test_it_serves_until_ctrl_c(self, folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("ipyniivue")
        opened: list[str] = []

        def stop(server: ViewServer) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(ViewServer, "serve_forever", stop)
        monkeypatch.setattr(viewing.webbrowser, "open", opened.append)
        code, told, complaint = command("view", folder)
        assert (code, complaint, len(opened)) == (0, "", 1)
        assert opened[0] in told
        command("view", folder, "--no-browser")
        assert len(opened) == 1

    def test_faults(self, folder: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        assert command("view", tmp_path)[::2] == (
            2,
            f"lnauto: there is no nodes.json, so that this is no folder of predicted or measured masks, in {tmp_path};"
            " give the folder that lnauto_predict or lnauto_measure wrote\n",
        )
        assert command("view", folder, "--port", 99999, "--no-browser")[0] == 2
        server = ViewServer({})
        code, _, complaint = command("view", folder, "--port", server.server_port, "--no-browser")
        server.server_close()
        assert (code, "nothing can be served there" in complaint) == (2, True)
        real: Callable[..., Any] = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ipyniivue" else real(name, *rest))
        assert command("view", folder)[::2] == (
            2,
            "lnauto: the viewer is not installed, in ipyniivue; pip install 'lnauto[view]'\n",
        )


def test_what_is_being_made_is_served_whole_to_whoever_asks_meanwhile(tmp_path: Path) -> None:
    made, begun = tmp_path / "made", threading.Event()

    def make() -> Path:
        if not made.is_file():
            made.write_bytes(b"h")
            begun.set()
            time.sleep(0.3)
            made.write_bytes(b"whole")
        return made

    for server in running(ViewServer({"a": Served(make, "text/plain")})):
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(ask, server, "a")
            assert begun.wait(5)
            assert pool.submit(ask, server, "a").result() == first.result() == (200, b"whole")


def test_a_reader_waits_when_many_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_server, "IDLE_SECONDS", 0.05)
    for server in running(ViewServer({"a": Served(b"a", "text/plain")})):
        for _ in range(view_server.AT_ONCE):
            server.busy.acquire()
        assert ask(server, "a")[0] == 503
        server.busy.release()
        assert ask(server, "a") == (200, b"a")
