#!/usr/bin/env python3
"""The official `openai` package against an edge: openai_python.py BASE_URL MODE...

Every check runs in every mode, through the model's name (NAME@MODE). The first that fails ends the program.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import openai

QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
TOKENS = 24


class Checks:
    """What programs rely on, for one mode. Each method is one check."""

    def __init__(self, client, name, mode):
        self.client, self.model, self.mode = client, f"{name}@{mode}", mode

    def chat(self, **settings):
        settings = {"temperature": 0, "max_tokens": TOKENS} | settings
        return self.client.chat.completions.create(model=self.model, messages=QUESTION, **settings)

    def model_is_listed(self):
        assert self.model in [model.id for model in self.client.models.list()]
        assert self.client.models.retrieve(self.model).id == self.model

    def chat_is_answered(self):
        answer = self.chat()
        assert answer.model == self.model and answer._request_id
        assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.content
        assert answer.choices[0].finish_reason in ("stop", "length")
        usage = answer.usage
        assert 0 < usage.completion_tokens <= TOKENS
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        self.report_is_plausible(answer.collm)

    def report_is_plausible(self, report):
        assert report["mode"] == self.mode and not report["degraded"], report
        if self.mode in ("standalone", "whole"):
            assert report["bytes_up"] == 0 and report["tokens"]["cloud"] == 0, report
        else:
            assert report["bytes_up"] > 0 and report["bytes_down"] > 0, report
        if self.mode in ("cloud", "exact"):
            assert report["tokens"]["exit1"] == report["tokens"]["exit2"] == 0, report

    def stream_says_the_same(self):
        whole = self.chat()
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage == whole.usage and not chunks[-1].choices
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
        assert reasons == [whole.choices[0].finish_reason]

    def stream_can_be_left(self):
        for _ in range(3):
            with self.chat(stream=True, max_tokens=1000) as stream:
                next(iter(stream))
        assert self.chat(max_tokens=2).usage.completion_tokens == 2

    def seed_names_the_answer(self):
        drawn = lambda: self.chat(temperature=1, seed=7, n=2)
        one, other = drawn(), drawn()
        texts = [choice.message.content for choice in one.choices]
        assert texts == [choice.message.content for choice in other.choices]
        assert texts[0] != texts[1] and [choice.index for choice in one.choices] == [0, 1]

    def stop_ends_the_answer(self):
        whole = self.chat().choices[0].message.content
        stop = whole[len(whole) // 2 :][:3]
        answer = self.chat(stop=[stop]).choices[0]
        assert answer.message.content == whole[: whole.index(stop)] and answer.finish_reason == "stop"

    def texts_are_continued(self):
        prompts = ["The capital of France is", "One, two, three,"]
        ask = lambda prompt: self.client.completions.create(model=self.model, prompt=prompt, temperature=0, max_tokens=8)
        both = ask(prompts)
        assert [choice.index for choice in both.choices] == [0, 1]
        assert [choice.text for choice in both.choices] == [ask(prompt).choices[0].text for prompt in prompts]
        tokens = self.client.post("/../tokenize", body={"content": prompts[0]}, cast_to=object)["tokens"]
        assert ask(tokens).choices[0].text == both.choices[0].text

    def log_probs_are_told(self):
        choice = self.chat(logprobs=True, top_logprobs=3).choices[0]
        told = choice.logprobs.content
        assert "".join(entry.token for entry in told if not entry.token.startswith("token_id:")) == choice.message.content
        for entry in told:
            assert len(entry.top_logprobs) == 3 and entry.logprob <= 0
            if self.mode != "collaborative":
                assert entry.top_logprobs[0].token == entry.token, entry
        chunks = list(self.chat(logprobs=True, top_logprobs=3, stream=True))
        streamed = [entry for chunk in chunks for part in chunk.choices if part.logprobs for entry in part.logprobs.content]
        assert [entry.token for entry in streamed] == [entry.token for entry in told]

    def prompts_are_scored(self):
        ask = lambda **settings: self.client.completions.create(
            model=self.model, prompt="The capital of France is Paris", echo=True, logprobs=1, temperature=0, **settings
        )
        scored, longer = ask(max_tokens=0), ask(max_tokens=1)
        told = scored.choices[0].logprobs
        assert scored.choices[0].text == "".join(told.tokens) == "The capital of France is Paris"
        assert told.token_logprobs[0] is None and all(value <= 0 for value in told.token_logprobs[1:])
        assert told.text_offset == [len("".join(told.tokens[:index])) for index in range(len(told.tokens))]
        assert longer.choices[0].logprobs.token_logprobs[:-1] == told.token_logprobs
        assert not scored.collm["degraded"], scored.collm

    def tokens_can_be_banned(self):
        words = self.chat(logprobs=True, max_tokens=1).choices[0]
        token = self.client.post("/../tokenize", body={"content": words.message.content}, cast_to=object)["tokens"][-1]
        assert self.chat(logit_bias={token: -100}, max_tokens=1).choices[0].message.content != words.message.content
        assert self.chat(presence_penalty=1.5, frequency_penalty=1.5).choices[0].message.content

    def answers_have_forms(self):
        shape = {
            "type": "object",
            "properties": {
                "capital": {"type": "string"},
                "inhabitants": {"type": "integer"},
                "continent": {"enum": ["Africa", "America", "Asia", "Europe", "Oceania"]},
            },
            "required": ["capital", "inhabitants", "continent"],
            "additionalProperties": False,
        }
        described = {"type": "json_schema", "json_schema": {"name": "country", "schema": shape, "strict": True}}
        question = [{"role": "user", "content": "Describe France as JSON: capital, inhabitants, continent."}]
        for seed in range(3):
            answer = self.client.chat.completions.create(
                model=self.model, messages=question, response_format=described, max_tokens=120, temperature=0.8, seed=seed
            ).choices[0]
            if answer.finish_reason == "stop":
                country = json.loads(answer.message.content)
                assert list(country) == shape["required"] and isinstance(country["inhabitants"], int), country
                assert country["continent"] in shape["properties"]["continent"]["enum"], country
        any_object = self.chat(response_format={"type": "json_object"}, max_tokens=200)
        if any_object.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(any_object.choices[0].message.content), dict)

    def requests_run_at_once(self):
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: self.chat().choices[0].message.content, range(4)))
        assert len(set(answers)) == 1, answers

    def errors_have_their_classes(self):
        refused(openai.BadRequestError, "context_length_exceeded", lambda: self.chat_with("colour " * 9000))
        refused(openai.BadRequestError, "unsupported_parameter", lambda: self.chat(tool_choice="required"), "tool_choice")
        refused(openai.BadRequestError, "invalid_request", lambda: self.chat(temperature=-1), "temperature")
        unknown = lambda: self.client.chat.completions.create(model="gpt-4o", messages=QUESTION)
        refused(openai.NotFoundError, "model_not_found", unknown, "model")

    def chat_with(self, content):
        return self.client.chat.completions.create(model=self.model, messages=[{"role": "user", "content": content}])


def refused(kind, code, ask, param=None):
    try:
        ask()
    except kind as error:
        assert (error.code, error.param) == (code, param), error
    else:
        raise AssertionError(f"{code} was not raised")


def main():
    _, base_url, *modes = sys.argv
    client = openai.OpenAI(base_url=base_url, api_key="none is asked for", max_retries=0)
    name = client.models.list().data[0].id
    for mode in modes:
        checks = Checks(client, name, mode)
        for check in (
            checks.model_is_listed,
            checks.chat_is_answered,
            checks.stream_says_the_same,
            checks.stream_can_be_left,
            checks.seed_names_the_answer,
            checks.stop_ends_the_answer,
            checks.texts_are_continued,
            checks.log_probs_are_told,
            checks.prompts_are_scored,
            checks.tokens_can_be_banned,
            checks.answers_have_forms,
            checks.requests_run_at_once,
            checks.errors_have_their_classes,
        ):
            check()
            print(f"openai {openai.__version__}  {checks.model}  {check.__name__}: passed", flush=True)


if __name__ == "__main__":
    main()
