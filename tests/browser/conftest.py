"""A real Chromium, and the built book served from this machine, for the tests that look at pages as a reader does."""

import functools
import http.server
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(Path(__file__).parent))  # test_pages.py holds what other tests of pages share

from kit.browser import NAMES, find_chromium, list_flags  # noqa: E402


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A headless Chromium; without one the tests skip with the reason, in continuous integration they fail."""
    executable = find_chromium()
    if executable is None:
        wanted = os.environ.get("CHROMIUM")
        reason = f"CHROMIUM={wanted} is no executable" if wanted else f"none of {', '.join(NAMES)} is on the PATH"
        reason += "; install Chromium or Chrome, or set CHROMIUM=/path/to/it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"the browser tests must run in continuous integration: {reason}")
        pytest.skip(f"no browser: {reason}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list_flags())
        yield chromium
        chromium.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each on the terminal."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(built_book: Path) -> Iterator[str]:
    """The address of the built book on this machine."""
    handler = functools.partial(QuietHandler, directory=str(built_book))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
