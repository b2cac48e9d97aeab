"""The address of an EMAIL_START_POINT, which must be known before a run begins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["mail_address"]

_VARIABLE: Final = re.compile(r"\{\{\s*flow_variables\.([A-Za-z_]\w*)\s*\}\}")


def mail_address(template: str, flow_variables: Mapping[str, Any]) -> str | None:
    """Return an address in lower case; None if it does not follow from the flow's variables alone.

    Args:
        template: an address that can contain ``{{flow_variables.name}}``.
        flow_variables: the variables.
    """

    def value(match: re.Match[str]) -> str:
        found = flow_variables.get(match[1])
        return found if isinstance(found, str) else match[0]

    address = _VARIABLE.sub(value, template).strip().lower()
    return None if "{{" in address else address
