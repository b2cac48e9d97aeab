// The items of a fork: counts, failures by kind, a page of items, and one of them.

import makeForkCard from "./fork_card.js";
import makeItem from "./item.js";
import { LIMIT, keyOfRow, makeItemList } from "./item_list.js";
import { makeKeys } from "./keys.js";

const AFTER_CHANGE_MILLISECONDS = 60_000;

/** Return the query with what follows from the task instance on whose tab the page is. */
function completed(given, { summary, fork, taskId, mapIndex }) {
  // On the instance of a chunk its items; on that of an item this item.
  const isChunk = summary?.mode === "chunks" && taskId === `${fork}.chunk` && mapIndex !== undefined;
  const isOne = summary?.mode === "memory" && mapIndex !== undefined && Number(mapIndex) >= 0;
  const ownChunk = isChunk ? String(mapIndex) : undefined;
  return {
    ...given,
    chunk: given.chunk === "all" ? undefined : given.chunk ?? ownChunk,
    item: given.item ?? (isOne ? String(mapIndex) : undefined),
  };
}

function shownOf({ show, kind, label, text }, atFirst) {
  if (show) return show;
  if (kind) return "failed";
  return label || text ? "all" : atFirst ?? "all";
}

/** Return the page. */
export default (kit) => {
  const { html, useEffect, useRef, useState, api, oneLine } = kit;
  const { Button, Empty, Link, Loading, Page, Problem, useJson } = kit;
  const ForkCard = makeForkCard(kit);
  const Item = makeItem(kit);
  const { Filters, ItemList } = makeItemList(kit);
  const { Help, useKeys } = makeKeys(kit);

  /** Return the fork's summary, the page of its items that the address names, and what to show of them. */
  function useItems({ dagId, runId, fork, taskId, mapIndex }) {
    const [given, put] = kit.useQuery();
    const [until, setUntil] = useState(0);
    const atFirst = useRef(null);
    const parts = ["dags", dagId, "runs", runId, "forks", fork];
    const isLive = (data) => Boolean(data?.isRunning) || Date.now() < until;
    const sum = useJson(api(parts), { live: isLive });
    const summary = sum.data;
    if (summary && atFirst.current === null) atFirst.current = summary.failed > 0 ? "failed" : "all";
    const query = completed(given, { summary, fork, taskId, mapIndex });
    const show = shownOf(query, atFirst.current);
    const { kind, label, text, branch, chunk, start } = query;
    const filters = { show, kind, label, text, branch, chunk, start, limit: LIMIT };
    const list = useJson(summary ? api([...parts, "items"], filters) : null, { live: () => isLive(summary) });
    useEffect(() => {
      if (summary?.isRunning) list.reload();
    }, [summary?.isRunning]);
    const changed = (time = Date.now() + AFTER_CHANGE_MILLISECONDS) => {
      setUntil(time);
      sum.reload();
      list.reload();
    };
    return { sum, summary, list, query, show, put, changed, isLive: isLive(summary) };
  }

  /** Return where in the rows the page is, and functions that go elsewhere. */
  function useSelection({ rows, query, put }) {
    const [selected, setSelected] = useState(null);
    const { item, branch } = query;
    const isOpen = (row) => String(row.index) === item && (!branch || row.branch === branch);
    const here = rows.findIndex((row) => (item === undefined ? keyOfRow(row) === selected : isOpen(row)));
    const open = (row) => {
      if (row.index === null) return;
      setSelected(keyOfRow(row));
      put({ item: row.index }, { push: item === undefined });
    };
    const step = (by, shown) => {
      const row = here >= 0 ? rows[here + by] : undefined;
      const neighbor = by < 0 ? shown?.previous : shown?.next;
      if (row) open(row);
      else if (neighbor !== null && neighbor !== undefined) put({ item: neighbor });
    };
    const move = (by) => {
      const end = by > 0 ? 0 : rows.length - 1;
      const row = rows[here < 0 ? end : here + by];
      if (!row) return;
      if (item !== undefined) open(row);
      else setSelected(keyOfRow(row));
    };
    return { here, key: here >= 0 ? keyOfRow(rows[here]) : undefined, open, step, move };
  }

  function Top({ dagId, runId, onHelp }) {
    return html`<nav className="allma-back">
      <${Link} to=${{ dagId, runId }}>‹ Flow run<//>
      <${Button} kind="ghost" className="allma-button ghost small" aria-label="Keys" onClick=${onHelp}>?<//>
    </nav>`;
  }

  function Body({ dagId, runId, fork, items, selection, search, onClose }) {
    const { summary, list, query, show, put, changed } = items;
    const steps = useRef([]);
    const page = list.data;
    const isOpen = query.item !== undefined;
    return html`
      <${ForkCard} dagId=${dagId} runId=${runId} summary=${summary} put=${put} kind=${query.kind}
        onChanged=${changed} level="h1" />
      <${Filters} query=${query} summary=${summary} show=${show} put=${put} search=${search} page=${page} />
      ${list.error && html`<${Problem} error=${list.error} onRetry=${list.reload} />`}
      ${page?.note && page.rows.length > 0 && html`<p className="allma-note">${oneLine(page.note)}</p>`}
      <div className=${isOpen ? "allma-split open" : "allma-split"}>
        <${ItemList} list=${list} query=${query} show=${show} summary=${summary} selected=${selection.key}
          onRow=${selection.open} put=${put} steps=${steps} />
        ${isOpen && html`<${Item} key=${query.item} dagId=${dagId} runId=${runId} fork=${fork}
          index=${query.item} branch=${query.branch} isRunning=${items.isLive} put=${put} onClose=${onClose}
          onStep=${selection.step} onChanged=${changed} />`}
      </div>`;
  }

  function ForkItems(props) {
    const { dagId, runId, fork } = props;
    const [isHelp, setHelp] = useState(false);
    const search = useRef(null);
    const root = useRef(null);
    const items = useItems(props);
    const { sum, summary, list, query, put } = items;
    const rows = list.data?.rows ?? [];
    const selection = useSelection({ rows, query, put });
    const { here, move, open } = selection;
    const close = () => put({ item: null });
    useEffect(() => {
      root.current?.querySelector("tr[aria-current=true]")?.scrollIntoView({ block: "nearest" });
    }, [here, list.data]);
    useKeys({
      j: () => move(1),
      ArrowDown: () => move(1),
      k: () => move(-1),
      ArrowUp: () => move(-1),
      Enter: () => here >= 0 && open(rows[here]),
      Escape: () => query.item !== undefined && close(),
      "/": () => search.current?.focus(),
      g: () => root.current?.querySelector(".allma-goto input")?.focus(),
      "?": () => setHelp(true),
    });
    const top = html`<${Top} dagId=${dagId} runId=${runId} onHelp=${() => setHelp(true)} />`;
    const problem = sum.error && html`<${Problem} error=${sum.error} onRetry=${sum.reload} />`;
    if (!summary) return html`<${Page}>${top}${problem || html`<${Loading} lines=${8} />`}<//>`;
    return html`<${Page}>
      <div ref=${root}>
        ${top}
        ${problem}
        <${Body} dagId=${dagId} runId=${runId} fork=${fork} items=${items} selection=${selection}
          search=${search} onClose=${close} />
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
    const [fork] = forks.sort((one, other) => other.length - one.length); // of nested names the whole one
    if (fork) return html`<${ForkItems} ...${props} fork=${fork} />`;
    return html`<${Page}><${Empty} title="This task is not part of a fork">
      <${Link} to=${{ dagId, runId }}>Open the flow run<//>${" for its input, output and calls."}
    <//><//>`;
  }

  return function Items(props) {
    const [query] = kit.useQuery();
    const { fork } = query;
    return fork
      ? html`<${ForkItems} key=${fork} ...${props} fork=${fork} />`
      : html`<${TaskItems} ...${props} />`;
  };
};
