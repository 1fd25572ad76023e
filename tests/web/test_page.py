"""The live page in a real browser."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests import needs
from tests.web.conftest import make_view

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        needs.missing(f"no browser at {CHROMIUM}: install Debian's chromium, or set CHROMIUM")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser, url, **how):
    page = browser.new_page(**how)
    page.requested = []
    page.complaints = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("websocket", lambda ws: page.requested.append(ws.url))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(url)
    return page


def test_page_shows_the_site_and_follows_it(browser, server, tmp_path):
    server.cell.set(make_view(13.0))
    page = open_page(browser, server.web.url, viewport={"width": 1200, "height": 900})
    expect(page.locator("h1")).to_have_text("Home & <b>Garage</b>")
    zone = page.locator("[data-zone=garage]")
    expect(zone.locator("tbody tr")).to_have_count(3)
    expect(zone.locator("tbody tr").nth(0)).to_contain_text("22.5")
    expect(zone.locator("tbody tr").nth(1).locator("td").nth(1)).to_have_text("–")
    expect(zone.locator(".badge.bad")).to_have_count(0)
    evse = page.locator("[data-evse='CS1/1']")
    expect(evse).to_contain_text("Charging")
    expect(evse).to_contain_text("held to 13 A by the main fuse on L1")
    expect(evse.locator("td").nth(2)).to_have_text(re.compile(r"13\.0\sA"))
    expect(page.locator("[data-evse='CS2/1']")).to_contain_text("<script>alert(1)</script> paused")
    expect(page.locator("ul.events")).to_contain_text("limit 4.2 kW")
    stations = page.locator(".part-csms table")
    expect(stations.locator("tbody tr")).to_have_count(2)
    expect(stations.locator("th")).to_have_text(["id", "online", "ocpp version", "queue up"])
    expect(page.locator("[data-limit=dso]")).to_contain_text(re.compile(r"limited\s*4\.2\skW"))
    page.screenshot(path=tmp_path / "wide.png", full_page=True)

    server.cell.set(make_view(6.0, stale=True))
    expect(evse.locator("td").nth(2)).to_have_text(re.compile(r"6\.0\sA"), timeout=4000)
    expect(zone.locator(".badge.bad")).to_have_text("meter lost")
    expect(page.locator(".problems")).to_contain_text("the disk is 91 % full")
    # No more cycles: the page itself must say so.
    expect(page.locator("[data-health=stalled]")).to_have_text("control stalled", timeout=6000)

    host = server.web.url.split("/")[2]
    assert len(page.requested) > 5
    strangers = [url for url in page.requested if not re.match(rf"(http|ws)://{re.escape(host)}/|data:|blob:", url)]
    assert strangers == []
    assert page.complaints == []


def test_page_fits_a_phone_and_the_dark(browser, server, tmp_path):
    server.cell.set(make_view(13.0, stale=True))
    page = open_page(browser, server.web.url, viewport={"width": 375, "height": 800}, color_scheme="dark")
    expect(page.locator("[data-evse]")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in re.findall(r"\d+", background)[:3]) < 150, background
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    for element in page.locator("[data-zone] tbody td, [data-evse] td, .things td").all():
        box = element.bounding_box()
        assert box is None or box["x"] + box["width"] <= 376, "cut off at the edge"


def test_page_opens_before_the_first_cycle(browser, server):
    page = open_page(browser, server.web.url)
    expect(page.locator("[data-health=starting]")).to_have_text("starting")
    server.cell.set(make_view())
    expect(page.locator("[data-zone]")).to_have_count(2, timeout=4000)
