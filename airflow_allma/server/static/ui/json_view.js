// JSON that folds. Only what is unfolded is drawn, so a large value costs what is seen of it.

import { bytes, count, visible } from "./text.js";

const AT_ONCE = 100; // members, and then again as many
const TEXT_AT_ONCE = 2000; // characters of a string
const OPEN_LINES = 40; // a value unfolds by itself while it has no more members than this

/** Whether a value was cut when it was stored or sent: {"$cut": beginning, "$bytes": size}. */
export function isCut(value) {
  return value !== null && typeof value === "object" && typeof value.$cut === "string" && typeof value.$bytes === "number";
}

function members(value) {
  return Array.isArray(value) ? value.map((one, index) => [index, one]) : Object.entries(value);
}

function isFolding(value) {
  return value !== null && typeof value === "object" && !isCut(value) && (Array.isArray(value) ? value.length : Object.keys(value).length) > 0;
}

/** Return the components of a host that show JSON. */
export function makeJson({ html, useState }, { Button }) {
  function Text({ value }) {
    const [isWhole, setWhole] = useState(false);
    const shown = isWhole || value.length <= TEXT_AT_ONCE ? value : value.slice(0, TEXT_AT_ONCE);
    return html`<span className="string">${visible(JSON.stringify(shown).slice(0, -1))}${shown.length < value.length ? html`… <${Button} kind="link" onClick=${() => setWhole(true)}>show all ${count(value.length, "character")}<//>` : ""}"</span>`;
  }

  function Scalar({ value }) {
    if (isCut(value)) return html`<span className="cut"><span className="string">${visible(value.$cut)}</span>… (${bytes(value.$bytes)} in all)</span>`;
    if (typeof value === "string") return html`<${Text} value=${value} />`;
    if (value === null || typeof value !== "object") return html`<span className=${value === null ? "null" : typeof value}>${String(value)}</span>`;
    return html`<span>${Array.isArray(value) ? "[]" : "{}"}</span>`;
  }

  function Node({ name, value, depth, isLast }) {
    const [isOpen, setOpen] = useState(depth < 1 || (depth < 4 && Object.keys(value ?? {}).length <= OPEN_LINES));
    const [limit, setLimit] = useState(AT_ONCE);
    const label = name === undefined ? null : html`<span className="key">${visible(JSON.stringify(name))}</span>`;
    const comma = isLast ? "" : ",";
    if (!isFolding(value)) return html`<div className="line">${label}${label && ": "}<${Scalar} value=${value} />${comma}</div>`;
    const all = members(value);
    const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
    const size = Array.isArray(value) ? count(all.length, "item") : count(all.length, "key");
    const shown = isOpen ? all.slice(0, limit) : [];
    return html`<div className="node">
      <div className="line"><button type="button" className="fold" aria-expanded=${isOpen} aria-label=${`${isOpen ? "Fold" : "Unfold"} ${name === undefined ? "value" : visible(name)}`} onClick=${() => setOpen(!isOpen)}>${isOpen ? "▾" : "▸"}</button>${label}${label && ": "}${open}${!isOpen && html` <span className="muted">${size}</span> ${close}${comma}`}</div>
      ${isOpen && html`<div className="members">
        ${shown.map(([key, one], index) => html`<${Node} key=${key} name=${Array.isArray(value) ? undefined : key} value=${one} depth=${depth + 1} isLast=${index === all.length - 1} />`)}
        ${all.length > limit && html`<${Button} kind="link" onClick=${() => setLimit(limit + AT_ONCE)}>show ${count(Math.min(AT_ONCE, all.length - limit), "more", "more")} of ${count(all.length, "member")}<//>`}
      </div>`}
      ${isOpen && html`<div className="line">${close}${comma}</div>`}
    </div>`;
  }

  function Json({ value, label }) {
    // A scroll area that the keyboard reaches
    return html`<div className="allma-json" role="group" aria-label=${label} tabIndex="0"><${Node} value=${value} depth=${0} isLast=${true} /></div>`;
  }

  return { Json, isCut };
}
