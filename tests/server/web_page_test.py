"""The page at / in a real browser: a long prompt is sent, its bar moves, the answer is read, and nothing that the
model writes becomes HTML. --screenshot FILE takes a picture while the prompt is under way. Ends with code 77 when there is no Chromium."""

import argparse
import json
import subprocess
import sys

import browser

SEEN = """
  window.seen = [];
  new MutationObserver(() => window.seen.push([document.getElementById('bar').value,
                                               document.getElementById('progress-text').textContent]))
      .observe(document.getElementById('progress-text'), {childList: true, characterData: true, subtree: true});
"""


def send(page, text):
    page.run(f"document.getElementById('prompt').value = {json.dumps(text)}")
    page.run("document.getElementById('send').click()")


def check(page, url, scripted, screenshot):
    page.call("Page.navigate", url=url + "/")
    page.wait("document.readyState === 'complete' && document.getElementById('model').textContent !== '…'")
    page.run(SEEN)
    page.run("document.getElementById('thinking').checked = true")
    page.run("document.getElementById('max-tokens').value = 200")
    words = "PAGE " if scripted else "What is in this text? "
    send(page, words + "The water rises behind the gate and the gate lets it through. " * (40 if scripted else 300))
    page.wait("window.seen.length >= 3")
    if screenshot:
        page.wait("document.getElementById('bar').value > 0.5 || document.body.dataset.answers")
        page.screenshot(screenshot)
    page.wait("document.body.dataset.answers === '1'", 300)
    assert page.run("document.querySelectorAll('.turn.error').length") == 0, page.run("document.body.innerText")

    seen = page.run("window.seen")
    values = [value for value, _ in seen]
    assert values == sorted(values) and len(set(values)) >= 3, values
    assert values[-1] == 1 and 0 < values[0] < 1, values
    assert any("left" in text for _, text in seen), seen
    assert page.run("document.getElementById('progress').hidden")
    assert page.run("document.querySelector('.turn.assistant footer').textContent.includes('prompt tokens')")
    page.wait("document.getElementById('strip').getContext('2d')"
              ".getImageData(0, 0, 1200, 14).data.some((value) => value > 0)")
    if scripted:
        assert page.run("document.querySelector('.turn.assistant details p').textContent") == "six times **seven**"
        assert not page.run("document.querySelector('.turn.assistant details').open")
        content = page.run("document.querySelector('.turn.assistant .content').innerHTML")
        assert "<h3>Result</h3>" in content and "<strong>42</strong>" in content, content
        assert "<code>not 41</code>" in content and "<li>&lt;b&gt;one&lt;/b&gt;</li>" in content, content
        assert page.run("document.querySelectorAll('.turn img, .turn b').length") == 0
        assert page.run("document.title") == "sluice"
        page.run("document.getElementById('new').click()")
        page.run("document.getElementById('thinking').checked = false")
        send(page, "hello")
        page.wait("document.body.dataset.answers === '2'")
        assert page.run("document.querySelector('.turn.assistant .content').textContent") == "Hello 你 world"
        stopping(page)
    assert page.complaints() == [], page.complaints()
    inline_code_does_not_run(page)


def stopping(page):
    send(page, "HOLD")
    page.wait("!document.getElementById('stop').disabled")
    page.run("document.getElementById('stop').click()")
    page.wait("document.body.dataset.answers === '3'")
    assert page.run("document.querySelector('.turn.error').textContent") == "Stopped."


def inline_code_does_not_run(page):
    page.run("""{
      const script = document.createElement('script');
      script.textContent = 'window.inlineRan = true';
      const image = document.createElement('img');
      image.setAttribute('onerror', 'window.inlineRan = true');
      document.body.append(script, image);
      image.src = 'data:,no picture';
    }""")
    page.wait("document.images[0].complete")
    assert page.run("window.inlineRan === undefined")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", help="program that serves a scripted engine")
    parser.add_argument("--base-url", help="a server that runs")
    parser.add_argument("--screenshot")
    options = parser.parse_args()
    program = browser.find()
    if program is None:
        print("left out: no chromium is installed")
        sys.exit(77)
    with browser.Page(program, 1000, 760) as page:
        if options.base_url:
            return check(page, options.base_url.rstrip("/"), False, options.screenshot)
        with subprocess.Popen([options.server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            try:
                check(page, server.stdout.readline().strip(), True, options.screenshot)
            finally:
                server.stdin.close()
            assert server.wait(timeout=10) == 0


if __name__ == "__main__":
    main()
    print("ok")
