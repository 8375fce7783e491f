"""Chat templates: equal to plain Jinja2 on what models use, and bounded on what nobody should."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import tracemalloc
from typing import Any

import jinja2
import pytest

from weft.errors import TokenizerError
from weft.io.open_checkpoint import open_checkpoint
from weft.io.text.chat_template import MAX_TEMPLATE_CHARACTERS, ChatTemplate

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is 2 × 3? <b>\n"},
    {
        "role": "assistant",
        "content": "6",
        "tool_calls": [{"function": {"name": "mul", "arguments": {"a": 2, "é": [1]}}}],
    },
    {"role": "tool", "content": "ok"},
    {"role": "user", "content": "Thanks"},
]
TOOLS = [
    {"type": "function", "function": {"name": "mul", "parameters": {"type": "object", "properties": {}}}}
]
# In the ways of the templates of published chat models.
TEMPLATES = {
    "chatml": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "trimmed": "{{- bos_token }}\n{%- for m in messages %}\n    {%- set ns = namespace(text='') %}\n"
    "    {%- for part in m.content.split(' ') %}\n        {%- set ns.text = ns.text ~ part|trim ~ ' ' %}\n"
    "    {%- endfor %}\n[{{ m.role | upper }}|{{ loop.index0 }}/{{ loop.length }}{{ ',last' if loop.last }}] "
    "{{ ns.text.strip() }}\n{%- endfor %}",
    "tools": "{% if tools is defined and tools %}{% for tool in tools %}"
    "{{ tool | tojson(indent=4) }}\n{% endfor %}"
    "{% endif %}{% for m in messages %}{% if m.tool_calls is defined %}{% for call in m.tool_calls %}"
    "{{ {'name': call.function.name, 'arguments': call.function['arguments']} | tojson }}{% endfor %}"
    "{% elif m.role in ['user', 'system'] %}"
    "{{ '%s: %s' % (m.role, m.content) }}{% else %}-{% endif %}{% endfor %}",
    "macros": "{% macro show(m, depth=1) -%}{{ '#' * depth }}{{ m.role.title() }}: "
    "{{ m.content|replace('\n', ' ') }}"
    "{%- endmacro %}{% set first, rest = messages[0], messages[1:] %}{{ show(first) }}"
    "{% for m in rest if m.role != 'tool' %}{{ show(m, depth=2) }}{% if not loop.last %}{{ ', ' }}{% endif %}"
    "{% else %}none{% endfor %}{{ messages | map(attribute='role') | unique | join('/') }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
    "{{ (messages|length - 1) // 2 * 3 % 5 }}",
    "loops": "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}"
    "{{ loop.previtem.role if loop.previtem }}"
    "{{ m.content[:3] }}{{ range(loop.index)|list }}{% if loop.index > 3 %}{% break %}{% endif %}{% endfor %}"
    "{% set block %}x{{ messages[0].role }}y{% endset %}{{ block|length }}"
    "{% filter upper %}abc{% endfilter %}"
    "{{ messages[-1].get('none', 'default') }}{{ dict(a=1, b='c').items()|list }}"
    "{{ undefined_thing|default('d') }}",
}


def plain_jinja(template: str, **variables: Any) -> str:
    """What the template gives without a sandbox, set up as Hugging Face's library does."""
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    return environment.from_string(template).render(**variables)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [True, False])
def test_equal_to_plain_jinja(name: str, prompt: bool) -> None:
    variables = {"bos_token": "<s>", "eos_token": "</s>"}
    rendered = ChatTemplate(TEMPLATES[name], variables).render(
        MESSAGES, add_generation_prompt=prompt, tools=TOOLS
    )
    expected = plain_jinja(
        TEMPLATES[name], messages=MESSAGES, tools=TOOLS, add_generation_prompt=prompt, **variables
    )
    assert rendered == expected


def test_a_real_template(smollm2_file: Any) -> None:
    checkpoint = open_checkpoint(smollm2_file)
    template = ChatTemplate.of(checkpoint.chat_template or "", checkpoint.tokenizer())
    text = template.render([{"role": "user", "content": "Hi"}])
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert checkpoint.tokenizer().encode(text, add_special=False)[0] == 1


