// The parts that pages are made of. They look like Airflow's own (allma.css).

import { signInPage, airflow, makeUseJson } from "./data.js";
import { makeJson } from "./json_view.js";
import { moment, oneLine, number } from "./text.js";

// State of a run, task or item: Airflow's palette of colors and the word shown.
const STATES = {
  ok: ["success", "succeeded"],
  success: ["success", "success"],
  failed: ["failed", "failed"],
  skipped: ["skipped", "skipped"],
  running: ["running", "running"],
  waiting: ["deferred", "waiting"],
  queued: ["queued", "queued"],
  upstream_failed: ["upstream_failed", "upstream failed"],
  none: ["none", "not started"],
  active: ["success", "active"],
  paused: ["queued", "paused"],
  broken: ["failed", "broken"],
  unpublished: ["none", "unpublished"],
};

const COPIED_MILLISECONDS = 2000;
const HEADINGS = { 401: "Sign in", 403: "No access", 404: "Not found" }; // by the status of an answer

/** Return Airflow's palette of colors of a state, such as "success" or "failed". */
export function paletteOf(state) {
  const own = state && /^[a-z_]+$/.test(state) ? state : "none";
  return STATES[state]?.[0] ?? own;
}

/** Return the components and hooks of a host. */
export function makeUi(kit) {
  const { html, useEffect, useRef, useState } = kit;
  const useJson = makeUseJson(kit);

  function Page({ title, note, actions, children }) {
    return html`<main className="allma-page">
      ${(title || actions) && html`<div className="allma-head">
        ${title && html`<h1>${title}</h1>`}
        ${note && html`<span className="muted">${note}</span>`}
        ${actions && html`<div className="allma-actions">${actions}</div>`}
      </div>`}
      ${children}
    </main>`;
  }

  function Tabs({ label, tabs, selected, onSelect }) {
    // {key, title, count?}: a group of buttons of which one is pressed
    const hasCount = (tab) => tab.count !== undefined && tab.count !== null;
    return html`<div className="allma-tabs" role="group" aria-label=${label}>
      ${tabs.map((tab) => html`<button type="button" key=${tab.key} aria-pressed=${tab.key === selected}
        onClick=${() => onSelect(tab.key)}>
        ${tab.title}${hasCount(tab) && html`<span className="count">${number(tab.count)}</span>`}
      </button>`)}
    </div>`;
  }

  function Badge({ state, color, children }) {
    const name = STATES[state]?.[1] ?? oneLine(state).replaceAll("_", " ");
    return html`<span className=${`allma-badge ${color ?? paletteOf(state)}`}>${children ?? name}</span>`;
  }

  function Button({ kind = "outline", children, ...rest }) {
    return html`<button type="button" className=${`allma-button ${kind}`} ...${rest}>${children}</button>`;
  }

  function Link({ to, children, ...rest }) {
    // `to`: a path of Airflow ("/dags/orders"), or what kit.placeOf takes
    const navigate = kit.useNavigate();
    const path = typeof to === "string" ? to : kit.placeOf(to);
    const isHere = kit.inAirflow || typeof to !== "string";
    const href = !kit.inAirflow && typeof to !== "string" ? path : airflow(path);
    const follow = (event) => {
      event.stopPropagation(); // a row around it may open something too
      const isSpecial = event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
      if (!isHere || isSpecial) return;
      event.preventDefault();
      navigate(path);
    };
    return html`<a href=${href} onClick=${follow} ...${rest}>${children}</a>`;
  }

  function Table({ label, columns, rows, keyOf, onRow, selected, empty }) {
    // columns: {key, title, cell(row), className?}; a row that opens has a button or a link in a cell too
    if (!rows.length && empty) return empty;
    const headOf = ({ key, className, title }) =>
      html`<th key=${key} scope="col" className=${className}>${title}</th>`;
    const rowOf = (row) => {
      const key = keyOf(row);
      return html`<tr key=${key} data-key=${key} className=${onRow ? "opens" : undefined}
        aria-current=${key === selected ? "true" : undefined} onClick=${onRow && (() => onRow(row))}>
        ${columns.map((one) => html`<td key=${one.key} className=${one.className}>${one.cell(row)}</td>`)}
      </tr>`;
    };
    return html`<div className="allma-scroll"><table className="allma-table" aria-label=${label}>
      <thead><tr>${columns.map(headOf)}</tr></thead>
      <tbody>${rows.map(rowOf)}</tbody>
    </table></div>`;
  }

  function Dialog({ title, children, actions, onClose }) {
    const dialog = useRef(null);
    useEffect(() => {
      const shown = dialog.current;
      if (!shown.open) shown.showModal();
      return () => shown.close();
    }, []);
    const outside = (event) => event.target === dialog.current && onClose();
    const cancel = (event) => {
      event.preventDefault();
      onClose();
    };
    return html`<dialog className="allma-dialog" ref=${dialog} aria-label=${title} onCancel=${cancel}
      onClick=${outside}>
      <div className="allma-dialog-body">
        <h2>${title}</h2>
        ${children}
        <div className="allma-actions">${actions}</div>
      </div>
    </dialog>`;
  }

  function Empty({ title, children }) {
    return html`<div className="allma-empty" role="status">
      <strong>${title}</strong>${children && html`<p>${children}</p>`}
    </div>`;
  }

  function Loading({ lines = 4 }) {
    const widths = Array.from({ length: lines }, (_, index) => `w${index % 3}`);
    return html`<div className="allma-loading" role="status" aria-label="Loading">
      ${widths.map((name, index) => html`<span key=${index} className=${name}></span>`)}
    </div>`;
  }

  function Problem({ error, onRetry, title }) {
    if (!error) return null;
    const heading = title ?? HEADINGS[error.status] ?? "Something went wrong";
    // What is not found now is not found a moment later either.
    const retry = onRetry && error.status !== 404 && html`<${Button} onClick=${onRetry}>Try again<//>`;
    const signIn = html`<a className="allma-button outline" href=${signInPage()}>Sign in</a>`;
    return html`<div className="allma-problem" role="alert">
      <div><strong>${heading}</strong><p>${oneLine(error.message)}</p></div>
      ${error.status === 401 ? signIn : retry}
    </div>`;
  }

  function Bar({ label, parts, total }) {
    // parts: {state, value}; total may be unknown: then the parts fill the bar
    const known = parts.reduce((sum, part) => sum + (part.value ?? 0), 0);
    const whole = Math.max(total ?? known, known, 1);
    const partOf = ({ state, value }) => {
      const style = { flexBasis: `${(100 * value) / whole}%` };
      return html`<span key=${state} className=${paletteOf(state)} style=${style}></span>`;
    };
    return html`<div className="allma-bar" role="img" aria-label=${label}>
      ${parts.filter((part) => part.value > 0).map(partOf)}
    </div>`;
  }

  function Time({ value }) {
    return value === null || value === undefined ? null : html`<time>${moment(value)}</time>`;
  }

  function Facts({ facts }) {
    // [name, value] in the form of Airflow's headers; what has no value is left out
    const shown = facts.filter(([, value]) => ![null, undefined, "", false].includes(value));
    return html`<dl className="allma-facts">
      ${shown.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>`;
  }

  function Copy({ text, label, ...rest }) {
    const [isDone, setDone] = useState(false);
    const copy = async () => {
      setDone(await copyText(text));
      setTimeout(() => setDone(false), COPIED_MILLISECONDS);
    };
    return html`<${Button} onClick=${copy} ...${rest}>
      <span aria-live="polite">${isDone ? "Copied" : label}</span>
    <//>`;
  }

  return {
    ...{ Badge, Bar, Button, Copy, Dialog, Empty, Facts, Link, Loading, Page, Problem, Table, Tabs, Time },
    ...makeJson(kit, { Button }),
    paletteOf,
    useJson,
  };
}

async function copyText(text) {
  try {
    await globalThis.navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages over plain HTTP have no clipboard but this.
    const area = Object.assign(globalThis.document.createElement("textarea"), { value: text });
    area.style.position = "fixed";
    // Inside an open dialog nothing outside it can have the focus.
    (globalThis.document.querySelector("dialog[open]") ?? globalThis.document.body).append(area);
    area.select();
    const isDone = globalThis.document.execCommand("copy");
    area.remove();
    return isDone;
  }
}
