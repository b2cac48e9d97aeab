"""Package metadata that depends on the project's address: the links of README.md, and the project's URLs.

README.md links to files of this repository by relative paths, which only work in the repository. Once the
project has an address, a package index shows the same README with absolute links.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PROJECT_URL = ""
"""Address of the repository, without a slash at the end, such as https://github.com/OWNER/airflow-allma.

Empty until there is one; nothing else needs to change then."""

_RELATIVE_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)")


class ProjectAddress(MetadataHookInterface):
    """Add `readme` and `urls` to the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both fields to the `[project]` table."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, PROJECT_URL)}
        metadata["urls"] = project_urls(PROJECT_URL)


def absolute_links(text: str, url: str) -> str:
    """Return Markdown with its relative links below `url`, or unchanged if `url` is empty."""
    return _RELATIVE_LINK.sub(f"{url}/blob/main/", text) if url else text


def project_urls(url: str) -> dict[str, str]:
    """Return what a package index links to; nothing if `url` is empty."""
    if not url:
        return {}
    return {
        "Source": url,
        "Documentation": f"{url}/tree/main/docs",
        "Changelog": f"{url}/blob/main/CHANGELOG.md",
        "Issues": f"{url}/issues",
    }
