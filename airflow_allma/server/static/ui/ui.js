// The parts that pages are made of. They look like Airflow's own (allma.css).

import { signInPage, airflow, makeUseJson } from "./data.js";
import { makeJson } from "./json_view.js";
import { duration, moment, oneLine, number } from "./text.js";

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

/** Return Airflow's palette of colors of a state, such as "success" or "failed". */
export function paletteOf(state) {
  return (STATES[state] ?? [state && /^[a-z_]+$/.test(state) ? state : "none"])[0];
}

/** Return the components and hooks of a host. */
export function makeUi(kit) {
  const { html, useEffect, useRef, useState } = kit;
  const useJson = makeUseJson(kit);

  function Page({ title, note, actions, children }) {
    return html`<main className="allma-page">
      ${(title || actions) && html`<div className="allma-head">
        ${title && html`<h1>${title}</h1>`}${note && html`<span className="muted">${note}</span>`}
        ${actions && html`<div className="allma-actions">${actions}</div>`}
      </div>`}
      ${children}
    </main>`;
  }

  function Tabs({ label, tabs, selected, onSelect }) {
    // {key, title, count?}: a group of buttons of which one is pressed
    return html`<div className="allma-tabs" role="group" aria-label=${label}>
      ${tabs.map((tab) => html`<button type="button" key=${tab.key} aria-pressed=${tab.key === selected} onClick=${() => onSelect(tab.key)}>
        ${tab.title}${tab.count !== undefined && tab.count !== null && html`<span className="count">${number(tab.count)}</span>`}
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
      if (!isHere || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      navigate(path);
    };
    return html`<a href=${href} onClick=${follow} ...${rest}>${children}</a>`;
  }

  function Table({ label, columns, rows, keyOf, onRow, selected, empty }) {
    // columns: {key, title, cell(row), className?}; a row that can be opened has a button or a link in a cell too
    if (!rows.length && empty) return empty;
    return html`<div className="allma-scroll"><table className="allma-table" aria-label=${label}>
      <thead><tr>${columns.map((one) => html`<th key=${one.key} scope="col" className=${one.className}>${one.title}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => {
        const key = keyOf(row);
        return html`<tr key=${key} data-key=${key} className=${onRow ? "opens" : undefined} aria-current=${key === selected ? "true" : undefined} onClick=${onRow && (() => onRow(row))}>
          ${columns.map((one) => html`<td key=${one.key} className=${one.className}>${one.cell(row)}</td>`)}
        </tr>`;
      })}</tbody>
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
    return html`<dialog className="allma-dialog" ref=${dialog} aria-label=${title} onCancel=${(event) => { event.preventDefault(); onClose(); }} onClick=${outside}>
      <div className="allma-dialog-body">
        <h2>${title}</h2>
        ${children}
        <div className="allma-actions">${actions}</div>
      </div>
    </dialog>`;
  }

  function Empty({ title, children }) {
    return html`<div className="allma-empty" role="status"><strong>${title}</strong>${children && html`<p>${children}</p>`}</div>`;
  }

  function Loading({ lines = 4 }) {
    const widths = Array.from({ length: lines }, (_, index) => `w${index % 3}`);
    return html`<div className="allma-loading" role="status" aria-label="Loading">${widths.map((name, index) => html`<span key=${index} className=${name}></span>`)}</div>`;
  }

  function Problem({ error, onRetry, title }) {
    if (!error) return null;
    const heading = title ?? (error.status === 401 ? "Sign in" : error.status === 403 ? "No access" : error.status === 404 ? "Not found" : "Something went wrong");
    return html`<div className="allma-problem" role="alert">
      <div><strong>${heading}</strong><p>${oneLine(error.message)}</p></div>
      ${error.status === 401 ? html`<a className="allma-button outline" href=${signInPage()}>Sign in</a>` : onRetry && html`<${Button} onClick=${onRetry}>Try again<//>`}
    </div>`;
  }

  function Bar({ label, parts, total }) {
    // parts: {state, value}; total may be unknown: then the parts fill the bar
    const known = parts.reduce((sum, part) => sum + (part.value ?? 0), 0);
    const whole = Math.max(total ?? known, known, 1);
    return html`<div className="allma-bar" role="img" aria-label=${label}>
      ${parts.filter((part) => part.value > 0).map((part) => html`<span key=${part.state} className=${paletteOf(part.state)} style=${{ flexBasis: `${(100 * part.value) / whole}%` }}></span>`)}
    </div>`;
  }

  function Time({ value }) {
    return value === null || value === undefined ? null : html`<time>${moment(value)}</time>`;
  }

  function Facts({ facts }) {
    // [name, value] in the form of Airflow's headers; what has no value is left out
    const shown = facts.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
    return html`<dl className="allma-facts">${shown.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
  }

  function Copy({ text, label, ...rest }) {
    const [isDone, setDone] = useState(false);
    const copy = async () => {
      setDone(await copyText(text));
      setTimeout(() => setDone(false), 2000);
    };
    return html`<${Button} onClick=${copy} ...${rest}><span aria-live="polite">${isDone ? "Copied" : label}</span><//>`;
  }

  const parts = { Badge, Bar, Button, Copy, Dialog, Empty, Facts, Link, Loading, Page, Problem, Table, Tabs, Time };
  return { ...parts, ...makeJson(kit, parts), copyText, duration, paletteOf, useJson };
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
