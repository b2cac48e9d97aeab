// JSON that folds. Only what is unfolded is drawn, so a large value costs what is seen of it.

import { bytes, count, visible } from "./text.js";

const MEMBERS_AT_ONCE = 100; // and then again as many
const CHARACTERS_AT_ONCE = 2000;
const OPEN_MEMBERS = 40; // a value unfolds by itself while it has no more members than this
const OPEN_DEPTH = 4;

/** Return whether a value was cut when it was stored or sent: {"$cut": beginning, "$bytes": size}. */
export function isCut(value) {
  const isObject = value !== null && typeof value === "object";
  return isObject && typeof value.$cut === "string" && typeof value.$bytes === "number";
}

function members(value) {
  return Array.isArray(value) ? value.map((one, index) => [index, one]) : Object.entries(value);
}

function isFolding(value) {
  return value !== null && typeof value === "object" && !isCut(value) && members(value).length > 0;
}

/** Return the components of a host that show JSON. */
export function makeJson({ html, useState }, { Button }) {
  function Text({ value }) {
    const [isWhole, setWhole] = useState(false);
    const shown = isWhole ? value : value.slice(0, CHARACTERS_AT_ONCE);
    const rest = shown.length < value.length && html`… <${Button} kind="link" onClick=${() => setWhole(true)}>
      show all ${count(value.length, "character")}
    <//>`;
    return html`<span className="string">${visible(JSON.stringify(shown).slice(0, -1))}${rest}"</span>`;
  }

  function Scalar({ value }) {
    if (isCut(value)) {
      const beginning = html`<span className="string">${visible(value.$cut)}</span>`;
      return html`<span className="cut">${beginning}… (${bytes(value.$bytes)} in all)</span>`;
    }
    if (typeof value === "string") return html`<${Text} value=${value} />`;
    if (value === null || typeof value !== "object") {
      return html`<span className=${value === null ? "null" : typeof value}>${String(value)}</span>`;
    }
    return html`<span>${Array.isArray(value) ? "[]" : "{}"}</span>`;
  }

  function Fold({ name, isOpen, setOpen }) {
    const label = `${isOpen ? "Fold" : "Unfold"} ${name === undefined ? "value" : visible(name)}`;
    return html`<button type="button" className="fold" aria-expanded=${isOpen} aria-label=${label}
      onClick=${() => setOpen(!isOpen)}>${isOpen ? "▾" : "▸"}</button>`;
  }

  function Members({ value, all, depth, limit, setLimit }) {
    const isList = Array.isArray(value);
    const more = Math.min(MEMBERS_AT_ONCE, all.length - limit);
    const nodeOf = ([key, one], index) => html`<${Node} key=${key} name=${isList ? undefined : key}
      value=${one} depth=${depth + 1} isLast=${index === all.length - 1} />`;
    return html`<div className="members">
      ${all.slice(0, limit).map(nodeOf)}
      ${more > 0 && html`<${Button} kind="link" onClick=${() => setLimit(limit + MEMBERS_AT_ONCE)}>
        show ${count(more, "more", "more")} of ${count(all.length, "member")}
      <//>`}
    </div>`;
  }

  function Node({ name, value, depth, isLast }) {
    const isSmall = () => Object.keys(value ?? {}).length <= OPEN_MEMBERS;
    const [isOpen, setOpen] = useState(() => depth < 1 || (depth < OPEN_DEPTH && isSmall()));
    const [limit, setLimit] = useState(MEMBERS_AT_ONCE);
    const key = name !== undefined && html`<span className="key">${visible(JSON.stringify(name))}</span>`;
    const label = key && html`${key}${": "}`;
    const comma = isLast ? "" : ",";
    if (!isFolding(value)) {
      return html`<div className="line">${label}<${Scalar} value=${value} />${comma}</div>`;
    }
    const all = members(value);
    const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
    const size = count(all.length, Array.isArray(value) ? "item" : "key");
    const folded = !isOpen && html` <span className="muted">${size}</span> ${close}${comma}`;
    return html`<div className="node">
      <div className="line">
        <${Fold} name=${name} isOpen=${isOpen} setOpen=${setOpen} />${label}${open}${folded}
      </div>
      ${isOpen && html`<${Members} value=${value} all=${all} depth=${depth} limit=${limit}
        setLimit=${setLimit} />`}
      ${isOpen && html`<div className="line">${close}${comma}</div>`}
    </div>`;
  }

  function Json({ value, label }) {
    // A scroll area that the keyboard reaches
    return html`<div className="allma-json" role="group" aria-label=${label} tabIndex="0">
      <${Node} value=${value} depth=${0} isLast=${true} />
    </div>`;
  }

  return { Json, isCut };
}
