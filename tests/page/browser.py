"""A headless Chromium, driven by chromedriver (W3C WebDriver) with the standard library alone."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

PATIENCE = 20


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Browser:
    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="fedgate-page-")
        port = free_port()
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={port}", "--log-level=SEVERE"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.base = f"http://127.0.0.1:{port}"
        self.session = None
        wait(lambda: self.is_up(), "chromedriver")
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--hide-scrollbars", f"--user-data-dir={self.profile}"],
        }
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = f"/session/{answer['sessionId']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(10)
            shutil.rmtree(self.profile, ignore_errors=True)

    def is_up(self):
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def on(self, path, body=None):
        return self.call("POST" if body is not None else "GET", self.session + path, body)

    def open(self, url):
        self.on("/url", {"url": url})

    def js(self, script, *args):
        return self.on("/execute/sync", {"script": script, "args": list(args)})

    def until(self, script, what, *args):
        return wait(lambda: self.js(script, *args), what)

    def keys(self, text):
        """Types on the keyboard, wherever the focus is."""
        strokes = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.on("/actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    def click(self, css):
        element = self.on("/element", {"using": "css selector", "value": css})
        self.on(f"/element/{list(element.values())[0]}/click", {})

    def cdp(self, command, **params):
        return self.on("/goog/cdp/execute", {"cmd": command, "params": params})

    def screen(self, width, height, dark=False, phone=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=2 if phone else 1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", features=[scheme])

    def shot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.cdp("Page.captureScreenshot", format="png")["data"]))

    def complaints(self):
        """What the console says since it was last asked."""
        entries = self.call("POST", self.session + "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]


def wait(ready, what):
    end = time.monotonic() + PATIENCE
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {PATIENCE} s")
        time.sleep(0.05)
