"""The official OpenAI Python client (PyPI: openai) against the server. Ends with code 77 when it is not installed."""

import json
import sys
import time
import urllib.request

import server_under_test

try:
    import openai
except ImportError:
    print("left out: the openai package is not installed")
    sys.exit(77)


def client(url):
    return openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60)


def model(url):
    return client(url).models.list().data[0].id


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something."}]


def models(url):
    name = model(url)
    assert client(url).models.retrieve(name).id == name


def chat(url):
    answer = client(url).chat.completions.create(model=model(url), messages=MESSAGES, max_tokens=20, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert 0 <= answer.usage.prompt_tokens_details.cached_tokens < answer.usage.prompt_tokens

    text, finished, usage = "", 0, None
    for chunk in client(url).chat.completions.create(model=model(url), messages=MESSAGES, max_tokens=20,
                                                     temperature=0, stream=True,
                                                     stream_options={"include_usage": True}):
        if not chunk.choices:
            usage = chunk.usage
            continue
        text += chunk.choices[0].delta.content or ""
        finished += chunk.choices[0].finish_reason is not None
    assert text == answer.choices[0].message.content
    assert finished == 1
    assert usage.completion_tokens == answer.usage.completion_tokens


def chat_stream_helper(url):
    with client(url).chat.completions.stream(model=model(url), messages=MESSAGES, max_tokens=20) as stream:
        for _ in stream:
            pass
        try:
            finished = stream.get_final_completion().choices[0].finish_reason
        except openai.LengthFinishReasonError as error:  # how the helper reports "length"
            finished = error.completion.choices[0].finish_reason
    assert finished in ("stop", "length")


def chat_logprobs(url):
    answer = client(url).chat.completions.create(model=model(url), messages=MESSAGES, max_tokens=3, temperature=0,
                                                 logprobs=True, top_logprobs=4)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 4
        assert isinstance(token.bytes, list)


def completion(url):
    answer = client(url).completions.create(model=model(url), prompt="Once", max_tokens=8, temperature=0)
    assert answer.object == "text_completion"
    text = "".join(chunk.choices[0].text for chunk in client(url).completions.create(
        model=model(url), prompt="Once", max_tokens=8, temperature=0, stream=True))
    assert text == answer.choices[0].text


def echo_logprobs_and_token_ids(url):
    one = client(url).completions.create(model=model(url), prompt="Once upon", max_tokens=0, echo=True, logprobs=5,
                                         extra_body={"return_token_ids": True})
    choice = one.choices[0]
    assert choice.text == "Once upon"
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    ids = choice.model_extra["prompt_token_ids"]
    assert len(ids) == len(choice.logprobs.tokens) == one.usage.prompt_tokens
    two = client(url).completions.create(model=model(url), prompt=[ids, ids[:1]], max_tokens=0, echo=True, logprobs=5)
    assert two.choices[0].logprobs.token_logprobs == choice.logprobs.token_logprobs
    assert two.choices[1].index == 1


def expect(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.code == code, (error.code, code)
        assert error.request_id
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def exceptions(url):
    name = model(url)
    create = client(url).chat.completions.create
    expect(openai.BadRequestError, "out_of_range", lambda: create(model=name, messages=MESSAGES, temperature=9))
    expect(openai.BadRequestError, "context_length_exceeded",
           lambda: create(model=name, messages=MESSAGES, max_tokens=2**31 - 1, stream=True))
    expect(openai.BadRequestError, "unsupported_parameter",
           lambda: client(url).completions.create(model=name, prompt="a", suffix="b"))
    expect(openai.BadRequestError, "invalid_value",
           lambda: client(url).completions.create(model=name, prompt=[2**31 - 1]))
    expect(openai.NotFoundError, "model_not_found", lambda: create(model="no-such-model", messages=MESSAGES))
    expect(openai.NotFoundError, "unknown_url", lambda: client(url).embeddings.create(model=name, input="a"))


def several_answers(url):
    answer = client(url).chat.completions.create(model=model(url), messages=MESSAGES, max_tokens=8, temperature=0, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 1, "greedy answers to one prompt are equal"
    streamed = {0: "", 1: "", 2: ""}
    for chunk in client(url).chat.completions.create(model=model(url), messages=MESSAGES, max_tokens=8, temperature=0,
                                                     n=3, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(streamed.values()) == [choice.message.content for choice in answer.choices]


def stop_strings(url):
    whole = client(url).completions.create(model=model(url), prompt="Once", max_tokens=8, temperature=0)
    text = whole.choices[0].text
    mark = next((c for c in text[1:] if c != "\ufffd" and c not in text[0]), None)
    if mark is None:
        return
    cut = client(url).completions.create(model=model(url), prompt="Once", max_tokens=8, temperature=0, stop=[mark])
    assert cut.choices[0].text == text[:text.index(mark)] and cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].model_extra["matched_stop"] == mark
    kept = client(url).completions.create(model=model(url), prompt="Once", max_tokens=8, temperature=0, stop=[mark],
                                          extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].text == text[:text.index(mark) + 1]


def progress_and_timings(url):
    chunks = list(client(url).chat.completions.create(
        model=model(url), messages=MESSAGES, max_tokens=4, temperature=0, stream=True,
        extra_body={"return_progress": True, "timings": True}))
    assert all(chunk.choices for chunk in chunks)
    done = [chunk.model_extra["prompt_progress"] for chunk in chunks if "prompt_progress" in (chunk.model_extra or {})]
    assert done and done[-1]["processed"] == done[-1]["total"]
    assert chunks[-1].model_extra["timings"]["predicted_n"] >= 0


def names_of_requests(url):
    answer = client(url).completions.with_raw_response.create(model=model(url), prompt="a", max_tokens=1,
                                                              extra_body={"rid": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1" and answer.parse().id == "mine-1"


class Counted:
    """An HTTP client that counts what is sent."""

    def __init__(self):
        self.sent = 0
        self.http = openai.DefaultHttpxClient(event_hooks={"request": [self.count]})

    def count(self, _):
        self.sent += 1


def attempts(url, kind, **body):
    counted = Counted()
    retrying = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=2, timeout=60, http_client=counted.http)
    try:
        retrying.completions.create(model=model(url), **body)
    except kind:
        return counted.sent
    raise AssertionError(f"{kind.__name__} was not raised")


def what_is_wrong_is_not_sent_again(url):
    assert attempts(url, openai.BadRequestError, prompt="a", temperature=9) == 1
    assert attempts(url, openai.NotFoundError, prompt="a", extra_body={"model": "none"}) == 1


def scripted_retries(url):
    assert attempts(url, openai.InternalServerError, prompt="FULL") == 3, "a full queue may have room later"
    assert attempts(url, openai.InternalServerError, prompt="BREAK") == 1, "our fault stays, the header says so"


def fetch(where, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(where, data, {"Content-Type": "application/json"})) as answer:
        return json.loads(answer.read())


def scripted_abort_frees_the_request(url):
    stream = client(url).completions.create(model=model(url), prompt="HOLD", stream=True, extra_body={"rid": "held-1"})
    running = lambda: fetch(url + "/get_load")[0]["num_running_reqs"]
    before = running()
    assert fetch(url + "/abort_request", {"rid": "held-1"})["aborted"] == 1
    try:
        list(stream)
        raise AssertionError("the aborted stream ended as if it were whole")
    except openai.APIError as error:
        assert error.code == "aborted"
    assert running() == before - 1
    # A client that leaves frees its request as well.
    stream = client(url).completions.create(model=model(url), prompt="HOLD", stream=True)
    assert running() == before
    stream.close()
    for _ in range(200):
        if running() == before - 1:
            return
        time.sleep(0.02)
    raise AssertionError("the request of a client that left still runs")


def scripted_error_inside_a_stream(url):
    stream = client(url).completions.create(model=model(url), prompt="BREAK", stream=True)
    try:
        for _ in stream:
            pass
    except openai.APIError as error:
        assert "NaN" in error.message
        return
    raise AssertionError("the error inside the stream was not raised")


def scripted_comments_do_not_disturb(url):
    stream = client(url).completions.create(model=model(url), prompt="SLOW", stream=True, max_tokens=8)
    assert len(list(stream)) >= 2


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
                   "required": ["place"]}}}
ARGUMENTS = '{"place": "Oslo", "days": 3}'


def ask(url, words, **fields):
    return client(url).chat.completions.create(model=model(url), messages=[{"role": "user", "content": words}],
                                               **fields)


def scripted_tool_calls(url):
    answer = ask(url, "CALL", tools=[WEATHER]).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content == "On it."
    assert [call.function.name for call in answer.message.tool_calls] == ["get_weather"] * 2
    assert [call.function.arguments for call in answer.message.tool_calls] == [ARGUMENTS] * 2
    assert answer.message.tool_calls[0].id != answer.message.tool_calls[1].id


def scripted_tool_calls_in_a_stream(url):
    calls, content, reasons = {}, "", []
    for chunk in ask(url, "CALL", tools=[WEATHER], stream=True):
        delta = chunk.choices[0].delta
        content += delta.content or ""
        reasons.append(chunk.choices[0].finish_reason)
        for part in delta.tool_calls or []:
            if part.index not in calls:
                assert part.id and part.type == "function" and part.function.arguments == ""
                calls[part.index] = [part.function.name, ""]
            else:
                assert part.id is None and part.function.name is None
                calls[part.index][1] += part.function.arguments
    assert content == "On it."
    assert calls == {0: ["get_weather", ARGUMENTS], 1: ["get_weather", ARGUMENTS]}
    assert reasons[-1] == "tool_calls" and not any(reasons[:-1])


def scripted_tool_calls_by_the_stream_helper(url):
    with client(url).chat.completions.stream(model=model(url), tools=[WEATHER],
                                             messages=[{"role": "user", "content": "CALL"}]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0]
    assert [event.arguments for event in done] == [ARGUMENTS] * 2
    assert final.finish_reason == "tool_calls"
    assert [call.function.arguments for call in final.message.tool_calls] == [ARGUMENTS] * 2


def scripted_tool_choice(url):
    required = ask(url, "hello", tools=[WEATHER], tool_choice="required").choices[0]
    assert required.finish_reason == "tool_calls"
    assert required.message.tool_calls[0].function.arguments == ARGUMENTS
    name = {"type": "function", "function": {"name": "get_weather"}}
    named = ask(url, "hello", tools=[WEATHER], tool_choice=name).choices[0]
    assert named.finish_reason == "stop"
    assert named.message.tool_calls[0].function.arguments == ARGUMENTS
    none = ask(url, "hello", tools=[WEATHER], tool_choice="none").choices[0]
    assert none.message.tool_calls is None and none.message.content
    one = ask(url, "CALL", tools=[WEATHER], parallel_tool_calls=False).choices[0]
    assert len(one.message.tool_calls) == 1


def scripted_a_tool_loop(url):
    first = ask(url, "CALL", tools=[WEATHER]).choices[0].message
    messages = [{"role": "user", "content": "the weather"}, first]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "cold"} for call in reversed(first.tool_calls)]
    answer = client(url).chat.completions.create(model=model(url), messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content
    expect(openai.BadRequestError, "invalid_value",
           lambda: client(url).chat.completions.create(model=model(url), messages=messages[:3], tools=[WEATHER]))


def scripted_reasoning(url):
    for fields in ({"reasoning_effort": "high"}, {"extra_body": {"chat_template_kwargs": {"thinking": True}}}):
        message = ask(url, "THINK", **fields).choices[0].message
        assert message.model_extra["reasoning_content"] == "six times seven"
        assert message.content == "42"
    parts = ["", ""]
    for chunk in ask(url, "THINK", reasoning_effort="low", stream=True):
        delta = chunk.choices[0].delta
        assert not (delta.content and (delta.model_extra or {}).get("reasoning_content"))
        parts[0] += (delta.model_extra or {}).get("reasoning_content") or ""
        parts[1] += delta.content or ""
    assert parts == ["six times seven", "42"]


def tool_refusals(url):
    bad = {"type": "function", "function": {"name": "no name"}}
    expect(openai.BadRequestError, "invalid_value", lambda: ask(url, "x", tools=[bad]))
    expect(openai.BadRequestError, "invalid_value", lambda: ask(url, "x", tools=[bad], stream=True))
    expect(openai.BadRequestError, "invalid_value", lambda: ask(url, "x", tool_choice="required"))


SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["yes", "no"]},
                   "sure": {"type": "boolean"},
                   "grades": {"type": "object",
                              "properties": {"depth": {"enum": [1, 2, 3]}, "note": {"const": None}},
                              "required": ["depth", "note"], "additionalProperties": False}},
    "required": ["verdict", "sure", "grades"], "additionalProperties": False}


