"""Pages of reports that ask for something: the browser must refuse, because the page forbids it."""

import http.server
import re
import threading

import pytest
import torch
from safetensors.torch import save_file

from diffusab_book.report import Options, measure, page


@pytest.fixture
def server():
    """A server of this machine that remembers what it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *args):
            pass

    asked = []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    running.server_close()


@pytest.mark.browser
@pytest.mark.parametrize("forbidden", [True, False], ids=["as written", "without the policy"])
def test_page_lets_nothing_be_fetched(browser, server, tmp_path, forbidden):
    address, asked = server
    save_file({"z": torch.randn(2, 4, 16, 16)}, tmp_path / "z.safetensors")
    report = measure(Options(latents=(str(tmp_path / "z.safetensors"),), samples=2, resolution=64, device="cpu"))
    main = f'<img src="{address}/image" alt=""><link rel="stylesheet" href="{address}/style">'
    script = f'fetch("{address}/fetch").catch(() => 0).then(() => document.body.classList.add("tried"));'
    text = page.render(report, "", "").replace("</main>", f"{main}<script>{script}</script></main>")
    if not forbidden:
        text, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        assert count == 1
    (tmp_path / "page.html").write_text(text)
    context = browser.new_context()
    opened = context.new_page()
    opened.goto((tmp_path / "page.html").as_uri(), wait_until="load")
    opened.wait_for_selector("body.tried")
    context.close()
    assert set(asked) == (set() if forbidden else {"/image", "/style", "/fetch"})
