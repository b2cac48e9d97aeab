// The JSON of a flow, with line numbers, and problems at their lines.

const ROW = 20; // pixels, as in flows.css
const AROUND = 40; // lines drawn outside of what is in sight
const WORDS = /"(?:[^"\\]|\\.)*"(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

function colored(html, visible, text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(WORDS)) {
    if (found.index > end) parts.push(text.slice(end, found.index));
    const kind = found[0].startsWith('"') ? (found[1] ? "key" : "string") : "number";
    parts.push(html`<span key=${found.index} className=${kind}>${visible(found[0])}</span>`);
    end = found.index + found[0].length;
  }
  parts.push(visible(text.slice(end)));
  return parts;
}

export default (kit) => {
  const { html, useEffect, useMemo, useRef, useState, count, visible, oneLine, Copy } = kit;

  /** `chosen`: {first, last}, lines to show; `problems`: {line, column, severity, message}. */
  return function Source({ source, problems = [], chosen, label = "JSON of the flow" }) {
    const area = useRef(null);
    const lines = useMemo(() => source.split("\n"), [source]);
    const [top, setTop] = useState(0);
    const marks = useMemo(() => {
      const byLine = new Map();
      for (const one of problems) byLine.set(one.line, [...(byLine.get(one.line) ?? []), one]);
      return byLine;
    }, [problems]);
    const go = (line) => area.current.scrollTo({ top: Math.max(0, (line - 4) * ROW) });
    useEffect(() => {
      if (chosen) go(chosen.first);
    }, [chosen?.first]);
    const height = area.current?.clientHeight ?? 800;
    const first = Math.max(0, Math.floor(top / ROW) - AROUND);
    const last = Math.min(lines.length, Math.ceil((top + height) / ROW) + AROUND);
    const shown = lines.slice(first, last);
    const digits = String(lines.length).length;
    return html`<section className="allma-source">
      <div className="allma-head">
        <span className="muted">${count(lines.length, "line")}</span>
        <div className="allma-actions"><${Copy} className="allma-button outline small" text=${source} label="Copy" /></div>
      </div>
      ${problems.length > 0 && html`<ul className="allma-problems" aria-label="Problems">${problems.map((one, index) => html`<li key=${index} className=${one.severity === "error" ? "failed" : "up_for_retry"}>
        <button type="button" className="allma-button link" onClick=${() => go(one.line)}>Line ${one.line}</button> <b>${one.severity}</b> <span>${oneLine(one.message)}</span>
      </li>`)}</ul>`}
      <div className="allma-code" ref=${area} role="group" tabIndex="0" aria-label=${label} onScroll=${(event) => setTop(event.currentTarget.scrollTop)}>
        <div style=${{ height: `${lines.length * ROW}px` }}><div className="rows" style=${{ transform: `translateY(${first * ROW}px)` }}>
          ${shown.map((text, index) => {
            const number = first + index + 1;
            const found = marks.get(number);
            const isChosen = chosen && number >= chosen.first && number <= chosen.last;
            const state = found ? (found.some((one) => one.severity === "error") ? "failed" : "up_for_retry") : "";
            return html`<div key=${number} className=${`row ${isChosen ? "chosen" : ""} ${state}`} title=${found ? found.map((one) => oneLine(one.message)).join("\n") : undefined}>
              <span className="gutter" style=${{ width: `${digits + 3}ch` }}>${found ? "●" : ""} ${number}</span><code>${colored(html, visible, text)}</code>
            </div>`;
          })}
        </div></div>
      </div>
    </section>`;
  };
};
