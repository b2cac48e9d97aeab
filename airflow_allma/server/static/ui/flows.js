// All flows: their state, schedule and last runs.

const PAGE = 50;
const STATES = ["active", "paused", "broken", "unpublished"];
const WAIT_MILLISECONDS = 300; // after the last key, before a search is sent

export default (kit) => {
  const { html, useEffect, useRef, useState, api, count, number, oneLine, moment, duration, paletteOf, Badge, Button, Empty, Link, Loading, Page, Problem, Table, Tabs, useJson } = kit;

  function Runs({ dagId, runs }) {
    if (!runs?.length) return html`<span className="muted">no runs</span>`;
    // Oldest first, as in Airflow's list of Dags
    return html`<span className="allma-runs">${[...runs].reverse().map((run) => {
      const seconds = run.start && run.end ? run.end - run.start : null;
      const text = [`${oneLine(run.runId)}: ${run.state}`, moment(run.start), duration(seconds)].filter(Boolean).join(", ");
      return html`<${Link} key=${run.runId} to=${{ dagId, runId: run.runId }} className=${`allma-run ${paletteOf(run.state)}`} title=${text} aria-label=${text}><span aria-hidden="true"></span><//>`;
    })}</span>`;
  }

  function Name({ flow }) {
    const name = oneLine(flow.name || flow.flowId);
    const version = flow.version ? `version ${flow.version}` : "";
    const id = flow.name && flow.name !== flow.flowId ? oneLine(flow.flowId) : "";
    return html`<div className="allma-name">
      ${flow.dagId && ["active", "paused"].includes(flow.state) ? html`<${Link} to=${{ dagId: flow.dagId }}>${name}<//>` : html`<strong>${name}</strong>`}
      <small className="muted">${[id, version].filter(Boolean).join(" · ")}</small>
      ${flow.description && html`<small className="muted cut" title=${oneLine(flow.description)}>${oneLine(flow.description)}</small>`}
      ${flow.problem && html`<small className="error problem" title=${oneLine(flow.problem)}>${oneLine(flow.problem)}</small>`}
    </div>`;
  }

  const columns = [
    { key: "name", title: "Flow", className: "wide", cell: (flow) => html`<${Name} flow=${flow} />` },
    { key: "state", title: "State", className: "nowrap", cell: (flow) => html`<${Badge} state=${flow.state} />` },
    { key: "schedule", title: "Schedule", cell: (flow) => (flow.schedule ? oneLine(flow.schedule) : html`<span className="muted">none</span>`) },
    { key: "runs", title: "Last runs", className: "nowrap", cell: (flow) => html`<${Runs} dagId=${flow.dagId} runs=${flow.lastRuns} />` },
    { key: "tags", title: "Tags", cell: (flow) => html`<span className="allma-tags">${(flow.tags ?? []).map((tag) => html`<${Badge} key=${tag} color="plain">${oneLine(tag)}<//>`)}</span>` },
  ];

  function Search({ value, onSearch }) {
    const [text, setText] = useState(value);
    const timer = useRef();
    useEffect(() => () => clearTimeout(timer.current), []);
    const change = (event) => {
      const next = event.currentTarget.value;
      setText(next);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => onSearch(next.trim()), WAIT_MILLISECONDS);
    };
    return html`<form role="search" className="allma-find" onSubmit=${(event) => { event.preventDefault(); onSearch(text.trim()); }}>
      <input type="search" placeholder="Search flows" aria-label="Search flows by name, id or tag" value=${text} onInput=${change} onChange=${change} autoComplete="off" />
    </form>`;
  }

  return function Flows() {
    const [query, put] = kit.useQuery();
    const state = STATES.includes(query.state) ? query.state : undefined;
    const offset = Math.max(0, Number.parseInt(query.offset ?? "0", 10) || 0);
    const { data, error, isLoading, reload } = useJson(api(["flows"], { q: query.q, state, limit: PAGE, offset: offset || undefined }), { live: (page) => Boolean(page?.flows.some((flow) => flow.lastRuns?.some((run) => ["running", "queued"].includes(run.state)))) });
    const counts = data?.counts ?? {};
    const all = STATES.reduce((sum, one) => sum + (counts[one] ?? 0), 0);
    const tabs = [{ key: "", title: "All", count: data ? all : undefined }, ...STATES.map((one) => ({ key: one, title: one[0].toUpperCase() + one.slice(1), count: data ? (counts[one] ?? 0) : undefined }))];
    const flows = data?.flows ?? [];
    const last = offset + flows.length;
    return html`<${Page} title="Flows" note=${data && count(data.total, "flow")}>
      <div className="allma-tools">
        <${Search} value=${query.q ?? ""} onSearch=${(q) => put({ q, offset: null })} />
        <${Tabs} label="State" tabs=${tabs} selected=${state ?? ""} onSelect=${(key) => put({ state: key, offset: null })} />
      </div>
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${!data && isLoading && html`<${Loading} lines=${8} />`}
      ${data && !flows.length && (query.q || state || offset
        ? html`<${Empty} title="No flow matches">Change the search or the state.<//>`
        : html`<${Empty} title="No flows yet">Put flow files and the loader that <code>airflow-allma init</code> writes into the dags folder.<//>`)}
      ${flows.length > 0 && html`<${Table} label="Flows" columns=${columns} rows=${flows} keyOf=${(flow) => flow.dagId ?? flow.flowId} />`}
      ${data && data.total > PAGE && html`<nav className="allma-pages" aria-label="Pages">
        <span className="muted">${flows.length ? `${number(offset + 1)} to ${number(last)} of ${number(data.total)}` : ""}</span>
        <${Button} disabled=${offset === 0} onClick=${() => put({ offset: Math.max(0, offset - PAGE) || null })}>Previous<//>
        <${Button} disabled=${last >= data.total} onClick=${() => put({ offset: offset + PAGE })}>Next<//>
      </nav>`}
    <//>`;
  };
};
