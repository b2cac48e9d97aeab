"""Google's token endpoint: an access token for the signed assertion of a service account."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import parse_qs

import msgspec

__all__ = ["IssuedTokens"]

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class IssuedTokens:
    """The tokens that were issued and are still valid. The signature of an assertion is not checked.

    Attributes:
        seconds: for how long a token is valid.
        issued: how many were issued.
    """

    def __init__(self, seconds: int = 3599) -> None:
        self.seconds = seconds
        self.issued = 0
        self._ends: dict[str, float] = {}

    def issue(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of an answer to a token request."""
        form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        if form.get("grant_type") != GRANT:
            return 400, _error("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        if problem := _problem(form.get("assertion", "")):
            return 400, _error("invalid_grant", f"Invalid JWT: {problem}")
        self.issued += 1
        token = f"ya29.token-{self.issued:06d}"
        self._ends[token] = time.monotonic() + self.seconds
        return 200, {"access_token": token, "expires_in": self.seconds, "token_type": "Bearer"}

    def accept(self, token: str) -> bool:
        """Return whether a token is valid."""
        return self._ends.get(token, 0.0) > time.monotonic()

    def revoke(self) -> None:
        """Make all tokens invalid."""
        self._ends.clear()


def _error(code: str, description: str) -> dict[str, Any]:
    return {"error": code, "error_description": description}


def _problem(assertion: str) -> str:
    """Return what is wrong with an assertion; empty if nothing is."""
    parts = assertion.split(".")
    if len(parts) != 3 or not parts[2]:
        return "three parts are expected."
    try:
        header, claims = (msgspec.json.decode(base64.urlsafe_b64decode(f"{part}==")) for part in parts[:2])
    except ValueError:
        return "a part is not valid."
    if header.get("alg") != "RS256":
        return "alg must be RS256."
    missing = [name for name in ("iss", "aud", "exp", "iat", "scope") if name not in claims]
    if missing:
        return f"claims are missing: {', '.join(missing)}."
    return "Token must be a short-lived token." if claims["exp"] < time.time() else ""
