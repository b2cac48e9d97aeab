// The picture of a flow: boxes with names over lines; coordinates and paths come from the server. It zooms,
// scrolls and is walked through with the arrow keys.

import { LARGEST_ZOOM, SMALLEST_ZOOM, makeZoom } from "./picture_zoom.js";

const CULL_AT = 400; // nodes; of a larger picture only what is in sight is drawn
const AROUND = 400; // pixels around what is in sight
const FIRST_SIGHT = [2000, 2000]; // pixels, before the area has a size
const HEAD_HEIGHT = 52; // pixels: a step, or the head of a fork
const KEYS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

function isFrame(node) {
  return node.kind === "fork" || node.kind === "branch";
}

/** Return the nodes and edges that are near what is in sight; `sight` is in pixels of the screen, or null. */
function culled({ nodes, edges }, sight, scale) {
  const { left = 0, top = 0, width = 0, height = 0 } = sight ?? {};
  const from = sight ? [left / scale - AROUND, top / scale - AROUND] : [0, 0];
  const to = sight ? [(left + width) / scale + AROUND, (top + height) / scale + AROUND] : FIRST_SIGHT;
  const isAcross = (node) => node.x < to[0] && node.x + node.w > from[0];
  const isDown = (node) => node.y < to[1] && node.y + node.h > from[1];
  return {
    nodes: nodes.filter((node) => isAcross(node) && isDown(node)),
    edges: edges.filter((edge) => edge.top < to[1] && edge.bottom > from[1]),
  };
}

function scrollToNode(element, node, scale) {
  const [left, top, width] = [node.x * scale, node.y * scale, node.w * scale];
  const { scrollLeft, scrollTop, clientWidth, clientHeight } = element;
  const isAcross = left >= scrollLeft && left + width <= scrollLeft + clientWidth;
  const isDown = top >= scrollTop && top + HEAD_HEIGHT * scale <= scrollTop + clientHeight;
  if (isAcross && isDown) return;
  element.scrollTo(Math.max(0, left - clientWidth / 2 + width / 2), Math.max(0, top - clientHeight / 3));
}

