// The JSON of a flow, with line numbers, and problems at their lines.

const ROW = 20; // pixels, as in flows.css
const AROUND = 40; // lines drawn outside of what is in sight
const ABOVE = 4; // lines that stay in sight above one that is gone to
const FIRST_HEIGHT = 800; // pixels, before the area has a height
const WORDS = /"(?:[^"\\]|\\.)*"(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

function paletteOfProblems(problems) {
  return problems.some((one) => one.severity === "error") ? "failed" : "up_for_retry";
}

function problemsByLine(problems) {
  const byLine = new Map();
  for (const one of problems) byLine.set(one.line, [...(byLine.get(one.line) ?? []), one]);
  return byLine;
}

/** Return the component Source. */
export default (kit) => {
  const { html, useEffect, useMemo, useRef, useState, count, visible, oneLine, Copy } = kit;

  function colored(text) {
    const parts = [];
    let end = 0;
    for (const found of text.matchAll(WORDS)) {
      if (found.index > end) parts.push(visible(text.slice(end, found.index)));
      const kind = found[0].startsWith('"') ? (found[1] ? "key" : "string") : "number";
      parts.push(html`<span key=${found.index} className=${kind}>${visible(found[0])}</span>`);
      end = found.index + found[0].length;
    }
    parts.push(visible(text.slice(end)));
    return parts;
  }

  function Problems({ problems, go }) {
    return html`<ul className="allma-problems" aria-label="Problems">
      ${problems.map((one, index) => html`<li key=${index} className=${paletteOfProblems([one])}>
        <button type="button" className="allma-button link" onClick=${() => go(one.line)}>
          Line ${one.line}
        </button>
        ${" "}<b>${one.severity}</b> <span>${oneLine(one.message)}</span>
      </li>`)}
    </ul>`;
  }

  function Row({ number, text, problems, isChosen, digits }) {
    const name = `row ${isChosen ? "chosen" : ""} ${problems ? paletteOfProblems(problems) : ""}`;
    return html`<div className=${name} title=${problems?.map((one) => oneLine(one.message)).join("\n")}>
      <span className="gutter" style=${{ width: `${digits + 3}ch` }}>${problems ? "●" : ""} ${number}</span>
      <code>${colored(text)}</code>
    </div>`;
  }

  /** `chosen`: {first, last}, lines to show; `problems`: {line, column, severity, message}. */
  return function Source({ source, problems = [], chosen, label = "JSON of the flow" }) {
    const area = useRef(null);
    const lines = useMemo(() => source.split("\n"), [source]);
    const [top, setTop] = useState(0);
    const marks = useMemo(() => problemsByLine(problems), [problems]);
    const go = (line) => area.current.scrollTo({ top: Math.max(0, (line - ABOVE) * ROW) });
    useEffect(() => {
      if (chosen) go(chosen.first);
    }, [chosen?.first]);
    const height = area.current?.clientHeight ?? FIRST_HEIGHT;
    const first = Math.max(0, Math.floor(top / ROW) - AROUND);
    const last = Math.min(lines.length, Math.ceil((top + height) / ROW) + AROUND);
    const rowOf = (text, index) => {
      const number = first + index + 1;
      const isChosen = chosen && number >= chosen.first && number <= chosen.last;
      return html`<${Row} key=${number} number=${number} text=${text} problems=${marks.get(number)}
        isChosen=${isChosen} digits=${String(lines.length).length} />`;
    };
    return html`<section className="allma-source">
      <div className="allma-head">
        <span className="muted">${count(lines.length, "line")}</span>
        <div className="allma-actions">
          <${Copy} className="allma-button outline small" text=${source} label="Copy" />
        </div>
      </div>
      ${problems.length > 0 && html`<${Problems} problems=${problems} go=${go} />`}
      <div className="allma-code" ref=${area} role="group" tabIndex="0" aria-label=${label}
        onScroll=${(event) => setTop(event.currentTarget.scrollTop)}>
        <div style=${{ height: `${lines.length * ROW}px` }}>
          <div className="rows" style=${{ transform: `translateY(${first * ROW}px)` }}>
            ${lines.slice(first, last).map(rowOf)}
          </div>
        </div>
      </div>
    </section>`;
  };
};
