// The picture of a flow: boxes with names over lines; coordinates and paths come from the server. It zooms, scrolls and
// is walked through with the arrow keys.

const ZOOMS = [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 1.25, 1.5, 2];
const SMALLEST_FIT = 0.65; // with less, names could not be read
const TALLEST = 0.7; // of the window, as in flows.css
const CULL_AT = 400; // nodes; of a larger picture only what is in sight is drawn
const AROUND = 400; // pixels around what is in sight

function isFrame(node) {
  return node.kind === "fork" || node.kind === "branch";
}

export default (kit) => {
  const { html, useEffect, useLayoutEffect, useMemo, useRef, useState, oneLine, Bar, Button } = kit;

  function Lines({ picture, edges, scope }) {
    return html`<svg className="allma-lines" width=${picture.width} height=${picture.height} aria-hidden="true">
      <defs>${["line", "fallback"].map((kind) => html`<marker key=${kind} id=${`${scope}-${kind}`} viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path className=${kind} d="M0 0L10 5L0 10z" /></marker>`)}</defs>
      ${edges.map((edge, index) => html`<g key=${index} className=${`edge ${edge.kind}`}>
        ${edge.label && html`<title>${oneLine(edge.label)}</title>`}
        <path d=${edge.path} markerEnd=${edge.isCut || edge.isJoined ? undefined : `url(#${scope}-${edge.kind === "fallback" ? "fallback" : "line"})`} />
        ${edge.at && edge.text && html`<text x=${edge.at[0]} y=${edge.at[1] + 4}>${oneLine(edge.text)}</text>`}
      </g>`)}
    </svg>`;
  }

  function Head({ node, info }) {
    const line = info?.line ?? node.detail;
    return html`<span className="name">${oneLine(node.title)}</span>
      ${info?.state && html`<span className="dot" aria-hidden="true"></span>`}
      ${node.kind === "loop" && html`<span className="mark" aria-hidden="true">↻</span>`}
      ${(line || info?.word) && html`<span className="detail">${info?.word && html`<b>${info.word}</b>`}${oneLine(line)}</span>`}
      ${info?.bar && html`<${Bar} label=${info.bar.label} parts=${info.bar.parts} total=${info.bar.total} />`}`;
  }

  function Box({ node, info, isSelected, canFocus, onSelect, onKey }) {
    const place = { left: `${node.x}px`, top: `${node.y}px`, width: `${node.w}px` };
    const full = [node.title, node.detail, node.kind === "loop" && "can run again in the same run", node.type].filter(Boolean).map(oneLine).join("\n");
    if (node.kind === "start") return html`<div className="allma-node start" style=${{ ...place, height: `${node.h}px` }}>${oneLine(node.title)}</div>`;
    if (node.kind === "branch") {
      return html`<div className="allma-node branch" style=${{ ...place, height: `${node.h}px` }} title=${full}><b>${oneLine(node.title)}</b> ${oneLine(node.detail)}</div>`;
    }
    const state = info?.palette ?? "";
    const name = [node.title, `${info?.word ?? ""}${info?.line ?? node.detail}`].filter(Boolean).map(oneLine).join(", ");
    const button = html`<button type="button" className=${`allma-node ${node.kind === "fork" ? "head" : node.kind} ${state}`} data-node=${node.id} data-step=${node.step}
      style=${node.kind === "fork" ? undefined : { ...place, height: `${node.h}px` }} title=${full} aria-label=${name} aria-pressed=${isSelected} tabIndex=${canFocus ? 0 : -1}
      onClick=${() => onSelect(node)} onKeyDown=${(event) => onKey(event, node)}><${Head} node=${node} info=${info} /></button>`;
    if (node.kind !== "fork") return button;
    return html`<div className=${`allma-node fork ${state}`} style=${{ ...place, height: `${node.h}px` }}>${button}</div>`;
  }

  function fitOf(element, picture, isWhole) {
    // At first only the width has to fit: flows are read from top to bottom.
    const across = (element.clientWidth - 4) / picture.width;
    const down = isWhole ? (TALLEST * globalThis.innerHeight) / picture.height : 1;
    return Math.max(isWhole ? ZOOMS[0] : SMALLEST_FIT, Math.min(1, across, down));
  }

  /** `infoOf(node)`: {state, palette, word, line, bar} of a node in a run; `onSelect(node)`; `selected`: a step's id. */
  return function Picture({ picture, infoOf, selected, onSelect, label = "Picture of the flow" }) {
    const area = useRef(null);
    const [zoom, setZoom] = useState(null);
    const [sight, setSight] = useState(null);
    const [scope] = useState(() => `allma-${Math.random().toString(36).slice(2)}`);
    const drag = useRef(null);
    const steps = useMemo(() => picture.nodes.filter((node) => node.step && node.kind !== "branch"), [picture]);
    const isLarge = picture.nodes.length > CULL_AT;

    const look = () => {
      const element = area.current;
      if (element && isLarge) setSight({ x: element.scrollLeft, y: element.scrollTop, w: element.clientWidth, h: element.clientHeight });
    };
    const fit = (isWhole) => area.current && setZoom(fitOf(area.current, picture, isWhole));
    useLayoutEffect(() => {
      fit(false);
      look();
    }, [picture.width, picture.height]);
    useEffect(look, [zoom]);

    // The place that is in the middle, or below the pointer, stays where it is.
    const scale = (next, at) => {
      const element = area.current;
      const old = zoom ?? 1;
      const x = at?.x ?? element.clientWidth / 2;
      const y = at?.y ?? element.clientHeight / 2;
      const left = ((element.scrollLeft + x) / old) * next - x;
      const top = ((element.scrollTop + y) / old) * next - y;
      setZoom(next);
      requestAnimationFrame(() => element.scrollTo(left, top));
    };
    const zoomBy = (by, at) => {
      const current = zoom ?? 1;
      const next = by > 0 ? ZOOMS.find((one) => one > current + 0.01) : ZOOMS.findLast((one) => one < current - 0.01);
      if (next) scale(next, at);
    };
    const turn = useRef(zoomBy);
    turn.current = zoomBy;
    useEffect(() => {
      const element = area.current;
      const wheel = (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // else it scrolls
        event.preventDefault();
        const bounds = element.getBoundingClientRect();
        turn.current(-event.deltaY, { x: event.clientX - bounds.left, y: event.clientY - bounds.top });
      };
      element.addEventListener("wheel", wheel, { passive: false });
      return () => element.removeEventListener("wheel", wheel);
    }, []);

    const show = (step) => {
      const node = steps.find((one) => one.step === step);
      const element = area.current;
      if (!node || !element) return;
      const z = zoom ?? 1;
      const [x, y] = [node.x * z, node.y * z];
      const isSeen = x >= element.scrollLeft && x + node.w * z <= element.scrollLeft + element.clientWidth && y >= element.scrollTop && y + 52 * z <= element.scrollTop + element.clientHeight;
      if (!isSeen) element.scrollTo(Math.max(0, x - element.clientWidth / 2 + (node.w * z) / 2), Math.max(0, y - element.clientHeight / 3));
    };
    useEffect(() => {
      if (selected && zoom) show(selected);
    }, [selected, zoom === null]);

    const onKey = (event, node) => {
      const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const next = steps[steps.indexOf(node) + by];
      if (!next) return;
      show(next.step);
      // What is out of sight may be drawn only after the scroll.
      requestAnimationFrame(() => requestAnimationFrame(() => area.current?.querySelector(`[data-node="${next.id}"]`)?.focus()));
    };
    const startDrag = (event) => {
      if (event.button || event.target.closest("button")) return;
      const element = area.current;
      drag.current = { x: event.clientX + element.scrollLeft, y: event.clientY + element.scrollTop };
      element.setPointerCapture(event.pointerId);
    };
    const moveDrag = (event) => drag.current && area.current.scrollTo(drag.current.x - event.clientX, drag.current.y - event.clientY);
    const endDrag = () => { drag.current = null; };

    const z = zoom ?? 1;
    let { nodes, edges } = picture;
    if (isLarge) {
      const from = sight ? [sight.x / z - AROUND, sight.y / z - AROUND] : [0, 0];
      const to = sight ? [(sight.x + sight.w) / z + AROUND, (sight.y + sight.h) / z + AROUND] : [2000, 2000];
      nodes = nodes.filter((node) => node.x < to[0] && node.y < to[1] && node.x + node.w > from[0] && node.y + node.h > from[1]);
      edges = edges.filter((edge) => edge.top < to[1] && edge.bottom > from[1]);
    }
    const focusable = steps.some((node) => node.step === selected) ? selected : steps[0]?.step;
    const boxOf = (node) => html`<${Box} key=${node.id} node=${node} info=${infoOf?.(node)} isSelected=${node.step === selected} canFocus=${node.step === focusable} onSelect=${onSelect} onKey=${onKey} />`;
    const size = { width: `${Math.ceil(picture.width * z)}px`, height: `${Math.ceil(picture.height * z)}px` };
    return html`<div className="allma-picture">
      <div className="allma-zoom" role="group" aria-label="Zoom">
        <${Button} className="allma-button outline small" aria-label="Zoom out" disabled=${z <= ZOOMS[0]} onClick=${() => zoomBy(-1)}>−<//>
        <${Button} className="allma-button outline small" aria-label="Zoom to fit" title="Zoom to fit" onClick=${() => fit(true)}>${Math.round(z * 100)} %<//>
        <${Button} className="allma-button outline small" aria-label="Zoom in" disabled=${z >= ZOOMS.at(-1)} onClick=${() => zoomBy(1)}>+<//>
      </div>
      <div className="allma-canvas" ref=${area} role="group" tabIndex="0" aria-label=${`${label}. Arrow keys go from step to step.`}
        onScroll=${isLarge ? look : undefined} onPointerDown=${startDrag} onPointerMove=${moveDrag} onPointerUp=${endDrag} onPointerCancel=${endDrag}>
        <div className="allma-sheet" style=${size}><div className="allma-scaled" style=${{ width: `${picture.width}px`, height: `${picture.height}px`, transform: `scale(${z})` }}>
          ${nodes.filter(isFrame).map(boxOf)}
          <${Lines} picture=${picture} edges=${edges} scope=${scope} />
          ${nodes.filter((node) => !isFrame(node)).map(boxOf)}
        </div></div>
      </div>
    </div>`;
  };
};
