"""The status page in a real browser: `python3 -m tests.page BINARY [--shots DIRECTORY]`.

With the real fedgate: what fails appears without a reload, its story opens, the filter finds it, a
lost connection is told and found again, a token is asked for. With a made-up state of things: sort,
level chips, keyboard, phone width, dark and light, and text of strangers that is shown as text. In all
of it the console stays silent. `--shots` also keeps pictures.
"""

import argparse
import pathlib
import sys

from .browser import Browser
from .gate import TOKEN, Gate
from .scripted import HOSTILE, Scripted

NAMES = "return [...document.querySelectorAll('#rows tr')].map(row => row.dataset.domain)"
ENTER, ESCAPE, DOWN, UP = "\ue007", "\ue00c", "\ue015", "\ue013"


def silent(browser):
    said = browser.complaints()
    assert not said, said


def has_row(browser, name):
    browser.until(f"{NAMES}.includes(arguments[0])", f"a row for {name}", name)


def filtered(browser, text):
    browser.js("document.getElementById('filter').focus()")
    browser.keys(text)
    return browser.js(NAMES)


def unfilter(browser):
    browser.keys(ESCAPE)
    assert browser.js("return document.getElementById('filter').value") == ""


def live(browser, binary):
    with Gate(binary) as gate:
        browser.open(gate.url)
        browser.until("return document.getElementById('link-text').textContent === 'live'", "live")
        assert browser.js(NAMES) == []
        assert "No stream" in browser.js("return document.getElementById('empty').textContent")
        alerts = browser.js("return document.getElementById('alerts').textContent")
        assert "legacy" in alerts and "resolver" in alerts, alerts
        stream = gate.send_to("nowhere.example", "b\u00fccher.example")
        has_row(browser, "nowhere.example")
        has_row(browser, "b\u00fccher.example")
        row = browser.until(
            "const row = document.querySelector('[data-domain=\"nowhere.example\"]');"
            "return row.textContent.includes('resolution') && row.textContent", "the reason")
        assert "failing" in row, row
        browser.until("return document.getElementById('events').textContent.includes('failed')", "an event")
        browser.until("return document.title.startsWith('(')", "the count in the title")
        assert filtered(browser, "b\u00fcch resolution") == ["b\u00fccher.example"]
        unfilter(browser)
        # the story of one domain
        browser.click("[data-domain='nowhere.example'] button")
        browser.until(
            "const text = document.getElementById('details-body').textContent;"
            "return text.includes('request timed out') && text.includes('fedgate retry nowhere.example')",
            "the attempts")
        assert browser.js("return document.querySelectorAll('.attempts > li').length") >= 1
        browser.keys(ESCAPE)
        browser.until("return !document.getElementById('details').open", "the details to close")
        stream.close()
        silent(browser)
    browser.until("return document.getElementById('link-text').textContent === 'no connection'", "lost")
    # refused connections are the browser's own words
    assert all("ERR_" in said for said in browser.complaints())


def token(browser, binary):
    with Gate(binary, token=True) as gate:
        browser.open(gate.url)
        browser.until("return !document.getElementById('token').hidden", "the question for the token")
        browser.keys(TOKEN + ENTER)
        browser.until("return !document.getElementById('main').hidden", "the page")
        said = browser.complaints()
        assert all("401" in line for line in said), said


def scripted(browser, binary, shots):
    with Gate(binary) as gate:
        page, policy = gate.page()
    with Scripted(page, policy) as server:
        browser.screen(1440, 1150)
        browser.open(server.url)
        browser.until(f"{NAMES}.length === 11", "all domains")
        if shots:
            pictures(browser, shots)
        sorting(browser)
        server.more.append({**server.state(0)["domains"][0], "domain": "new.example"})
        has_row(browser, "new.example")
        narrow(browser)
        silent(browser)
    with Scripted(page, policy, strangers=True) as server:
        browser.screen(1440, 1150)
        browser.open(server.url)
        browser.until(f"{NAMES}.length === 12", "all domains")
        shown = browser.js(
            "return [...document.querySelectorAll('#rows tr')].map(row => row.textContent)"
            ".find(text => text.includes('onerror'))")
        assert HOSTILE.split("\u202e")[0] in shown and "\u202e" not in shown, shown
        browser.js("document.querySelector('#rows tr[data-domain^=\"<img\"] button').click()")
        browser.until("return document.getElementById('details-body').textContent.includes('onerror')",
                      "the details")
        assert browser.js("return document.title") != "taken"
        assert browser.js("return document.querySelectorAll('img, #rows script').length") == 0
        silent(browser)


