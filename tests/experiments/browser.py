"""Opens a page in a real browser without a screen, and asks it what it made of it."""

import html
import json
import re
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Runs in the page once all is loaded, and tells the page around it.
QUESTIONS = """
<script>addEventListener("load", () => {
  const drawn = box => box.width > 0 && box.height > 0;
  parent.postMessage(JSON.stringify({
    images: [...document.images].map(i => i.complete && i.naturalWidth > 0),
    figures: [...document.querySelectorAll("svg")].map(s => drawn(s.getBoundingClientRect())),
    fetched: performance.getEntriesByType("resource").map(r => r.name),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    width: innerWidth,
    ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector("svg text")).fill,
  }), "*");
});</script>
"""
# A window has a least width that phones are below; a frame can be of any.
AROUND = """<!doctype html><meta name="color-scheme" content="light dark">
<script>addEventListener("message", event => {{
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = event.data;
  document.body.append(answer);
}});</script>
<body><iframe src="asked.html" style="width: {width}px; height: 2000px; border: 0"></iframe>
"""


def find():
    """Returns the path of a browser, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def ask(page, tmp_path, *, width=1200, dark=False):
    """Returns what a browser says of a page, and what it wrote to its console."""
    asked = tmp_path / "asked.html"
    text = page.read_text(encoding="utf-8")
    assert "</head>" in text
    asked.write_text(text.replace("</head>", f"{QUESTIONS}</head>", 1), encoding="utf-8")
    (tmp_path / "around.html").write_text(AROUND.format(width=width), encoding="utf-8")
    command = [
        find(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever it asks for, it does not get
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        (tmp_path / "around.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), said
