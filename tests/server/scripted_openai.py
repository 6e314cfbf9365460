"""An OpenAI server whose answers are a function, for the tests of clients. Keeps every body it was sent."""

import contextlib
import http.server
import json
import threading


class Scripted:
    """`answer(body)` is the completion's text, or an int: the status of a refusal, or None: nothing, for ever."""

    def __init__(self, answer, tokenize=None):
        self.answer = answer
        self.tokenize = tokenize
        self.bodies = []
        self.lock = threading.Lock()
        self.released = threading.Event()
        scripted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, value):
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.reply(200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/tokenize":
                    if scripted.tokenize is None:
                        return self.reply(404, {"error": {"message": "no such route"}})
                    return self.reply(200, {"tokens": scripted.tokenize(body["prompt"])})
                with scripted.lock:
                    scripted.bodies.append(body)
                text = scripted.answer(body)
                if text is None:
                    scripted.released.wait()
                    self.close_connection = True
                    return None
                if isinstance(text, int):
                    return self.reply(text, {"error": {"message": "as the script says"}})
                if isinstance(text, dict):
                    return self.reply(200, text)
                if self.path == "/generate":
                    return self.reply(200, {"text": text, "meta_info": {
                        "completion_tokens": 7, "prompt_tokens": 9, "finish_reason": {"type": "stop"}}})
                return self.reply(200, {
                    "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}})

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):  # a client that left: what this is for
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def prompts(self):
        return [body.get("prompt", body.get("text")) for body in self.bodies]


@contextlib.contextmanager
def serving(answer, tokenize=None):
    scripted = Scripted(answer, tokenize)
    thread = threading.Thread(target=lambda: scripted.server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield scripted
    finally:
        scripted.released.set()
        scripted.server.shutdown()
        scripted.server.server_close()
