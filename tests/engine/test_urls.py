"""URLs: what a value may change of the URL that the template names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine import urls
from airflow_allma.engine.urls import PreparedUrl, prepare_url
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import Span, compile_slotted_template


def prepare(template, **values):
    return prepare_url(compile_slotted_template(template, block_slots=True).spans(values))


def sent(template, **values):
    return prepare(template, **values).url


@pytest.mark.parametrize(
    ("url", "encoded"),
    [
        ("https://api.test", "https://api.test/"),
        ("HTTPS://api.test:8443/a?b=c#frag", "https://api.test:8443/a?b=c"),
        ("https://api.test?x=1", "https://api.test/?x=1"),
        ("  https://api.test/a ", "https://api.test/a"),
        ("https://api.test/a b/é?q=ü x", "https://api.test/a%20b/%C3%A9?q=%C3%BC%20x"),
        ("https://api.test/a%20b%2Fc?q=a%2Bb+c", "https://api.test/a%20b%2Fc?q=a%2Bb+c"),
        ("https://api.test/100%?q=5%zz", "https://api.test/100%25?q=5%25zz"),
        ("https://api.test/a\\b", "https://api.test/a%5Cb"),
        ("https://bücher.test/x", "https://xn--bcher-kva.test/x"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://u:p@h/x", "http://u:p@h/x"),
        ("http://h/a;b,c:d@e!$&'()*+=~", "http://h/a;b,c:d@e!$&'()*+=~"),
        ("http://h/a/./b/...", "http://h/a/./b/..."),
    ],
)
def test_a_rendered_url_is_encoded_once(url, encoded):
    assert sent("{{url}}", url=url) == encoded
    assert sent("{{url}}", url=encoded) == encoded


@pytest.mark.parametrize(
    ("template", "values", "message"),
    [
        ("{{u}}", {}, "must begin with http"),
        ("{{u}}", {"u": "/relative"}, "must begin with http"),
        ("{{u}}", {"u": "ftp://h/x"}, "must begin with http"),
        ("{{u}}", {"u": "file:///etc/passwd"}, "must begin with http"),
        ("https://{{h}}/x", {}, "does not have a valid host"),
        ("https://{{h}}/x", {"h": "h h"}, "does not have a valid host"),
        ("https://{{h}}/x", {"h": "a\\@b"}, "does not have a valid host"),
        ("https://h:{{p}}/", {"p": "x"}, "does not have a valid host"),
        ("https://h:{{p}}/", {"p": "70000"}, "port above 65535"),
        ("https://h/{{v}}", {"v": "a\r\nY: y"}, "control characters"),
        ("https://h/{{v}}", {"v": "a\n"}, "control characters"),
        ("https://h/{{v}}", {"v": "\ud800"}, "cannot be encoded"),
        # User info.
        ("https://api.test{{path}}", {"path": "@evil.test/"}, "user info from a value"),
        ("http://127.0.0.1:{{port}}/x?contact=ops@example.com", {"port": "1@127.0.0.2:80"}, "user info"),
        ("http://{{#if a}}127.0.0.1:80{{/if}}{{p}}/x", {"a": 1, "p": "@127.0.0.2:81"}, "user info"),
        ("{{scheme}}://127.0.0.1:80{{p}}/x", {"scheme": "http", "p": "@127.0.0.2:81"}, "user info"),
        ("https://{{who}}api.test/", {"who": "u:p@"}, "user info"),
        ("https://{{a}}.api.test/?q=a@b", {"a": "x@y"}, "user info"),
        ("{{base}}-x{{p}}/y", {"base": "https://api", "p": "@evil.test"}, "user info"),
        # Host and port.
        ("https://api.{{region}}.example.com/x", {"region": "evil.test/"}, "changes the host"),
        ("https://api.{{region}}.example.com/x", {"region": "evil.test#"}, "changes the host"),
        ("https://{{region}}.example.com/x", {"region": "evil.test?"}, "changes the host"),
        ("https://u:{{pw}}@api.test/", {"pw": "1/x"}, "changes the user info"),
        ("https://api.test{{path}}", {"path": ".evil.test/x"}, "continues the host"),
        ("http://127.0.0.1{{path}}", {"path": "0/x"}, "continues the host"),
        ("http://localhost{{path}}", {"path": "x.test/x"}, "continues the host"),
        ("https://{{a}}.api.test{{path}}", {"a": "eu", "path": "evil/x"}, "continues the host"),
        ("http://h:80{{path}}", {"path": "81/x"}, "continues the port"),
        ("https://h{{x}}:443/", {"x": ":80/"}, "changes the port"),
        ("http{{s}}://api.test/x", {"s": "://evil.test/"}, "a scheme and a host from a value"),
        ("{{scheme}}://api.test/x", {"scheme": "http://evil.test/?"}, "a scheme and a host from a value"),
        ("{{#if a}}https{{/if}}://api.test/", {"a": 0}, "must begin with http"),
        # Path, query and fragment.
        ("https://api.test{{path}}/x", {"path": "?q="}, "changes the path"),
        ("https://api.test{{path}}/x", {"path": "#"}, "changes the path"),
        ("https://h/a{{x}}/b", {"x": "?c"}, "changes the path"),
        # Segments.
        ("https://h/users/{{id}}", {"id": "../admin"}, "'..' segment"),
        ("https://h/users/{{id}}", {"id": "%2e%2E/admin"}, "'..' segment"),
        ("https://h/users/{{id}}", {"id": ".."}, "'..' segment"),
        ("https://h/users/{{id}}", {"id": "."}, "'.' segment"),
        ("https://h/users/{{id}}/x", {"id": "%2E"}, "'.' segment"),
        ("https://h/users/{{id}}/x", {"id": "..;v=1"}, "'..' segment"),
        ("https://h/users/{{id}}/x", {"id": "..;"}, "'..' segment"),
        ("https://h/users/{{id}}/x", {"id": "..%2fadmin"}, "'..' segment"),
        ("https://h/users/{{id}}/x", {"id": "a%5c..%5Cadmin"}, "'..' segment"),
        ("https://h/users/{{id}}/x", {"id": "a\\..\\b"}, "'..' segment"),
        ("https://h/range/{{a}}..{{b}}", {"a": "x/", "b": "/../admin"}, "'..' segment"),
        ("https://h/range/{{a}}..{{b}}", {"a": "x/"}, "'..' segment"),
        ("https://h/range/{{a}}..{{b}}", {}, "'..' segment"),
        ("https://h/{{x}}/{{a}}..{{b}}", {"x": "?"}, "'..' segment"),
        ("https://h/users/{{id}}/..", {"id": "../x"}, "'..' segment"),
        ("https://h/{{a}}{{b}}/x", {"a": ".", "b": "."}, "'..' segment"),
        ("https://h/.{{a}}/x", {"a": "."}, "'..' segment"),
        ("https://h/%2{{a}}./x", {"a": "e"}, "'..' segment"),
        ("{{base}}/x/{{id}}", {"base": "https://h", "id": "../../y"}, "'..' segment"),
        ("{{url}}", {"url": "https://h/a/../b"}, "'..' segment"),
    ],
)
def test_a_url_that_a_value_breaks_or_changes_is_rejected_with_the_reason(template, values, message):
    with pytest.raises(PermanentStepError, match=message):
        prepare(template, **values)


@pytest.mark.parametrize(
    ("template", "values", "url"),
    [
        ("https://h/a/../{{v}}", {"v": "b"}, "https://h/a/../b"),
        ("https://u:{{v}}@h/", {"v": 1}, "https://u:1@h/"),
        ("{{base}}/", {"base": "https://u:1@h"}, "https://u:1@h/"),
        ("https://{{host}}/x", {"host": "u:p@h:8080"}, "https://u:p@h:8080/x"),
        ("https://h/x?q={{v}}", {"v": "../y"}, "https://h/x?q=../y"),
        ("https://h/x?q={{v}}&m=a@b", {"v": "c@d?e/./f"}, "https://h/x?q=c@d?e/./f&m=a@b"),
        ("https://h/range/{{a}}..{{b}}", {"a": 1, "b": 5}, "https://h/range/1..5"),
        ("https://h/users/{{id}}/..", {"id": 5}, "https://h/users/5/.."),
        ("https://h/{{v}}", {"v": "a/b/c.d..e/...;x"}, "https://h/a/b/c.d..e/...;x"),
        ("{{base}}/v1/{{id}}", {"base": "https://h:1/api", "id": "a/b"}, "https://h:1/api/v1/a/b"),
        ("{{base}}{{path}}", {"base": "https://h", "path": "/x?page=2#top"}, "https://h/x?page=2"),
        ("https://api.test{{next}}", {"next": "/x?page=2&q=1#top"}, "https://api.test/x?page=2&q=1"),
        ("https://api.test{{next}}", {"next": "?page=2"}, "https://api.test/?page=2"),
        ("https://api.test{{port}}/x", {"port": ":8080"}, "https://api.test:8080/x"),
        ("https://api.test/items{{query}}", {"query": "?page=2"}, "https://api.test/items?page=2"),
        ("https://{{a}}.api.{{b}}/x", {"a": "eu", "b": "example.com"}, "https://eu.api.example.com/x"),
        ("https://shop-{{name}}/x", {"name": "eu.example.com"}, "https://shop-eu.example.com/x"),
        ("http://10.0.0.{{n}}/x", {"n": 7}, "http://10.0.0.7/x"),
        ("http://web{{n}}:8080/x", {"n": 7}, "http://web7:8080/x"),
        ("http://{{h}}:{{p}}{{x}}", {"h": "[::1]", "p": 80, "x": "/y"}, "http://[::1]:80/y"),
        ("{{scheme}}://api.test/x", {"scheme": "HTTPS"}, "https://api.test/x"),
        ("http{{#if tls}}s{{/if}}://api.test/{{x}}", {"tls": True, "x": 1}, "https://api.test/1"),
        ("{{a}}?u=http://x/{{b}}", {"a": "https://h/y", "b": "z"}, "https://h/y?u=http://x/z"),
        (" https://h/{{v}} ", {"v": "x"}, "https://h/x"),
        ("https://h/{{#each l}}{{this}}/{{/each}}end", {"l": ["a", "b"]}, "https://h/a/b/end"),
        # A value within the path or the query is data.
        ("https://h/users/{{id}}", {"id": "5?admin=1"}, "https://h/users/5%3Fadmin=1"),
        ("https://h/users/{{id}}/x", {"id": "a#b"}, "https://h/users/a%23b/x"),
        ("https://h/search?q={{q}}&n=1", {"q": "c#"}, "https://h/search?q=c%23&n=1"),
        ("https://h/{{a}}?q={{b}}#{{c}}", {"a": "x", "b": "y", "c": "#z?"}, "https://h/x?q=y"),
    ],
)
def test_values_may_give_what_the_template_leaves_open(template, values, url):
    assert sent(template, **values) == url


@pytest.mark.parametrize(
    ("template", "values", "warnings"),
    [
        ("https://h/{{missing}}", {}, "segment (number 1)"),
        ("https://h/users/{{id}}/orders", {"id": ""}, "segment (number 2)"),
        ("https://h/users/{{id}}?q=1", {"id": None}, "segment (number 2)"),
        ("https://h/{{a}}/{{b}}/x/{{c}}", {}, "segment (number 1, 2, 4)"),
        ("{{base}}/{{id}}", {"base": "https://h/x?token=hidden"}, ""),
        ("https://u:hidden@h/{{id}}", {}, "'https://***@h/'"),
        ("https://h/users/{{id}}", {"id": "a?b"}, "sent as %3F"),
        ("https://h/users/{{id}}", {"id": "a#b"}, "sent as %3F or %23"),
        ("https://h//x/", {}, ""),
        ("https://h/x{{v}}/y", {}, ""),
        ("https://h{{path}}", {}, ""),
        ("https://h/x?q={{v}}", {}, ""),
        ("https://h/x?q={{v}}", {"v": "c#"}, ""),
        ("https://h/{{v}}/", {"v": 0}, ""),
    ],
)
def test_what_is_probably_not_meant_is_a_warning_without_secrets(template, values, warnings):
    found = " ".join(prepare(template, **values).warnings)
    assert (warnings in found) if warnings else not found
    assert "hidden" not in found


def test_the_error_shows_the_url_without_its_secrets():
    with pytest.raises(PermanentStepError) as caught:
        prepare("{{u}}", u="https://u:hidden@h/x?token=hidden\n")
    assert "hidden" not in str(caught.value.as_dict())
    assert "https://***@h/x?token=***" in caught.value.message


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))
def test_any_string_in_a_path_becomes_ascii_without_white_space(text):
    path = text.replace(".", "")
    url = sent("https://h/{{v}}x", v=path)
    assert url.isascii()
    assert not any(character.isspace() for character in url)
    assert url.startswith("https://h/")
    assert "?" not in url
    assert url.endswith("x")


NASTY = st.text("a.:/?#@%2eE5cC\\;[]", max_size=12)


@given(NASTY, NASTY)
def test_no_value_moves_a_request_to_another_host_or_out_of_its_folder(first, second):
    for template in (
        "https://api.test/files/{{a}}/{{b}}",
        "https://api.test:8443/files/{{a}}..{{b}}?x=a@b#c",
        "{{#if 1}}https://api.test/{{/if}}files/{{a}}{{b}}",
    ):
        try:
            url = sent(template, a=first, b=second)
        except PermanentStepError:
            continue
        assert url.startswith(("https://api.test/files/", "https://api.test:8443/files/"))
        path = url.partition("?")[0]
        assert "/../" not in path.lower().replace("%2e", ".") + "/"


PARTS = st.text(st.sampled_from("ab0-._~ %2f?#&=:/@\\é\n"), max_size=5)


@given(
    base=st.one_of(st.sampled_from(["", "http://h", "https://h:80/a", "http://h:99999"]), PARTS),
    data=st.data(),
)
def test_the_fast_path_makes_the_same_urls(base, data):
    first = data.draw(st.sampled_from(["http://h/", "/", "/a b/", "/é?q=", "https://h:99999/", "", "#", "x"]))
    spans = [Span(base, is_authored=False), Span(first, is_authored=True)]
    for _ in range(data.draw(st.integers(0, 3))):
        spans += [Span(data.draw(PARTS), is_authored=False), Span(data.draw(PARTS), is_authored=True)]
    fast = urls._prepare_plain(spans)
    if fast is None:
        return
    assert PreparedUrl(fast) == urls._prepare(spans)


def test_plain_values_take_the_fast_path():
    spans = [
        Span(text, is_authored=bool(n % 2)) for n, text in enumerate(["http://h", "/a é/", "v1", "?q=", "w"])
    ]
    assert urls._prepare_plain(spans) == "http://h/a%20%C3%A9/v1?q=w"
