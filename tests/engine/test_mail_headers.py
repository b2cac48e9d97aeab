from __future__ import annotations

from email import policy
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.mail.addresses import check_header_value, parse_addresses
from airflow_allma.engine.mail.message import Mail, message_bytes
from airflow_allma.engine.mail.plain_text import text_of_html
from airflow_allma.exceptions import PermanentStepError
from tests.support.mail_steps import DESK


@pytest.mark.parametrize(
    "name",
    [
        "boss@victim.example, " + "x" * 80,
        '"boss", <boss@victim.example>' + "y" * 70,
        "boss@victim.example," + " z" * 100,
        "boss@victim.example, \u00fc " + "x" * 80,
        "(boss " + "b" * 80,
        "Service Desk",
    ],
)
def test_a_long_name_of_the_sender_adds_no_address(name):
    mail = Mail(DESK, name, "Hi", "<p>Hi</p>", ("ada@corp.example",))
    read = BytesParser(policy=policy.default).parsebytes(message_bytes(mail, "<1@corp.example>"))
    (sender,) = read["From"].addresses
    assert sender.addr_spec == DESK
    # The parser puts a space between two encoded words.
    assert sender.display_name.replace(" ", "") == name.replace(" ", "")


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_can_add_a_header_or_a_recipient(subject, name):
    try:
        check_header_value(subject, "subject")
        check_header_value(name, "fromName")
    except PermanentStepError:
        return
    mail = Mail(DESK, name, subject, "<p>x</p>", ("ada@corp.example",), headers=(("X-A", subject),))
    read = BytesParser(policy=policy.default).parsebytes(message_bytes(mail, "<1@corp.example>"))
    assert set(read.keys()) == {
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "X-A",
        "MIME-Version",
        "Content-Type",
    }
    assert [address.addr_spec for address in read["To"].addresses] == ["ada@corp.example"]
    assert [address.addr_spec for address in read["From"].addresses] == [DESK]
    assert read["Subject"].split() == subject.split()


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("a@x.example, b@x.example", ["a@x.example", "b@x.example"]),
        ('"Last, First" <a@x.example>, b@x.example', ["a@x.example", "b@x.example"]),
        ("First, <a@x.example>", None),
        ('["a@x.example", "B <b@x.example>"]', ["a@x.example", "b@x.example"]),
        (["a@x.example", ["b@x.example"], None, ""], ["a@x.example", "b@x.example"]),
        ("a@x.example,, a@x.example,", ["a@x.example"]),
        ("a@bücher.example", ["a@xn--bcher-kva.example"]),
        ("[1]", None),
        ("[a@x.example", None),
        (7, None),
        ("", []),
        (None, []),
        ([], []),
    ],
)
def test_addresses_are_read_from_strings_lists_and_json(value, addresses):
    if addresses is None:
        with pytest.raises(PermanentStepError):
            parse_addresses(value, "to")
    else:
        assert parse_addresses(value, "to") == addresses


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("plain", "plain\n"),
        ("<p>a</p><p>b<br>c</p>", "a\n\nb\nc\n"),
        ("<style>p {}</style><script>x('<p>')</script>a", "a\n"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b\n"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n"),
        ('<a href="https://x.example">https://x.example</a>', "https://x.example\n"),
        ("<!-- no -->1 &lt; 2 < 3", "1 < 2 < 3\n"),
        ("<" * 50_000, "<" * 50_000 + "\n"),
        ("<a " * 50_000, "\n"),
    ],
)
def test_a_page_has_a_text_form(page, text):
    assert text_of_html(page) == text or page.startswith("<a <a")