def form(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def check_form(text):
    answer = json.loads(text)
    assert set(answer) == {"verdict", "sure", "grades"}, answer
    assert answer["verdict"] in ("yes", "no") and isinstance(answer["sure"], bool), answer
    assert set(answer["grades"]) == {"depth", "note"} and answer["grades"]["depth"] in (1, 2, 3), answer
    assert answer["grades"]["note"] is None, answer


def real_json_schema(url):
    """Random weights never say anything in this form by themselves."""
    for seed in range(4):
        asked = {"model": model(url), "messages": MESSAGES, "max_tokens": 300, "temperature": 1.0, "seed": seed}
        free = client(url).chat.completions.create(**{**asked, "max_tokens": 60}).choices[0].message.content
        assert not free.lstrip().startswith("{"), free
        answer = client(url).chat.completions.create(**asked, response_format=form(SCHEMA))
        check_form(answer.choices[0].message.content)
        assert answer.choices[0].finish_reason == "stop"
        with client(url).chat.completions.create(**asked, response_format=form(SCHEMA), stream=True) as stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text == answer.choices[0].message.content


def json_schema_refusals(url):
    def refused(code, response_format):
        for stream in (False, True):
            expect(openai.BadRequestError, code, lambda: ask(url, "x", response_format=response_format, stream=stream))
    refused("missing_required_parameter", {"type": "json_schema"})
    refused("missing_required_parameter", {"type": "json_schema", "json_schema": {"name": "answer"}})
    refused("invalid_value", form({"type": "string", "pattern": "a+"}))
    refused("invalid_value", form({"type": "nonsense"}))
    refused("invalid_value", {"type": "yaml"})


CHECKS = [models, chat, chat_stream_helper, chat_logprobs, completion, echo_logprobs_and_token_ids, exceptions,
          scripted_error_inside_a_stream, scripted_comments_do_not_disturb, scripted_tool_calls,
          scripted_tool_calls_in_a_stream, scripted_tool_calls_by_the_stream_helper, scripted_tool_choice,
          scripted_a_tool_loop, scripted_reasoning, tool_refusals, real_json_schema, json_schema_refusals,
          several_answers, stop_strings, progress_and_timings, names_of_requests, what_is_wrong_is_not_sent_again,
          scripted_retries, scripted_abort_frees_the_request]

if __name__ == "__main__":
    with server_under_test.base_url() as (where, is_scripted):
        server_under_test.run(CHECKS, where, is_scripted)
    sys.exit(0)
