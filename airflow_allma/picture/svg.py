"""A picture as SVG: no script, no reference to anything else, light and dark by the reader's preference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from airflow_allma.picture.layered import LABEL_HEIGHT
from airflow_allma.picture.shapes import Edge, EdgeKind, Node, NodeKind, Picture

__all__ = ["render_svg"]

_RADIUS: Final = 6
_STYLE: Final = """\
svg{font-family:Inter,system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;\
--bg:#fff;--box:#fff;--frame:#f4f7fb;--line:#8a99ad;--edge:#b6c2d1;--fg:#1a2433;--muted:#566479;--bad:#c4372f}
@media (prefers-color-scheme:dark){svg{\
--bg:#0f1724;--box:#182234;--frame:#131c2c;--line:#5d6e86;--edge:#43536b;\
--fg:#e6edf7;--muted:#a3b1c6;--bad:#ff8a80}}
.bg{fill:var(--bg)}.box{fill:var(--box);stroke:var(--line)}.fork{fill:var(--frame);stroke:var(--line)}
.branch{fill:var(--bg);stroke:var(--edge);stroke-dasharray:4 3}
.edge{fill:none;stroke:var(--line);stroke-width:1.3}.fallback{stroke:var(--bad);stroke-dasharray:5 4}
.head{fill:var(--line)}.head.bad{fill:var(--bad)}
.t{font-size:13px;font-weight:600;fill:var(--fg)}.d{font-size:11px;fill:var(--muted)}.b{font-weight:600}
.label{paint-order:stroke;stroke:var(--bg);stroke-width:5px}
.mid{text-anchor:middle}.mark{fill:var(--muted);text-anchor:end}
"""


def render_svg(picture: Picture, title: str) -> str:
    """Return a picture as an SVG document.

    Args:
        picture: the picture.
        title: what it shows, for people who do not see it.
    """
    size = f'width="{picture.width}" height="{picture.height}"'
    view = f'viewBox="0 0 {picture.width} {picture.height}" role="img" aria-label={quoteattr(_valid(title))}'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view}>',
        f"<style>{_STYLE}</style>",
        *_head("arrow", ""),
        *_head("bad-arrow", " bad"),
        f'<rect class="bg" {size} rx="8"/>',
    ]
    frames = [node for node in picture.nodes if node.kind in {NodeKind.FORK, NodeKind.BRANCH}]
    boxes = [node for node in picture.nodes if node.kind not in {NodeKind.FORK, NodeKind.BRANCH}]
    for nodes in (frames, boxes):
        for node in nodes:
            parts += _node(node)
    for edge in picture.edges:
        parts += _edge(edge)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(name: str, style: str) -> Iterator[str]:
    yield (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path class="head{style}" d="M0 0L10 5L0 10z"/></marker>'
    )


def _node(node: Node) -> Iterator[str]:
    full = "\n".join(part for part in (node.title, node.detail, node.type) if part)
    style = {NodeKind.FORK: "fork", NodeKind.BRANCH: "branch"}.get(node.kind, "box")
    is_round = node.kind in {NodeKind.START, NodeKind.END}
    radius = min(node.h // 2, 26) if is_round else _RADIUS
    size = f'x="{node.x}" y="{node.y}" width="{node.w}" height="{node.h}" rx="{radius}"'
    yield f'<g><title>{_text(full)}</title><rect class="{style}" {size}/>'
    if node.kind is NodeKind.SUBFLOW:
        right = node.x + node.w - 5
        yield f'<path class="edge" d="M{node.x + 5} {node.y}v{node.h}M{right} {node.y}v{node.h}"/>'
    title, detail = (_text(part) for part in node.text)
    left = node.x + (20 if is_round else 12)
    if node.kind is NodeKind.START:
        yield f'<text class="d mid" x="{node.x + node.w // 2}" y="{node.y + 17}">{title}</text>'
    elif node.kind is NodeKind.BRANCH:
        yield f'<text class="d" x="{left}" y="{node.y + 19}"><tspan class="b">{title}</tspan> {detail}</text>'
    else:
        yield f'<text class="t" x="{left}" y="{node.y + 22}">{title}</text>'
        yield f'<text class="d" x="{left}" y="{node.y + 40}">{detail}</text>'
    if node.kind is NodeKind.LOOP:
        yield f'<text class="t mark" x="{node.x + node.w - 10}" y="{node.y + 22}">↻</text>'
    yield "</g>"


def _edge(edge: Edge) -> Iterator[str]:
    is_fallback = edge.kind is EdgeKind.FALLBACK
    style = "edge fallback" if is_fallback else "edge"
    arrow = "bad-arrow" if is_fallback else "arrow"
    head = "" if edge.is_joined or edge.is_cut else f' marker-end="url(#{arrow})"'
    yield f"<g><title>{_text(edge.label)}</title>" if edge.label else "<g>"
    yield f'<path class="{style}" d="{edge.path}"{head}/>'
    if edge.at is not None and edge.text:
        x, y = edge.at
        yield f'<text class="d mid label" x="{x}" y="{y + LABEL_HEIGHT // 2 - 5}">{_text(edge.text)}</text>'
    yield "</g>"


def _text(text: str) -> str:
    return escape(_valid(text))


def _valid(text: str) -> str:
    """Replace what XML forbids; ids and labels come from anywhere."""
    return "".join(char if _is_allowed(char) else "\N{REPLACEMENT CHARACTER}" for char in text)


def _is_allowed(char: str) -> bool:
    code = ord(char)
    return char in "\t\n\r" or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
