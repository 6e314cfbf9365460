"""The rules of streams and errors, checked on the bytes with the standard library alone."""

import http.client
import json
import socket
import sys
import urllib.parse

import server_under_test


def connect(url):
    parts = urllib.parse.urlsplit(url)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)


def model(url):
    connection = connect(url)
    connection.request("GET", "/v1/models")
    return json.loads(connection.getresponse().read())["data"][0]["id"]


def post(url, path, body):
    connection = connect(url)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()


def events(response):
    """The data of every event; any line a strict client could stumble over is a failure."""
    assert response.status == 200, response.read()
    assert response.getheader("Content-Type") == "text/event-stream"
    found = []
    blank = True
    for raw in response:
        line = raw.decode("utf-8")
        assert line.endswith("\n")
        line = line[:-1]
        if not line:
            assert not blank, "two blank lines"
            blank = True
            continue
        assert blank, f"an event of two lines: {line!r}"
        blank = False
        if line.startswith(":"):
            continue
        assert line.startswith("data: "), f"neither data nor a comment: {line!r}"
        found.append(line[6:])
    assert blank, "the last event is not closed"
    assert found[-1] == "[DONE]"
    assert "[DONE]" not in found[:-1]
    return [json.loads(event) for event in found[:-1]]


def same_identity(chunks, kind):
    for chunk in chunks:
        for name in ("id", "created", "model", "system_fingerprint"):
            assert chunk[name] == chunks[0][name]
        assert chunk["object"] == kind


def chat_stream(url):
    chunks = events(post(url, "/v1/chat/completions", {
        "model": model(url), "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": 20, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}))
    same_identity(chunks, "chat.completion.chunk")
    *body, usage = chunks
    assert body[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in body[1:])
    assert all(chunk["usage"] is None for chunk in body)
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in body]
    assert reasons[:-1] == [None] * (len(reasons) - 1) and reasons[-1] in ("stop", "length")
    assert body[-1]["choices"][0]["delta"] == {}
    assert usage["choices"] == []
    counts = usage["usage"]
    assert counts["total_tokens"] == counts["prompt_tokens"] + counts["completion_tokens"]
    assert 0 <= counts["prompt_tokens_details"]["cached_tokens"] < counts["prompt_tokens"]


def completion_stream_equals_the_whole(url):
    body = {"model": model(url), "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0, "logprobs": 2,
            "echo": True, "return_token_ids": True}
    chunks = events(post(url, "/v1/completions", {**body, "stream": True}))
    same_identity(chunks, "text_completion")
    assert all("usage" not in chunk for chunk in chunks)
    whole = json.loads(post(url, "/v1/completions", body).read())["choices"][0]
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        parts = [choice["logprobs"][name] for choice in choices if choice["logprobs"]]
        assert sum(parts, []) == whole["logprobs"][name], name
    assert sum((choice.get("token_ids", []) for choice in choices), []) == whole["token_ids"]
    assert choices[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    assert whole["text"].startswith("Once upon a time")


def prompts_as_ids_and_text_agree(url):
    body = {"model": model(url), "max_tokens": 4, "temperature": 0, "return_token_ids": True}
    text = json.loads(post(url, "/v1/completions", {**body, "prompt": ["one two", "three"]}).read())["choices"]
    ids = [choice["prompt_token_ids"] for choice in text]
    again = json.loads(post(url, "/v1/completions", {**body, "prompt": ids}).read())["choices"]
    assert [choice["token_ids"] for choice in again] == [choice["token_ids"] for choice in text]


def progress_comes_before_the_answer(url):
    """One choice with nothing in it in every progress chunk, after the role in a chat; never a role again."""
    for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 300}]}),
                       ("/v1/completions", {"prompt": "x" * 300})):
        chunks = events(post(url, path, {**body, "model": model(url), "max_tokens": 3, "stream": True,
                                         "return_progress": True, "stream_options": {"include_usage": True}}))
        same_identity(chunks, chunks[0]["object"])
        progress = [chunk for chunk in chunks if "prompt_progress" in chunk]
        assert progress and all(len(chunk["choices"]) == 1 for chunk in progress)
        for chunk in progress:
            choice = chunk["choices"][0]
            assert choice["finish_reason"] is None and chunk["usage"] is None
            assert choice.get("delta", {}) == {} and choice.get("text", "") == ""
        done = [chunk["prompt_progress"]["processed"] for chunk in progress]
        assert done == sorted(done) and done[-1] == progress[-1]["prompt_progress"]["total"]
        assert chunks.index(progress[-1]) < len(chunks) - 2
        roles = [i for i, chunk in enumerate(chunks) if chunk["choices"] and "role" in chunk["choices"][0].get("delta", {})]
        assert roles == ([0] if "chat" in path else [])


def continuous_usage_counts_up(url):
    chunks = events(post(url, "/v1/completions", {
        "model": model(url), "prompt": "abc", "max_tokens": 6, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True}}))
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts) and counts[-1] == counts[-2] and chunks[-1]["choices"] == []


def several_answers_end_once_each(url):
    chunks = events(post(url, "/v1/chat/completions", {
        "model": model(url), "messages": [{"role": "user", "content": "Hi"}], "n": 3, "max_tokens": 5, "stream": True}))
    for index in range(3):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""} and own[-1]["delta"] == {}
        assert [choice["finish_reason"] is not None for choice in own] == [False] * (len(own) - 1) + [True]


def refusals(url):
    name = model(url)
    cases = [
        ({"model": "no such model", "prompt": "a"}, 404, "model_not_found", "model"),
        ({"model": name}, 400, "missing_required_parameter", "prompt"),
        ({"model": name, "prompt": "a", "temperature": 3}, 400, "out_of_range", "temperature"),
        ({"model": name, "prompt": [2**31 - 1]}, 400, "invalid_value", "prompt[0]"),
        ({"model": name, "prompt": "a", "max_tokens": 2**31 - 1, "stream": True}, 400, "context_length_exceeded",
         "prompt"),
        ({"model": name, "prompt": "a", "suffix": "b"}, 400, "unsupported_parameter", "suffix"),
    ]
    for body, status, code, param in cases:
        response = post(url, "/v1/completions", body)
        error = json.loads(response.read())["error"]
        assert (response.status, error["code"], error["param"]) == (status, code, param), (body, error)
        assert set(error) == {"message", "type", "param", "code"}
        assert response.getheader("x-request-id")


def scripted_error_inside_a_stream(url):
    chunks = events(post(url, "/v1/completions", {"model": model(url), "prompt": "BREAK", "stream": True}))
    assert "NaN" in chunks[-1]["error"]["message"]
    assert all("error" not in chunk for chunk in chunks[:-1])


def scripted_keep_alive(url):
    parts = urllib.parse.urlsplit(url)
    body = json.dumps({"model": model(url), "prompt": "HOLD", "stream": True}).encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
        got = b""
        while got.count(b"\n: ") < 3:
            more = connection.recv(4096)
            assert more, got
            got += more


CHECKS = [chat_stream, completion_stream_equals_the_whole, prompts_as_ids_and_text_agree,
          progress_comes_before_the_answer, continuous_usage_counts_up, several_answers_end_once_each, refusals,
          scripted_error_inside_a_stream, scripted_keep_alive]

if __name__ == "__main__":
    with server_under_test.base_url() as (where, is_scripted):
        server_under_test.run(CHECKS, where, is_scripted)
    sys.exit(0)
