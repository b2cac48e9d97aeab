// The items of a fork: counts, failures by kind, a page of items, and one of them.

import makeForkCard from "./fork_card.js";
import makeItem from "./item.js";

const LIMIT = 50;
const KEYS = [
  ["j, ↓", "next item"], ["k, ↑", "previous item"], ["Enter", "open the item"], ["Esc", "close the item"],
  ["/", "search labels"], ["g", "go to an item by its index"], ["?", "this help"],
];

export default (kit) => {
  const { html, useEffect, useRef, useState, api, count, duration, number, oneLine, Badge, Button, Dialog, Empty, Link, Loading, Page, Problem, Table, Tabs, useJson } = kit;
  const ForkCard = makeForkCard(kit);
  const Item = makeItem(kit);

  const COLUMNS = [
    { key: "index", title: "Index", className: "index", cell: (row) => row.index === null ? html`<span className="muted">not known</span>` : html`<button type="button" className="allma-button link">${number(row.index)}</button>` },
    { key: "label", title: "Label", className: "label", cell: (row) => html`<span title=${oneLine(row.label ?? "")}>${oneLine(row.label ?? "")}</span>` },
    { key: "status", title: "Status", className: "nowrap", cell: (row) => html`<${Badge} state=${row.status} />` },
    { key: "step", title: "Step", className: "nowrap spare", cell: (row) => oneLine(row.step ?? "") },
    { key: "error", title: "Error", className: "text", cell: (row) => row.errorName && html`<span title=${oneLine(row.message ?? "")}><b>${oneLine(row.errorName)}</b> ${oneLine(row.message ?? "")}</span>` },
    { key: "seconds", title: "Duration", className: "number spare", cell: (row) => duration(row.seconds) },
    { key: "chunk", title: "Chunk", className: "number spare", cell: (row) => (row.chunk === null || row.chunk === undefined ? "" : number(row.chunk)) },
  ];

  function Search({ name, label, value, put, field }) {
    const [typed, setTyped] = useState(value ?? "");
    useEffect(() => setTyped(value ?? ""), [value]);
    const search = (event) => {
      event.preventDefault();
      put({ [name]: typed, start: null, item: null });
    };
    return html`<form className="allma-search" onSubmit=${search} role="search">
      <input ref=${field} type="search" placeholder=${label} aria-label=${label} value=${typed} onInput=${(event) => { setTyped(event.target.value); if (!event.target.value && value) put({ [name]: null, start: null }); }} />
    </form>`;
  }

  /** Call `handle(key)` for a key pressed on the page, outside of fields; it says whether it took the key. */
  function useKeys(handle) {
    const current = useRef(handle);
    current.current = handle;
    useEffect(() => {
      const pressed = (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey || globalThis.document.querySelector("dialog[open]")) return;
        const isField = event.target.closest?.("input, textarea, select, [contenteditable=true]");
        if (isField && event.key === "Escape") event.target.blur();
        const isInside = event.target === globalThis.document.body || event.target.closest?.(".allma");
        if (isField || !isInside) return;
        if (event.key.startsWith("Arrow") && event.target.closest?.(".allma-item")) return; // they scroll there
        if (event.key === "Enter" && event.target.closest?.("button, a, summary")) return;
        if (current.current(event.key)) {
          event.preventDefault();
          event.stopPropagation();
        }
      };
      globalThis.addEventListener("keydown", pressed, true);
      return () => globalThis.removeEventListener("keydown", pressed, true);
    }, []);
  }

  function Help({ onClose }) {
    return html`<${Dialog} title="Keys" onClose=${onClose} actions=${html`<${Button} kind="primary" onClick=${onClose}>Close<//>`}>
      <dl className="allma-keys">${KEYS.map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    <//>`;
  }

  function Filters({ query, summary, show, put, search, page }) {
    const isRunning = summary?.isRunning;
    const shows = [
      { key: "all", title: "All", count: summary?.items },
      { key: "failed", title: "Failed", count: summary?.failed },
      { key: "succeeded", title: "Succeeded", count: summary?.succeeded },
      ...(isRunning || show === "running" ? [{ key: "running", title: "Running", count: summary?.running }] : []),
    ];
    const kind = summary?.kinds?.find((one) => one.kind === query.kind);
    const found = page && (query.label || query.text || query.kind || query.branch || query.chunk) && page.total !== null && page.total !== undefined;
    return html`<div className="allma-filters">
      <${Tabs} label="Items shown" tabs=${shows} selected=${show} onSelect=${(key) => put({ show: key, kind: null, start: null, item: null }, { push: true })} />
      <${Search} name="label" label="Search labels" value=${query.label} put=${put} field=${search} />
      <${Search} name="text" label="Search inputs and results" value=${query.text} put=${put} />
      ${summary?.branches?.length > 1 && html`<select aria-label="Branch" value=${query.branch ?? ""} onChange=${(event) => put({ branch: event.target.value, start: null })}>
        <option value="">All branches</option>${summary.branches.map((name) => html`<option key=${name} value=${name}>${oneLine(name)}</option>`)}</select>`}
      ${query.kind && html`<${Button} className="allma-button outline small chip" aria-label="Show failures of every kind" onClick=${() => put({ kind: null, start: null })}>${oneLine(kind?.errorName ?? "one kind")}${kind?.step ? ` in ${oneLine(kind.step)}` : ""} ✕<//>`}
      ${query.chunk && html`<${Button} className="allma-button outline small chip" aria-label="Show the items of every chunk" onClick=${() => put({ chunk: "all", start: null })}>Chunk ${query.chunk} ✕<//>`}
      <span className="muted" role="status">${found && `${page.isExact === false ? "at least " : ""}${count(page.total, "item")} found`}</span>
    </div>`;
  }

  function Pager({ query, show, rows, next, put, steps }) {
    const start = Number(query.start ?? 0);
    if (!start && next === null) return null;
    const isIndex = show !== "failed" && !query.kind && !query.label;
    const back = () => {
      const last = steps.current.pop();
      put({ start: last ?? (Math.max(0, start - LIMIT) || null) }, { push: true });
    };
    const forward = () => {
      steps.current.push(query.start ?? null);
      put({ start: next }, { push: true });
    };
    const from = isIndex ? rows[0]?.index ?? start : start + 1;
    const to = isIndex ? rows.at(-1)?.index ?? start : start + rows.length;
    return html`<div className="allma-pager">
      <${Button} disabled=${!start} onClick=${back}>Previous<//>
      <span className="muted">${rows.length > 0 && `${isIndex ? "Items" : "Hits"} ${number(from)} to ${number(to)}`}</span>
      <${Button} disabled=${next === null || next === undefined} onClick=${forward}>Next<//>
    </div>`;
  }

  function Nothing({ query, show, summary, note, next, put }) {
    // The server looks at a bounded number of items for each page.
    if (next !== null && next !== undefined) return html`<${Empty} title="Nothing found yet">${oneLine(note ?? "")} <${Button} onClick=${() => put({ start: next })}>Continue the search<//><//>`;
    if (summary?.items === 0) return html`<${Empty} title="This fork had no items" />`;
    if (query.label || query.text) return html`<${Empty} title="No item matches">${note ? oneLine(note) : "Change or clear the search."}<//>`;
    if (show === "failed") return html`<${Empty} title="No item failed">${summary?.isRunning ? "So far." : ""}<//>`;
    return html`<${Empty} title="No items">${note ? oneLine(note) : ""}<//>`;
  }

  function ForkItems({ dagId, runId, fork, taskId, mapIndex }) {
    const [given, put] = kit.useQuery();
    const [until, setUntil] = useState(0);
    const [selected, setSelected] = useState(null);
    const [isHelp, setHelp] = useState(false);
    const search = useRef(null);
    const root = useRef(null);
    const steps = useRef([]);
    const atFirst = useRef(null);
    const parts = ["dags", dagId, "runs", runId, "forks", fork];
    const isLive = (data) => Boolean(data?.isRunning) || Date.now() < until;
    const sum = useJson(api(parts), { live: isLive });
    const summary = sum.data;
    // On the instance of a chunk its items; on that of an item this item.
    const isChunk = summary?.mode === "chunks" && taskId === `${fork}.chunk` && mapIndex !== undefined;
    const isOne = summary?.mode === "memory" && mapIndex !== undefined && Number(mapIndex) >= 0;
    const chunk = given.chunk === "all" ? undefined : given.chunk ?? (isChunk ? String(mapIndex) : undefined);
    const query = { ...given, chunk, item: given.item ?? (isOne ? String(mapIndex) : undefined) };
    if (summary && atFirst.current === null) atFirst.current = summary.failed > 0 ? "failed" : "all";
    const show = query.show ?? (query.kind ? "failed" : query.label || query.text ? "all" : atFirst.current ?? "all");
    const { kind, label, text, branch, start } = query;
    const address = summary ? api([...parts, "items"], { show, kind, label, text, branch, chunk, start, limit: LIMIT }) : null;
    const list = useJson(address, { live: () => isLive(summary) });
    const page = list.data;
    const rows = page?.rows ?? [];
    // Items of a chunk after one that goes on have no index yet.
    const keyOf = (row) => `${row.index ?? `${row.chunk}:${row.item}`}/${row.branch ?? ""}`;
    const open = query.item;
    const here = rows.findIndex((row) => (open === undefined ? keyOf(row) === selected : String(row.index) === open && (!branch || row.branch === branch)));

    useEffect(() => { if (summary?.isRunning) list.reload(); }, [summary?.isRunning]);
    useEffect(() => {
      root.current?.querySelector("tr[aria-current=true]")?.scrollIntoView({ block: "nearest" });
    }, [here, page]);

    const openRow = (row) => {
      if (row.index === null) return;
      setSelected(keyOf(row));
      put({ item: row.index }, { push: open === undefined });
    };
    const step = (by, item) => {
      const row = here >= 0 ? rows[here + by] : undefined;
      const neighbor = by < 0 ? item?.previous : item?.next;
      if (row) openRow(row);
      else if (neighbor !== null && neighbor !== undefined) put({ item: neighbor });
    };
    const close = () => put({ item: null });
    const move = (by) => {
      const row = rows[here < 0 ? (by > 0 ? 0 : rows.length - 1) : here + by];
      if (!row) return;
      if (open !== undefined) openRow(row);
      else setSelected(keyOf(row));
    };
    const keys = {
      j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
      Enter: () => here >= 0 && openRow(rows[here]),
      Escape: () => open !== undefined && close(),
      "/": () => search.current?.focus(), g: () => root.current?.querySelector(".allma-goto input")?.focus(),
      "?": () => setHelp(true),
    };
    useKeys((key) => {
      if (!(key in keys)) return false;
      keys[key]();
      return true;
    });
    const changed = (time = Date.now() + 60_000) => {
      setUntil(time);
      sum.reload();
      list.reload();
    };

    const known = { chunk: summary?.mode === "chunks", seconds: rows.some((row) => typeof row.seconds === "number") };
    const columns = COLUMNS.filter((one) => known[one.key] ?? true);
    const back = html`<nav className="allma-back"><${Link} to=${{ dagId, runId }}>‹ Flow run<//><${Button} kind="ghost" className="allma-button ghost small" aria-label="Keys" onClick=${() => setHelp(true)}>?<//></nav>`;
    if (!summary) return html`<${Page}>${back}${sum.error ? html`<${Problem} error=${sum.error} onRetry=${sum.reload} />` : html`<${Loading} lines=${8} />`}<//>`;
    return html`<${Page}>
      <div ref=${root}>
        ${back}
        ${sum.error && html`<${Problem} error=${sum.error} onRetry=${sum.reload} />`}
        <${ForkCard} dagId=${dagId} runId=${runId} summary=${summary} put=${put} kind=${kind} onChanged=${changed} level="h1" />
        <${Filters} query=${query} summary=${summary} show=${show} put=${put} search=${search} page=${page} />
        ${list.error && html`<${Problem} error=${list.error} onRetry=${list.reload} />`}
        ${page?.note && rows.length > 0 && html`<p className="allma-note">${oneLine(page.note)}</p>`}
        <div className=${open === undefined ? "allma-split" : "allma-split open"}>
          <div className="allma-list" aria-busy=${list.isLoading}>
            ${!page && !list.error && html`<${Loading} lines=${8} />`}
            ${page && html`<${Table} label="Items" columns=${columns} rows=${rows} keyOf=${keyOf} onRow=${openRow}
              selected=${here >= 0 ? keyOf(rows[here]) : undefined} empty=${html`<${Nothing} query=${query} show=${show} summary=${summary} note=${page.note} next=${page.next} put=${put} />`} />`}
            ${page && html`<${Pager} query=${query} show=${show} rows=${rows} next=${page.next} put=${put} steps=${steps} />`}
          </div>
          ${open !== undefined && html`<${Item} key=${open} dagId=${dagId} runId=${runId} fork=${fork} index=${open} branch=${branch} isRunning=${isLive(summary)} put=${put} onClose=${close} onStep=${step} onChanged=${changed} />`}
        </div>
        ${isHelp && html`<${Help} onClose=${() => setHelp(false)} />`}
      </div>
    <//>`;
  }

  /** Which fork a task is of, from the run. */
  function TaskItems(props) {
    const { dagId, runId, taskId } = props;
    const { data: run, error, reload } = useJson(api(["dags", dagId, "runs", runId]), { live: false });
    if (error) return html`<${Page}><${Problem} error=${error} onRetry=${reload} /><//>`;
    if (!run) return html`<${Page}><${Loading} /><//>`;
    if (!run.isFlow) return html`<${Page}><${Empty} title="This Dag is not an Allma flow" /><//>`;
    const forks = run.forks.map((one) => one.fork).filter((name) => taskId.startsWith(`${name}.`));
    if (forks.length) return html`<${ForkItems} ...${props} fork=${forks.sort((one, other) => other.length - one.length)[0]} />`;
    return html`<${Page}><${Empty} title="This task is not part of a fork"><${Link} to=${{ dagId, runId }}>Open the flow run<//> for its input, output and calls.<//><//>`;
  }

  return function Items(props) {
    const [query] = kit.useQuery();
    const fork = query.fork;
    return fork ? html`<${ForkItems} key=${fork} ...${props} fork=${fork} />` : html`<${TaskItems} ...${props} />`;
  };
};
