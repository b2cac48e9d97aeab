"""URLs for the HTTP library that are made from a known origin are those that it would parse."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from airflow_allma.engine.request_urls import RequestUrls

_SCHEMES = st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "http:", "//", ""])
_AUTHORITIES = st.sampled_from(
    ["api.test", "a", "", "api.test:80", "api.test:8080", "[::1]:9", "u:p@api.test", "@api.test", "API.test"]
)
_TAILS = st.text(alphabet="/abc.%2F?#=&;:@[]\\ é\t\n", max_size=12)


def _properties(url: URL) -> tuple[object, ...]:
    parts = (url.raw_user, url.raw_password, url.raw_host, url.port, url.raw_path, url.raw_query_string)
    return (str(url), url, parts, url.raw_fragment, url.raw_path_qs, url.host_port_subcomponent)


@given(scheme=_SCHEMES, authority=_AUTHORITIES, tails=st.lists(_TAILS, min_size=1, max_size=3))
@example(scheme="http://", authority="", tails=["/x/y"])
@example(scheme="http://", authority="api.test", tails=["", "/", "/users/1", "//x/y", "/a/../b"])
def test_each_url_is_the_one_that_the_library_parses(scheme: str, authority: str, tails: list[str]) -> None:
    urls = RequestUrls()
    for tail in tails:
        url = f"{scheme}{authority}{tail}"
        try:
            parsed = _properties(URL(url, encoded=True))
        except ValueError as error:
            with pytest.raises(type(error)):
                _properties(urls.of(url))
        else:
            assert _properties(urls.of(url)) == parsed


def test_few_origins_are_remembered() -> None:
    urls = RequestUrls()
    for number in range(1000):
        assert str(urls.of(f"http://host-{number}.test/a")) == f"http://host-{number}.test/a"
    assert len(urls._origins) <= 64
