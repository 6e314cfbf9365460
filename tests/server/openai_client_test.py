"""The official OpenAI Python client (PyPI: openai) against the server. Ends with code 77 when it is not installed."""

import sys

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
    assert answer.usage.prompt_tokens_details.cached_tokens == 0

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
    expect(openai.BadRequestError, "unsupported_parameter", lambda: create(model=name, messages=MESSAGES, n=2))
    expect(openai.BadRequestError, "invalid_value",
           lambda: client(url).completions.create(model=name, prompt=[2**31 - 1]))
    expect(openai.NotFoundError, "model_not_found", lambda: create(model="no-such-model", messages=MESSAGES))
    expect(openai.NotFoundError, "unknown_url", lambda: client(url).embeddings.create(model=name, input="a"))


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


CHECKS = [models, chat, chat_stream_helper, chat_logprobs, completion, echo_logprobs_and_token_ids, exceptions,
          scripted_error_inside_a_stream, scripted_comments_do_not_disturb]

if __name__ == "__main__":
    with server_under_test.base_url() as (where, is_scripted):
        server_under_test.run(CHECKS, where, is_scripted)
    sys.exit(0)