def sorting(browser):
    names = browser.js(NAMES)
    browser.js("[...document.querySelectorAll('#head button')].find(b => b.textContent === 'Domain').click()")
    up = browser.js(NAMES)
    assert up == sorted(names, key=lambda name: name.replace("\u00fc", "u")), up
    browser.js("[...document.querySelectorAll('#head button')].find(b => b.textContent === 'Domain').click()")
    assert browser.js(NAMES) == up[::-1]
    assert browser.js("return document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "descending"
    browser.click("[data-show='failing']")
    assert sorted(browser.js(NAMES)) == ["expired.example", "gone.example", "plain.example"]
    browser.click("[data-show='encrypted']")
    assert len(browser.js(NAMES)) == 2
    browser.click("[data-show='all']")
    # by keyboard alone
    browser.js("document.activeElement.blur()")
    browser.keys("/dane")
    assert sorted(browser.js(NAMES)) == ["conversations.example", "muc.conversations.example"]
    unfilter(browser)
    browser.js("document.querySelector('#rows button').focus()")
    browser.keys(DOWN + DOWN + UP)
    focus = browser.js("return document.activeElement.closest('tr')?.dataset.domain")
    assert focus == browser.js(NAMES)[1], focus
    # a state that comes meanwhile leaves the focus where it is
    before = browser.js("return document.getElementById('stanza-chart').innerHTML")
    browser.until("return document.getElementById('stanza-chart').innerHTML !== arguments[0]", "a new state", before)
    assert browser.js("return document.activeElement.closest('tr')?.dataset.domain") == focus
    browser.keys(ENTER)
    browser.until("return document.getElementById('details').open", "the details")
    browser.keys(ESCAPE)
    browser.until("return !document.getElementById('details').open", "the details to close")


def narrow(browser):
    for width in (360, 412, 768, 1024):
        browser.screen(width, 800, phone=width < 500)
        wide = browser.js("return document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} wide on a screen of {width}"


def pictures(browser, shots):
    shots.mkdir(parents=True, exist_ok=True)
    browser.until("return [...document.querySelectorAll('td.rate polyline')]"
                  ".some(line => line.getAttribute('points').split(' ').length > 14)", "small charts")
    browser.until("return document.querySelectorAll('#events li').length > 8", "events")
    for name, width, height, dark, phone in [
            ("status", 1440, 1150, False, False), ("dark", 1440, 1150, True, False),
            ("phone", 390, 844, False, True), ("phone-dark", 390, 844, True, True)]:
        browser.screen(width, height, dark=dark, phone=phone)
        browser.js("return new Promise(done => setTimeout(done, 600))")
        browser.shot(shots / f"{name}.png")
        if phone:
            browser.js("document.getElementById('domains').scrollIntoView()")
            browser.shot(shots / f"{name}-table.png")
            browser.js("scrollTo(0, 0)")
    browser.screen(1440, 1150)
    browser.click("[data-domain='expired.example'] button")
    browser.until("return document.querySelectorAll('.attempts ol li').length > 3", "the steps")
    browser.shot(shots / "details.png")
    browser.keys(ESCAPE)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("--shots", type=pathlib.Path)
    given = arguments.parse_args()
    passed = 0
    for test in (lambda b: live(b, given.binary), lambda b: token(b, given.binary),
                 lambda b: scripted(b, given.binary, given.shots)):
        with Browser() as browser:
            test(browser)
        passed += 1
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