/** Return the component Picture. */
export default (kit) => {
  const { html, useEffect, useMemo, useRef, useState, oneLine, Bar, Button } = kit;
  const { useDrag, useZoom } = makeZoom(kit);

  function Arrow({ id, kind }) {
    return html`<marker id=${id} viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"
      orient="auto"><path className=${kind} d="M0 0L10 5L0 10z" /></marker>`;
  }

  function Line({ edge, scope }) {
    const arrow = edge.kind === "fallback" ? "fallback" : "line";
    const end = edge.isCut || edge.isJoined ? undefined : `url(#${scope}-${arrow})`;
    return html`<g className=${`edge ${edge.kind}`}>
      ${edge.label && html`<title>${oneLine(edge.label)}</title>`}
      <path d=${edge.path} markerEnd=${end} />
      ${edge.at && edge.text && html`<text x=${edge.at[0]} y=${edge.at[1] + 4}>${oneLine(edge.text)}</text>`}
    </g>`;
  }

  function Lines({ picture, edges, scope }) {
    const arrowOf = (kind) => html`<${Arrow} key=${kind} id=${`${scope}-${kind}`} kind=${kind} />`;
    const { width, height } = picture;
    return html`<svg className="allma-lines" width=${width} height=${height} aria-hidden="true">
      <defs>${["line", "fallback"].map(arrowOf)}</defs>
      ${edges.map((edge, index) => html`<${Line} key=${index} edge=${edge} scope=${scope} />`)}
    </svg>`;
  }

  function Head({ node, info }) {
    const line = info?.line ?? node.detail;
    const word = info?.word && html`<b>${info.word}</b>`;
    const bar = info?.bar;
    return html`<span className="name">${oneLine(node.title)}</span>
      ${info?.state && html`<span className="dot" aria-hidden="true"></span>`}
      ${node.kind === "loop" && html`<span className="mark" aria-hidden="true">↻</span>`}
      ${(line || word) && html`<span className="detail">${word}${oneLine(line)}</span>`}
      ${bar && html`<${Bar} label=${bar.label} parts=${bar.parts} total=${bar.total} />`}`;
  }

  function titleOf(node) {
    const loop = node.kind === "loop" && "can run again in the same run";
    return [node.title, node.detail, loop, node.type].filter(Boolean).map(oneLine).join("\n");
  }

  function Box({ node, info, isSelected, canFocus, onSelect, onKey }) {
    const width = { left: `${node.x}px`, top: `${node.y}px`, width: `${node.w}px` };
    const place = { ...width, height: `${node.h}px` };
    const title = titleOf(node);
    if (node.kind === "start") {
      return html`<div className="allma-node start" style=${place}>${oneLine(node.title)}</div>`;
    }
    if (node.kind === "branch") {
      return html`<div className="allma-node branch" style=${place} title=${title}>
        <b>${oneLine(node.title)}</b> ${oneLine(node.detail)}
      </div>`;
    }
    const isFork = node.kind === "fork";
    const state = info?.palette ?? "";
    const words = [node.title, `${info?.word ?? ""}${info?.line ?? node.detail}`];
    const kind = isFork ? "head" : node.kind;
    const button = html`<button type="button" className=${`allma-node ${kind} ${state}`} data-node=${node.id}
      data-step=${node.step} style=${isFork ? undefined : place} title=${title}
      aria-label=${words.filter(Boolean).map(oneLine).join(", ")} aria-pressed=${isSelected}
      tabIndex=${canFocus ? 0 : -1} onClick=${() => onSelect(node)}
      onKeyDown=${(event) => onKey(event, node)}>
      <${Head} node=${node} info=${info} />
    </button>`;
    if (!isFork) return button;
    return html`<div className=${`allma-node fork ${state}`} style=${place}>${button}</div>`;
  }

  function Zoom({ scale, zoomBy, fit }) {
    const small = "allma-button outline small";
    return html`<div className="allma-zoom" role="group" aria-label="Zoom">
      <${Button} className=${small} aria-label="Zoom out" disabled=${scale <= SMALLEST_ZOOM}
        onClick=${() => zoomBy(-1)}>−<//>
      <${Button} className=${small} aria-label="Zoom to fit" title="Zoom to fit" onClick=${() => fit(true)}>
        ${Math.round(scale * 100)} %
      <//>
      <${Button} className=${small} aria-label="Zoom in" disabled=${scale >= LARGEST_ZOOM}
        onClick=${() => zoomBy(1)}>+<//>
    </div>`;
  }

  function Sheet({ picture, sight, scale, boxOf }) {
    const [scope] = useState(() => `allma-${Math.random().toString(36).slice(2)}`);
    const { nodes, edges } = picture.nodes.length > CULL_AT ? culled(picture, sight, scale) : picture;
    const size = (factor) => ({
      width: `${Math.ceil(picture.width * factor)}px`,
      height: `${Math.ceil(picture.height * factor)}px`,
    });
    return html`<div className="allma-sheet" style=${size(scale)}>
      <div className="allma-scaled" style=${{ ...size(1), transform: `scale(${scale})` }}>
        ${nodes.filter(isFrame).map(boxOf)}
        <${Lines} picture=${picture} edges=${edges} scope=${scope} />
        ${nodes.filter((node) => !isFrame(node)).map(boxOf)}
      </div>
    </div>`;
  }

  /** Return the function for keys pressed on a node: arrows go to its neighbors in the order of steps. */
  function makeOnKey(area, steps, show) {
    return (event, node) => {
      const by = KEYS[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const next = steps[steps.indexOf(node) + by];
      if (!next) return;
      show(next.step);
      const focus = () => area.current?.querySelector(`[data-node="${next.id}"]`)?.focus();
      // What is out of sight may be drawn only after the scroll.
      requestAnimationFrame(() => requestAnimationFrame(focus));
    };
  }

  /** `infoOf(node)`: {state, palette, word, line, bar} of a node in a run; `selected`: a step's id. */
  return function Picture({ picture, infoOf, selected, onSelect, label = "Picture of the flow" }) {
    const area = useRef(null);
    const steps = useMemo(
      () => picture.nodes.filter((node) => node.step && node.kind !== "branch"),
      [picture],
    );
    const isLarge = picture.nodes.length > CULL_AT;
    const { zoom, sight, look, zoomBy, fit } = useZoom(area, picture, isLarge);
    const drag = useDrag(area);
    const scale = zoom ?? 1;
    const show = (step) => {
      const node = steps.find((one) => one.step === step);
      if (node && area.current) scrollToNode(area.current, node, scale);
    };
    useEffect(() => {
      if (selected && zoom) show(selected);
    }, [selected, zoom === null]);
    const onKey = makeOnKey(area, steps, show);
    const focusable = steps.some((node) => node.step === selected) ? selected : steps[0]?.step;
    const boxOf = (node) => html`<${Box} key=${node.id} node=${node} info=${infoOf?.(node)}
      isSelected=${node.step === selected} canFocus=${node.step === focusable} onSelect=${onSelect}
      onKey=${onKey} />`;
    return html`<div className="allma-picture">
      <${Zoom} scale=${scale} zoomBy=${zoomBy} fit=${fit} />
      <div className="allma-canvas" ref=${area} role="group" tabIndex="0"
        aria-label=${`${label}. Arrow keys go from step to step.`} onScroll=${isLarge ? look : undefined}
        ...${drag}>
        <${Sheet} picture=${picture} sight=${sight} scale=${scale} boxOf=${boxOf} />
      </div>
    </div>`;
  };
};
