// A page of the items of a fork: what filters them, the table, and the pages before and after it.

const COLUMN_ORDER = ["index", "label", "status", "step", "error", "seconds", "chunk"];

/** How many items a page has. */
export const LIMIT = 50;

/** Return what identifies a row: items of a chunk after one that goes on have no index yet. */
export function keyOfRow(row) {
  return `${row.index ?? `${row.chunk}:${row.item}`}/${row.branch ?? ""}`;
}

/** Return the components Filters and ItemList. */
export function makeItemList(kit) {
  const { html, useEffect, useState, count, duration, number, oneLine } = kit;
  const { Badge, Button, Empty, Loading, Table, Tabs } = kit;

  function Index({ row }) {
    if (row.index === null) return html`<span className="muted">not known</span>`;
    return html`<button type="button" className="allma-button link">${number(row.index)}</button>`;
  }

  function ErrorText({ row }) {
    const message = oneLine(row.message ?? "");
    return html`<span title=${message}><b>${oneLine(row.errorName)}</b> ${message}</span>`;
  }

  const COLUMNS = {
    index: { title: "Index", className: "index", cell: (row) => html`<${Index} row=${row} />` },
    label: {
      title: "Label",
      className: "label",
      cell: ({ label }) => html`<span title=${oneLine(label ?? "")}>${oneLine(label ?? "")}</span>`,
    },
    status: { title: "Status", className: "nowrap", cell: (row) => html`<${Badge} state=${row.status} />` },
    step: { title: "Step", className: "nowrap spare", cell: (row) => oneLine(row.step ?? "") },
    error: {
      title: "Error",
      className: "text",
      cell: (row) => row.errorName && html`<${ErrorText} row=${row} />`,
    },
    seconds: { title: "Duration", className: "number spare", cell: (row) => duration(row.seconds) },
    chunk: {
      title: "Chunk",
      className: "number spare",
      cell: (row) => ((row.chunk ?? null) === null ? "" : number(row.chunk)),
    },
  };

  function Search({ name, label, value, put, field }) {
    const [typed, setTyped] = useState(value ?? "");
    useEffect(() => setTyped(value ?? ""), [value]);
    const search = (event) => {
      event.preventDefault();
      put({ [name]: typed, start: null, item: null });
    };
    const onInput = (event) => {
      setTyped(event.target.value);
      if (!event.target.value && value) put({ [name]: null, start: null });
    };
    return html`<form className="allma-search" onSubmit=${search} role="search">
      <input ref=${field} type="search" placeholder=${label} aria-label=${label} value=${typed}
        onInput=${onInput} />
    </form>`;
  }

  function Branches({ branches, selected, put }) {
    const select = (event) => put({ branch: event.target.value, start: null });
    return html`<select aria-label="Branch" value=${selected ?? ""} onChange=${select}>
      <option value="">All branches</option>
      ${branches.map((name) => html`<option key=${name} value=${name}>${oneLine(name)}</option>`)}
    </select>`;
  }

  function Chip({ label, onClick, children }) {
    return html`<${Button} className="allma-button outline small chip" aria-label=${label} onClick=${onClick}>
      ${children} ✕
    <//>`;
  }

  function Found({ query, page }) {
    const isFiltered = query.label || query.text || query.kind || query.branch || query.chunk;
    const isKnown = page && page.total !== null && page.total !== undefined;
    const least = page?.isExact === false ? "at least " : "";
    return html`<span className="muted" role="status">
      ${isFiltered && isKnown && `${least}${count(page.total, "item")} found`}
    </span>`;
  }

  function Filters({ query, summary, show, put, search, page }) {
    const shows = [
      { key: "all", title: "All", count: summary.items },
      { key: "failed", title: "Failed", count: summary.failed },
      { key: "succeeded", title: "Succeeded", count: summary.succeeded },
    ];
    if (summary.isRunning || show === "running") {
      shows.push({ key: "running", title: "Running", count: summary.running });
    }
    const kind = summary.kinds?.find((one) => one.kind === query.kind);
    const kindName = oneLine(kind?.errorName ?? "one kind") + (kind?.step ? ` in ${oneLine(kind.step)}` : "");
    const select = (key) => put({ show: key, kind: null, start: null, item: null }, { push: true });
    return html`<div className="allma-filters">
      <${Tabs} label="Items shown" tabs=${shows} selected=${show} onSelect=${select} />
      <${Search} name="label" label="Search labels" value=${query.label} put=${put} field=${search} />
      <${Search} name="text" label="Search inputs and results" value=${query.text} put=${put} />
      ${summary.branches?.length > 1 && html`<${Branches} branches=${summary.branches}
        selected=${query.branch} put=${put} />`}
      ${query.kind && html`<${Chip} label="Show failures of every kind"
        onClick=${() => put({ kind: null, start: null })}>${kindName}<//>`}
      ${query.chunk && html`<${Chip} label="Show the items of every chunk"
        onClick=${() => put({ chunk: "all", start: null })}>Chunk ${query.chunk}<//>`}
      <${Found} query=${query} page=${page} />
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
    const place = rows.length > 0 && `${isIndex ? "Items" : "Hits"} ${number(from)} to ${number(to)}`;
    return html`<div className="allma-pager">
      <${Button} disabled=${!start} onClick=${back}>Previous<//>
      <span className="muted">${place}</span>
      <${Button} disabled=${next === null || next === undefined} onClick=${forward}>Next<//>
    </div>`;
  }

  function Nothing({ query, show, summary, page, put }) {
    const { next } = page;
    const note = oneLine(page.note ?? "");
    // The server looks at a bounded number of items for each page.
    if (next !== null && next !== undefined) {
      return html`<${Empty} title="Nothing found yet">
        ${note} <${Button} onClick=${() => put({ start: next })}>Continue the search<//>
      <//>`;
    }
    if (summary.items === 0) return html`<${Empty} title="This fork had no items" />`;
    if (query.label || query.text) {
      return html`<${Empty} title="No item matches">${note || "Change or clear the search."}<//>`;
    }
    if (show === "failed") {
      return html`<${Empty} title="No item failed">${summary.isRunning ? "So far." : ""}<//>`;
    }
    return html`<${Empty} title="No items">${note}<//>`;
  }

  /** `list`: of useJson; `selected`: the key of a row; `steps`: a ref of a list, the pages before this. */
  function ItemList({ list, query, show, summary, selected, onRow, put, steps }) {
    const { data: page, error, isLoading } = list;
    if (!page) {
      return html`<div className="allma-list" aria-busy=${isLoading}>
        ${!error && html`<${Loading} lines=${8} />`}
      </div>`;
    }
    const { rows } = page;
    const known = {
      chunk: summary.mode === "chunks",
      seconds: rows.some((row) => typeof row.seconds === "number"),
    };
    const names = COLUMN_ORDER.filter((name) => known[name] ?? true);
    const nothing = html`<${Nothing} query=${query} show=${show} summary=${summary} page=${page}
      put=${put} />`;
    return html`<div className="allma-list" aria-busy=${isLoading}>
      <${Table} label="Items" columns=${names.map((name) => ({ key: name, ...COLUMNS[name] }))} rows=${rows}
        keyOf=${keyOfRow} onRow=${onRow} selected=${selected} empty=${nothing} />
      <${Pager} query=${query} show=${show} rows=${rows} next=${page.next} put=${put} steps=${steps} />
    </div>`;
  }

  return { Filters, ItemList };
}
