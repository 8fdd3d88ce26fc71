"""The review app by its command: real requests, and a person's keys in Chromium."""

import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("nicegui", reason="the review app needs the extra `review`")

from mmwood.fileio.candidates import Candidate, read_manifest, write_manifest
from mmwood.fileio.image_features import write_features

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
CLASSES = ("disc", "square")


class Server:
    """The command, running; ``text`` is what it has printed, once it has ended."""

    def __init__(self, folder: Path, *options: object) -> None:
        tool = str(REPOSITORY / "tools/review_ood.py")
        environment = dict(os.environ, PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS="1")
        # NiceGUI behaves in another way where it sees a test.
        environment.pop("PYTEST_CURRENT_TEST", None)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", tool, *map(str, options), "--no-browser"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.text = ""
        for line in self.process.stdout:
            self.text += line
            if found := re.search(r"http://([^:]+):(\d+)/(?:\?token=(\S+))?", line):
                self.url = found[0]
                self.port, self.token = int(found[2]), found[3]
                self._wait()
                return
        raise RuntimeError(self.text)

    def _wait(self) -> None:
        """The address is printed just before it can be reached."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            time.sleep(0.02)

    def end(self, how: int = signal.SIGINT) -> str:
        """Send a signal, unless it ends by itself with 0, and wait."""
        if how:
            self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=60)
        self.text += rest
        # NiceGUI has left nothing to wait for.
        assert "Could not cancel" not in self.text
        return self.text

    def get(self, path: str, method: str = "GET", **headers: str):
        """Status, headers and content of an answer; ``_`` in a name stands for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        # What follows a 101 are frames, without an end.
        content = b"" if answer.status == 101 else answer.read()
        connection.close()
        return answer.status, answer.headers, content

    def connect(self, **headers: str) -> int:
        """The status that a web socket gets."""
        path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        key = base64.b64encode(bytes(16)).decode()
        upgrade = dict(
            Upgrade="websocket",
            Connection="Upgrade",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key=key,
        )
        return self.get(path, **upgrade, **headers)[0]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator:
    """Start the app on ``ood.csv`` in the test's folder, at a free port."""
    servers = []

    def start(*options: object, manifest: object = "ood.csv") -> Server:
        servers.append(Server(tmp_path, manifest, "--port", 0, *options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def make_candidates(folder: Path, count: int = 12) -> list[Candidate]:
    """Images of one colour each, half of them taken for each class, and a manifest."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        image = folder / f"images/{number:02d}.png"
        Image.new("RGB", (40, 30), (20 * number, 100, 50)).save(image)
        class_name = CLASSES[number * 2 // count]
        rows.append(
            Candidate(str(image), class_name, 0.99 - number / 100, 1, "unseen", "0")
        )
    write_manifest(folder / "ood.csv", rows)
    return rows


def states(path: Path) -> list[str]:
    return [row.state for _, row in read_manifest(path)]


def test_requests_from_elsewhere_are_refused(tmp_path, serve):
    make_candidates(tmp_path)
    server = serve()
    own = f"127.0.0.1:{server.port}"
    status, headers, content = server.get("/")
    assert status == 200
    assert b"Review of ood.csv" in content
    # A picture or a frame on another site's page may not show it.
    assert headers["X-Frame-Options"] == "DENY"
    for path in ("/", "/picture/small/0"):
        kept_in = server.get(path)[1]["Cross-Origin-Resource-Policy"]
        assert kept_in == "same-origin"
    polling = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    good = (
        dict(Origin=f"http://{own}"),
        dict(Host=f"localhost:{server.port}"),
        # Through a tunnel from another port.
        dict(Host="localhost:9000", Origin="http://localhost:9000"),
    )
    for more in good:
        assert server.get("/", **more)[0] == 200, more
        assert server.connect(**more) == 101, more
    bad = (
        dict(Origin="http://evil.example"),
        dict(Origin="null"),
        dict(Origin=f"http://localhost:{server.port + 1}"),
        dict(Origin=f"http://{own}.evil.example"),
        dict(Origin="http://["),
        dict(Host="evil.example"),
        dict(Host=f"evil.example:{server.port}", Origin="http://evil.example"),
        dict(Host="127.0.0.1.evil.example"),
        dict(Host="["),
        dict(Host="192.168.0.1"),
    )
    for more in bad:
        refused = 400 if "Host" in more else 403
        assert server.get("/", **more)[0] == refused, more
        assert server.get("/picture/small/0", **more)[0] == refused, more
        assert server.get(polling, method="POST", **more)[0] == refused, more
        assert server.connect(**more) == refused, more
    # Nobody else can reach it.
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", server.port))


def test_other_machines_need_the_token(tmp_path, serve):
    make_candidates(tmp_path)
    server = serve("--host", "0.0.0.0")
    assert len(server.token) > 40
    for path in ("/", "/picture/small/0", "/?token=", "/?token=" + "x" * 43, "/done"):
        status, _, content = server.get(path)
        assert status == 401, path
        assert b"the address in the terminal" in content
    assert server.connect() == 401
    # A page whose own name was made to point here has no cookie of this one's.
    rebound = dict(Host="evil.example", Origin="http://evil.example")
    assert server.get("/picture/small/0", **rebound)[0] == 401
    assert server.connect(**rebound) == 401
    status, headers, _ = server.get(f"/?token={server.token}")
    assert status == 303
    assert headers["Location"] == "/"
    # Without a domain a cookie goes to the host that set it, and to no other.
    assert "domain" not in headers["Set-Cookie"].lower()
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite" in cookie.lower()
    cookie = cookie.split(";")[0]
    host = "192.0.2.7:1234"
    for more in (dict(), dict(Host=host, Origin=f"http://{host}")):
        assert server.get("/", Cookie=cookie, **more)[0] == 200
        assert server.get("/picture/small/0", Cookie=cookie, **more)[0] == 200
        assert server.connect(Cookie=cookie, **more) == 101
    assert server.get("/", Cookie=cookie[:-1] + "!")[0] == 401
    assert server.connect(Cookie=cookie, Origin="http://evil.example") == 403


def test_pictures_by_row_and_nothing_else(tmp_path, serve):
    rows = make_candidates(tmp_path)
    secret = tmp_path / "secret.txt"
    secret.write_text("do not tell")
    tall = tmp_path / "tall.jpg"
    exif = Image.Exif()
    # Turned by the camera.
    exif[0x0112] = 6
    Image.new("RGB", (800, 400), (200, 0, 0)).save(tall, exif=exif)
    rows.append(Candidate(str(secret), "disc", 0.6, 1, "unseen", "0"))
    rows.append(Candidate(str(tall), "disc", 0.6, 2, "unseen", "0"))
    rows.append(Candidate("gone.png", "disc", 0.6, 3, "unseen", "0"))
    write_manifest(tmp_path / "ood.csv", rows)
    server = serve()
    status, headers, content = server.get("/picture/small/3")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (40, 30)
        assert np.abs(np.array(image)[15, 20].astype(int) - (60, 100, 50)).max() < 6
    for kind, size in (("small", (180, 360)), ("large", (400, 800))):
        content = server.get(f"/picture/{kind}/13")[2]
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == size
    made = list((tmp_path / "ood.csv.cache").rglob("*.jpg"))
    assert len(made) == 2
    # From the cache now.
    before = made[0].stat().st_mtime_ns
    assert server.get("/picture/small/3")[0] == 200
    assert made[0].stat().st_mtime_ns == before
    for path in (
        *(f"/picture/{kind}/{row}" for kind in ("small", "large") for row in (12, 14)),
        *(f"/picture/small/{row}" for row in ("15", "-1", "1.0", "0x1", "9" * 30, "٣")),
        "/picture/map/0",
        "/picture/secret/0",
        "/picture/small/..%2f..%2fsecret.txt",
        "/picture/../../secret.txt",
        "/picture/small/0/../../../secret.txt",
        f"/{secret}",
        "/secret.txt",
        "/ood.csv",
        "/%2e%2e/secret.txt",
        "/_nicegui/../secret.txt",
    ):
        status, _, content = server.get(path.replace("٣", "%D9%A3"))
        assert status == 404, path
        assert b"do not tell" not in content
    text = server.end(signal.SIGTERM)
    assert "images that are missing: 1\n  gone.png" in text
    assert "wrote ood.csv: 0 kept, 0 rejected, 15 unseen" in text
    assert server.process.returncode == 0
    assert not (tmp_path / "ood.csv.journal").exists()
    assert not (tmp_path / ".nicegui").exists()


def test_the_cache_is_limited_and_may_fail(tmp_path, serve):
    make_candidates(tmp_path, 24)
    one = 700
    server = serve("--cache", "small", "--cache-size", 5 * one / 1e6)
    for row in range(24):
        assert len(server.get(f"/picture/small/{row}")[2]) <= one
    made = list((tmp_path / "small").rglob("*.jpg"))
    assert 0 < sum(path.stat().st_size for path in made) <= 5 * one
    server.end()
    (tmp_path / "file").write_text("not a folder")
    server = serve("--cache", "file")
    assert server.get("/picture/small/0")[0] == 200


def test_what_is_wrong_is_named_at_the_start(tmp_path, serve, run_tool, call_main):
    make_candidates(tmp_path)
    tool = ("review_ood.py", "ood.csv", "--no-browser")
    text = run_tool("review_ood.py", "none.csv", "--port", 0, fails=True)
    assert text == "there is no manifest none.csv\n"
    assert "belong together" in call_main(*tool, "--config", "a.py", fails=True)
    assert "at least 1" in call_main(*tool, "--wanted", 0, fails=True)
    server = serve()
    text = run_tool(*tool, "--port", server.port, fails=True)
    assert f"--port {server.port}: Address already in use" in text
    text = run_tool(*tool, "--port", 0, fails=True)
    assert f"another process {server.process.pid} reviews" in text
    assert "Traceback" not in text


def test_rules_do_not_run_beside_the_app(tmp_path, serve, run_tool):
    make_candidates(tmp_path)
    auto = ("review_ood.py", "ood.csv", "--auto", "--max-probability", 0.95)
    server = serve()
    text = run_tool(*auto, fails=True)
    assert f"another process {server.process.pid} reviews" in text
    assert "wrote ood.csv: 0 kept, 0 rejected, 12 unseen" in server.end()
    assert not (tmp_path / "ood.json").exists()
    assert "wrote ood.csv: 0 kept, 4 rejected, 8 unseen" in run_tool(*auto)
    assert states(tmp_path / "ood.csv") == ["rejected"] * 4 + ["unseen"] * 8
    # The app goes on from there.
    assert "wrote ood.csv: 0 kept, 4 rejected, 8 unseen" in serve().end()


@pytest.fixture
def classifier(small_config: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Config and checkpoint of a classifier with chance weights."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmpretrain")
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(small_config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "model.pth")
    return small_config, tmp_path / "model.pth"


def test_maps_are_those_of_the_classifier_that_mined(
    classifier, tmp_path, serve, run_tool
):
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS

    from mmwood.fileio.files import file_sha256
    from mmwood.ood.review.explain import Explainer

    config, checkpoint = classifier
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    rows = [Candidate("noise.png", "stripe", 0.9, 1, "unseen", "0")]
    write_manifest(tmp_path / "ood.csv", rows)
    summary = tmp_path / "ood.json"
    summary.write_text(json.dumps(dict(checkpoint_sha256="0" * 64)))
    options = ("--config", config, "--checkpoint", checkpoint)
    text = run_tool("review_ood.py", "ood.csv", *options, "--port", 0, fails=True)
    assert "is not the one that ood.csv was mined with" in text
    assert not (tmp_path / "ood.csv.journal").exists()

    summary.unlink()
    torch.save(dict(state_dict={"head.x": torch.zeros(3)}), tmp_path / "other.pth")
    other = ("--config", config, "--checkpoint", "other.pth")
    text = run_tool("review_ood.py", "ood.csv", *other, "--port", 0, fails=True)
    assert "--checkpoint: other.pth holds no head.classifier.weight" in text

    summary.write_text(json.dumps(dict(checkpoint_sha256=file_sha256(checkpoint))))
    server = serve(*options)
    status, _, content = server.get("/picture/map/0")
    assert status == 200
    with Image.open(io.BytesIO(content)) as image:
        shown = np.array(image).astype(int)
    # relu(W f), resized to the image, divided by its maximum; blue is 0 and red 1.
    model = MODELS.build(Config.fromfile(config).model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    x = torch.from_numpy((pixels - 127.5) / 127.5).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        features = model.backbone(x)[-1]
    weight = model.head.classifier.weight[2, :, 0, 0]
    cam = torch.einsum("d,bdhw->bhw", weight, features).relu()[None]
    cam = torch.nn.functional.interpolate(
        cam, (33, 47), mode="bilinear", align_corners=False
    )[0, 0]
    cam = (cam / cam.max()).detach().numpy()
    redness = shown[..., 0] - shown[..., 2] - (pixels[..., 0] - pixels[..., 2] * 0.5)
    assert shown.shape == pixels.shape
    assert np.corrcoef(redness.ravel(), cam.ravel())[0, 1] > 0.5
    assert len(list((tmp_path / "ood.csv.cache").rglob("*.jpg"))) == 1

    # The classifier sees candidates at the size that it mined them at; without a
    # summary, at the median one of its data set.
    mined = dict(checkpoint_sha256=file_sha256(checkpoint))
    for content, scale in (
        (dict(mined, size=30), "(30, 30)"),
        (dict(mined, size=None), None),
        (None, "(47, 47)"),
    ):
        summary.unlink(missing_ok=True)
        if content:
            summary.write_text(json.dumps(content))
        found = Explainer(config, checkpoint, tmp_path / "ood.csv", ["stripe"], None)
        assert ("Resize" in found._key) == (scale is not None)
        assert (scale or "") in found._key


def open_tab(browser, server: Server):
    """A tab that shows the first page, and fails the test at any script error."""
    page = browser.new_context(viewport=dict(width=1280, height=900)).new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector(".card.focused")
    return page


#: Whether a page sees a picture of the app, and whether it can connect.
FOREIGN = """address => {
    const path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket";
    const image = new Image(), socket = new WebSocket(`ws://${address}${path}`);
    image.src = `http://${address}/picture/small/0`;
    return Promise.all([
        new Promise(done => {
            image.onload = () => done(true);
            image.onerror = () => done(false);
        }),
        new Promise(done => {
            socket.onopen = () => done(true);
            socket.onerror = () => done(false);
        }),
    ]);
}"""


def test_a_page_of_another_site_sees_nothing(tmp_path, serve, browser):
    make_candidates(tmp_path)
    server = serve()
    address = f"127.0.0.1:{server.port}"
    page = open_tab(browser, server)
    assert page.evaluate(FOREIGN, address) == [True, True]
    site = "http://foreign.localhost:9/"
    page = browser.new_context().new_page()
    page.route(site, lambda route: route.fulfill(body="", content_type="text/html"))
    page.goto(site)
    assert page.evaluate(FOREIGN, address) == [False, False]


def wait_for(page, *expected: str) -> None:
    """Wait until the cards of the page have these states."""
    page.wait_for_function(
        """expected => {
            const cards = [...document.querySelectorAll(".review-grid .card")];
            return cards.length === expected.length &&
                cards.every((card, i) => card.classList.contains(expected[i]));
        }""",
        arg=list(expected),
    )


def wait_for_focus(page, row: int) -> None:
    """Wait until the card of a row is the focused one, for the document, too."""
    page.wait_for_function(
        """row => [document.querySelector(".card.focused"), document.activeElement]
            .every(card => card && Number(card.dataset.row) === row)""",
        arg=row,
    )


def choose(page, label: str, text: str) -> None:
    """Choose in one of the filters."""
    page.get_by_label(label, exact=True).click()
    page.locator(".q-item", has_text=text).first.click()
    page.wait_for_selector(".q-menu", state="detached")


def test_a_review_by_keyboard_in_a_browser(tmp_path, serve, browser):
    rows = make_candidates(tmp_path)
    rows[5].image = "gone.png"
    write_manifest(tmp_path / "ood.csv", rows)
    journal = tmp_path / "ood.csv.journal"
    server = serve("--page-size", 6, "--wanted", 4)
    page, other = open_tab(browser, server), open_tab(browser, server)
    page.wait_for_selector(".fault >> text=No such file")
    assert "1 image missing or unreadable" in page.locator(".review-note").inner_text()
    # The class that is first in the manifest, highest score first.
    wait_for_focus(page, 0)
    page.keyboard.press("k")
    page.keyboard.press("r")
    page.keyboard.press("k")
    wait_for(page, "kept", "rejected", "kept", *["unseen"] * 3)
    # What is shown is on disk, and in the other tab.
    assert len(journal.read_text().splitlines()) == 4
    wait_for(other, "kept", "rejected", "kept", *["unseen"] * 3)
    wait_for_focus(page, 3)
    wait_for_focus(other, 0)
    text = page.locator(".review-top").inner_text()
    assert "looked at 3 of 6 (50.0%)" in text
    assert "positive rate r = 33.3%" in text
    # Two more images cost 2 / (1 - 1/3) looks.
    assert "→ about 3 more looks" in text
    assert page.locator(".card .sign").all_inner_texts() == ["✓", "✕", "✓"]

    page.keyboard.press("u")
    wait_for(page, "kept", "rejected", *["unseen"] * 4)
    wait_for_focus(page, 2)
    # The other tab has nothing to undo, but its own decision.
    other.keyboard.press("Control+z")
    other.get_by_text("nothing to undo").wait_for()
    # A range by keys; the image that is missing is not kept.
    page.keyboard.press("Shift+End")
    assert page.locator(".card.picked").count() == 4
    page.keyboard.press("k")
    wait_for(page, "kept", "rejected", "kept", "kept", "kept", "unseen")
    # A range by clicks: from the one with the focus to this one.
    page.locator(".card").nth(2).locator("img").click()
    page.locator(".card").nth(4).get_by_text("Reject").click(modifiers=["Shift"])
    wait_for(page, "kept", *["rejected"] * 4, "unseen")
    page.locator(".card").nth(1).get_by_text("Keep").click()
    wait_for(page, "kept", "kept", *["rejected"] * 3, "unseen")
    # Large, over the grid.
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    large = page.locator(".review-large")
    large.wait_for()
    assert "00.png" in large.inner_text()
    page.keyboard.press("r")
    wait_for(page, "rejected", "kept", *["rejected"] * 3, "unseen")
    assert "01.png" in large.inner_text()
    page.keyboard.press("Escape")
    large.wait_for(state="detached")
    # No map without a classifier.
    page.keyboard.press("c")
    assert page.locator(".note").count() == 0

    choose(page, "state", "rejected")
    wait_for(page, *["rejected"] * 4)
    choose(page, "state", "unseen")
    page.keyboard.press("Delete")
    wait_for(page, "unseen")
    choose(page, "state", "missing")
    wait_for(page, "unseen")
    page.keyboard.press("r")
    wait_for(page, "rejected")
    assert page.errors == []
    assert other.errors == []
    server.end(signal.SIGKILL)
    expected = ["rejected", "kept", *["rejected"] * 4, *["unseen"] * 6]

    # Again, after it was killed: it begins with the class that is left.
    server = serve("--page-size", 6)
    page = open_tab(browser, server)
    wait_for(page, *["unseen"] * 6)
    wait_for_focus(page, 6)
    page.keyboard.press("r")
    wait_for(page, "rejected", *["unseen"] * 5)
    page.keyboard.press("a")
    wait_for(page, "rejected", *["kept"] * 5)
    page.keyboard.press("n")
    page.get_by_text("This is the last page").wait_for()
    page.get_by_text("Finish", exact=True).click()
    page.locator(".q-dialog").get_by_text("Finish", exact=True).click()
    page.get_by_role("heading", name="Finished").wait_for()
    assert "6 kept, 6 rejected and 0 unseen" in page.inner_text("body")
    text = server.end(how=0)
    assert server.process.returncode == 0
    assert "decisions of a review that was cut off are back" in text
    assert "wrote ood.csv: 6 kept, 6 rejected, 0 unseen" in text
    expected[6:] = ["rejected", *["kept"] * 5]
    assert states(tmp_path / "ood.csv") == expected
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["images", "ood.csv", "ood.csv.cache"]

    pytest.importorskip("mmengine")
    from mmwood.datasets import OoDDataset

    dataset = OoDDataset(ann_file=str(tmp_path / "ood.csv"), classes=CLASSES)
    found = {
        info["img_path"]: info["ood_class"]
        for info in map(dataset.get_data_info, range(len(dataset)))
    }
    assert found == {
        row.image: CLASSES.index(row.class_name)
        for row, state in zip(rows, expected)
        if state == "kept"
    }


def make_groups(folder: Path) -> list[Candidate]:
    """120 images of one class and three kinds, features of these, and a manifest."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows, features = [], []
    for number in range(120):
        image, kind = folder / f"images/{number:03d}.png", number % 3
        Image.new("RGB", (40, 30), (80 * kind, 2 * number, 50)).save(image)
        sha256 = f"{number:064d}"
        rows.append(
            Candidate(str(image), "disc", 0.99 - number / 1000, 1, "unseen", sha256)
        )
        z = 30 * np.eye(3)[kind] + rng.normal(size=3)
        features.append((sha256, z.astype("<f2").tobytes()))
    write_manifest(folder / "ood.csv", rows)
    write_features(folder / "ood.npz", 120, 3, features)
    return rows


def test_groups_of_alike_images_by_keyboard(tmp_path, serve, browser):
    rows = make_groups(tmp_path)
    # A person has decided about one before.
    rows[3].state = "rejected"
    write_manifest(tmp_path / "ood.csv", rows)
    server = serve("--wanted", 80)
    page = open_tab(browser, server)
    page.get_by_text("Group alike").click()
    page.get_by_text("disc · group 1 of").wait_for()
    heading, top = page.locator(".review-group"), page.locator(".review-top")
    wait_for(page, *["unseen"] * 12)
    assert "You see 12 of the 40; the other 28 are decided" in heading.inner_text()
    assert len(page.locator(".review-part").all()) == 2
    # One of the sample by itself, then all that is left by one key.
    page.keyboard.press("r")
    page.get_by_text("Keep all 39 unseen (Shift+K)").wait_for()
    page.keyboard.press("Shift+K")
    page.get_by_text("disc · group 2 of").wait_for()
    page.get_by_text("Kept a group: 39 images of disc").wait_for()
    text = top.inner_text()
    # 12 of this group, and the one from before.
    assert "decided 41 of 120 (34.2%) by 13 looks" in text
    assert "positive rate r = 15.4%" in text
    # 41 more usable images cost 41 / (39 / 13) looks.
    assert "→ about 14 more looks" in text
    assert "all 79 unseen: about 25 looks" in text
    # A group that is mixed: all of it is shown, and a range decides as ever.
    page.keyboard.press("o")
    page.get_by_text("All of the group, most typical first").wait_for()
    page.get_by_text("All 40 are shown.").wait_for()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+R")
    page.get_by_text("Keep all 38 unseen (Shift+K)").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    # The third holds the row that was decided before.
    page.keyboard.press("n")
    page.get_by_text("disc · group 3 of 3").wait_for()
    assert "40 images: 39 unseen, 0 kept, 1 rejected" in heading.inner_text()
    page.keyboard.press("Shift+K")
    page.get_by_text("40 images: 0 unseen, 39 kept, 1 rejected").wait_for()
    page.keyboard.press("Shift+R")
    page.get_by_text("Nothing of this group is unseen").wait_for()
    page.keyboard.press("u")
    page.get_by_text("40 images: 39 unseen, 0 kept, 1 rejected").wait_for()
    page.get_by_text("Reject all 39 unseen (Shift+R)").click()
    page.get_by_text("40 images: 0 unseen, 0 kept, 40 rejected").wait_for()
    counts = "decided 82 of 120 (68.3%) by 27 looks"
    assert counts in top.inner_text()
    assert page.errors == []
    server.end(signal.SIGKILL)

    # Again, after it was killed, and once more from the manifest.
    for _ in "12":
        server = serve("--wanted", 80)
        page = open_tab(browser, server)
        assert counts in page.locator(".review-top").inner_text()
        assert "decisions of a review" in server.text or _ == "2"
        server.end()
    found = states(tmp_path / "ood.csv")
    assert [found.count(state) for state in ("kept", "rejected")] == [39, 43]
    page = open_tab(browser, serve("--wanted", 80))
    # What each order costs, by what was kept.
    page.get_by_label("order", exact=True).click()
    for name in ("hardest first", "diverse first", "class by turns"):
        page.get_by_text(
            re.compile(rf"{name} \((\d+ looks|too few images)\)")
        ).first.wait_for()
    page.locator(".q-item", has_text="diverse first").click()
    page.wait_for_function(
        """() => document.querySelectorAll(".card")[1].dataset.row % 3"""
    )
    page.get_by_text("Group alike").click()
    page.get_by_text("disc · group 1 of 3").wait_for()
    assert page.errors == []


def test_groups_without_features_say_why(tmp_path, serve, browser):
    make_candidates(tmp_path)
    page = open_tab(browser, serve())
    page.get_by_text("Group alike").click()
    page.get_by_text("there is no file of features").wait_for()
    wait_for(page, *["unseen"] * 6)
    assert page.get_by_role("switch").get_attribute("aria-checked") == "false"
    page.get_by_label("order", exact=True).click()
    page.get_by_text("hardest first (no evidence yet)").first.wait_for()
    assert page.errors == []


def test_keys_are_meant_for_the_first_image_after_a_choice(tmp_path, serve, browser):
    rows = [
        replace(row, class_name=name, rank=rank)
        for rank, row in enumerate(make_groups(tmp_path)[:20], start=1)
        for name in ("disc", "ring")
    ]
    # The second class has the same images in another order.
    for row in rows[1::2]:
        row.probability = 1 - row.probability
    write_manifest(tmp_path / "ood.csv", rows)
    page = open_tab(browser, serve())
    # The class that is shown, too.
    for name in ("ring", "ring", "disc", "all classes"):
        page.locator(".q-field", has_text="class").first.click()
        page.locator(".q-item", has_text=name).click()
        page.wait_for_function(
            "() => document.activeElement === document.querySelector('.card')"
        )
    assert page.errors == []


def test_a_full_disk_is_said_on_the_page(tmp_path, small_disk, serve, browser):
    make_candidates(small_disk)
    with (small_disk / "big").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(100)):
            pass
    server = serve("--cache", tmp_path / "cache", manifest="disk/ood.csv")
    page = open_tab(browser, server)
    page.keyboard.press("k")
    page.get_by_text("Not saved: nothing has changed").wait_for()
    fault = page.locator(".review-fault")
    assert "Not saved: " in fault.inner_text()
    assert "No space left on device" in fault.inner_text()
    wait_for(page, *["unseen"] * 6)
    (small_disk / "big").unlink()
    page.keyboard.press("r")
    wait_for(page, "unseen", "rejected", *["unseen"] * 4)
    fault.wait_for(state="hidden")
    text = server.end()
    assert re.search("not saved: .*ood.csv.journal: No space left on device", text)
    assert states(small_disk / "ood.csv")[:3] == ["unseen", "rejected", "unseen"]
