"""Headless Chromium for tests of web pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Yield a browser; the test is skipped if none is installed."""
    api = pytest.importorskip("playwright.sync_api")
    if not PROGRAM:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        # In a container Chromium may not create a sandbox; it only loads our own pages.
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, with its requests and uncaught exceptions."""

    page: "Page"
    asked: list[str] = field(default_factory=list)
    """Addresses that the page and its workers requested."""
    problems: list[str] = field(default_factory=list)
    """Uncaught exceptions."""

    def is_alone(self, address: str) -> bool:
        """Return whether all requests went to the server of an address."""
        own = "{0.scheme}://{0.netloc}/".format(urlsplit(address))
        return all(url.startswith((own, f"blob:{own}")) for url in self.asked)


@contextmanager
def watched(browser: "Browser", width: int) -> Iterator[Watched]:
    """Yield an empty page of this width in pixels."""
    context = browser.new_context(viewport={"width": width, "height": 780})
    context.set_default_timeout(120_000)
    found = Watched(context.new_page())
    context.on("request", lambda request: found.asked.append(request.url))
    found.page.on("pageerror", lambda error: found.problems.append(str(error)))
    yield found
    context.close()