def test_helpers() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}").render([]) == str(time.localtime().tm_year)
    assert ChatTemplate("{% generation %}a{% endgeneration %}").render([]) == "a"
    assert ChatTemplate("{{ thinking }}").render([], thinking=True) == "True"
    with pytest.raises(TokenizerError, match="refuses these messages: roles must alternate"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}").render([])


def test_long_conversations_fit() -> None:
    conversation = [{"role": "user", "content": "word " * 2000}] * 1000
    text = ChatTemplate(TEMPLATES["chatml"]).render(conversation)
    assert len(text) > 10_000_000
    assert len(ChatTemplate("{{ messages[0].content }}").render([{"content": "x" * 5_000_000}])) == 5_000_000


HOSTILE = [
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ 9**9**9**9**9 }}",
    "{{ 2**100000000 }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% set r = range(90000) %}{% for i in r %}{% for j in r %}x{% endfor %}{% endfor %}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{{ range(10**9) | list }}",
    "{% set n = namespace(x='ab') %}{% for i in range(100) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='ab') %}{% for i in range(100) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x=['ab']) %}{% for i in range(100) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
    "{% set n = namespace(x=['ab']) %}{% for i in range(100) %}{% set n.x = {1: n.x, 2: n.x} %}{% endfor %}",
    "{% set n = namespace(x=1) %}{% set n.x = n %}{{ n }}",
    "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
    "{% set n.x = y %}{% endfor %}",
    "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(50) }}",
    "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ '7'.zfill(10**9) }}",
    "{{ ('\t' * 1000000).expandtabs(100000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ ('%s' * 1000) % (('x' * 100000,) * 1000) }}",
    "{{ ('{0}' * 1000).format('x' * 1000000) }}",
    "{{ ('a' * 1000000).replace('', 'b' * 1000000) }}",
    "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
    "{{ ('x' * 900000).join(['a'] * 100000) }}",
    "{{ range(90000) | join('x' * 100000) }}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{{ ('a\n' * 100000) | indent(1000) }}",
    "{{ 1.5 | round(10**9) }}",
    "{{ [[1]] | sum(start=[]) }}",
    "{{ (5).to_bytes(1000000000) }}",
    "{{ 'x'.encode() * 10**9 }}",
    "{{ strftime_now('%1000000000d') }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ '{0.__class__}'.format(1) ~ ''.__class__.__base__ }}",
    "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.x }}",
    "{{ lipsum(n=1000000) }}",
    "{{" + "(" * 50000 + "1" + ")" * 50000 + "}}",
    "{{ " + "1 + " * 20000 + "1 }}",
    "{{" + "[" * 3000 + "]" * 3000 + "}}",
    "{% if x %}" * 3000,
    "{{ x.y.z }}",
    "{{ 1 / 0 }}",
    "{% unknown %}",
    "x" * (MAX_TEMPLATE_CHARACTERS + 1),
]


@pytest.mark.parametrize("template", HOSTILE, ids=lambda template: template[:40])
def test_hostile_templates_end_soon_and_small(template: str) -> None:
    start = time.process_time()
    with pytest.raises(TokenizerError) as caught:
        ChatTemplate(template).render(MESSAGES)
    assert time.process_time() - start < 20
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_hostile_templates_take_little_memory() -> None:
    tracemalloc.start()
    try:
        for template in HOSTILE[:5] + HOSTILE[7:15]:
            with pytest.raises(TokenizerError):
                ChatTemplate(template).render(MESSAGES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20


def test_python_is_out_of_reach() -> None:
    for template in ("{{ ''|attr('__class__') }}", "{{ cycler }}", "{{ self.__init__ }}", "{{ config }}"):
        with contextlib.suppress(TokenizerError):
            assert "class" not in ChatTemplate(template).render(MESSAGES)


def test_threads_have_budgets_of_their_own() -> None:
    template = ChatTemplate("{% for i in range(20000) %}{{ i }}{% endfor %}")
    results: list[str] = []

    def work() -> None:
        for _ in range(5):
            results.append(template.render([]))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 30 and len(set(results)) == 1
