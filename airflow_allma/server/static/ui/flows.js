// All flows: their state, schedule and last runs.

const PAGE = 50;
const STATES = ["active", "paused", "broken", "unpublished"];
const UNENDED = ["running", "queued"];
const WAIT_MILLISECONDS = 300; // after the last key, before a search is sent

function isLive(page) {
  const isRunning = (flow) => flow.lastRuns?.some((run) => UNENDED.includes(run.state));
  return Boolean(page?.flows.some(isRunning));
}

function tabsOf(counts) {
  const all = counts && STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  const states = STATES.map((state) => ({
    key: state,
    title: state[0].toUpperCase() + state.slice(1),
    count: counts && (counts[state] ?? 0),
  }));
  return [{ key: "", title: "All", count: all }, ...states];
}

/** Return the page. */
export default (kit) => {
  const { html, useEffect, useRef, useState, api, count, number, oneLine, moment, duration, paletteOf } = kit;
  const { Badge, Button, Empty, Link, Loading, Page, Problem, Table, Tabs, useJson } = kit;

  function Run({ dagId, run }) {
    const seconds = run.start && run.end ? run.end - run.start : null;
    const facts = [`${oneLine(run.runId)}: ${run.state}`, moment(run.start), duration(seconds)];
    const text = facts.filter(Boolean).join(", ");
    return html`<${Link} to=${{ dagId, runId: run.runId }} className=${`allma-run ${paletteOf(run.state)}`}
      title=${text} aria-label=${text}><span aria-hidden="true"></span><//>`;
  }

  function Runs({ dagId, runs }) {
    if (!runs?.length) return html`<span className="muted">no runs</span>`;
    const oldestFirst = [...runs].reverse(); // as in Airflow's list of Dags
    return html`<span className="allma-runs">
      ${oldestFirst.map((run) => html`<${Run} key=${run.runId} dagId=${dagId} run=${run} />`)}
    </span>`;
  }

  function Name({ flow }) {
    const name = oneLine(flow.name || flow.flowId);
    const version = flow.version ? `version ${flow.version}` : "";
    const id = flow.name && flow.name !== flow.flowId ? oneLine(flow.flowId) : "";
    const description = oneLine(flow.description);
    // An empty line is between one problem and the next.
    const texts = (flow.problem ?? "").split(/\n\s*\n/);
    const problems = texts.map((text) => oneLine(text.trim())).filter(Boolean);
    const hasPage = flow.dagId && ["active", "paused"].includes(flow.state);
    return html`<div className="allma-name">
      ${hasPage ? html`<${Link} to=${{ dagId: flow.dagId }}>${name}<//>` : html`<strong>${name}</strong>`}
      <small className="muted">${[id, version].filter(Boolean).join(" · ")}</small>
      ${description && html`<small className="muted cut" title=${description}>${description}</small>`}
      ${problems.map((text, index) => html`<small key=${index} className="error problem"
        title=${text}>${text}</small>`)}
    </div>`;
  }

  function Schedule({ schedule }) {
    return schedule ? oneLine(schedule) : html`<span className="muted">none</span>`;
  }

  function Tags({ tags }) {
    return html`<span className="allma-tags">
      ${tags.map((tag) => html`<${Badge} key=${tag} color="plain">${oneLine(tag)}<//>`)}
    </span>`;
  }

  const columns = [
    { key: "name", title: "Flow", className: "wide", cell: (flow) => html`<${Name} flow=${flow} />` },
    {
      key: "state",
      title: "State",
      className: "nowrap",
      cell: (flow) => html`<${Badge} state=${flow.state} />`,
    },
    { key: "schedule", title: "Schedule", cell: (flow) => html`<${Schedule} schedule=${flow.schedule} />` },
    {
      key: "runs",
      title: "Last runs",
      className: "nowrap",
      cell: (flow) => html`<${Runs} dagId=${flow.dagId} runs=${flow.lastRuns} />`,
    },
    { key: "tags", title: "Tags", cell: (flow) => html`<${Tags} tags=${flow.tags ?? []} />` },
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
    const submit = (event) => {
      event.preventDefault();
      onSearch(text.trim());
    };
    return html`<form role="search" className="allma-find" onSubmit=${submit}>
      <input type="search" placeholder="Search flows" aria-label="Search flows by name, id or tag"
        value=${text} onInput=${change} onChange=${change} autoComplete="off" />
    </form>`;
  }

  function Pages({ offset, shown, total, put }) {
    const last = offset + shown;
    const place = shown ? `${number(offset + 1)} to ${number(last)} of ${number(total)}` : "";
    const goTo = (next) => put({ offset: next || null });
    return html`<nav className="allma-pages" aria-label="Pages">
      <span className="muted">${place}</span>
      <${Button} disabled=${offset === 0} onClick=${() => goTo(Math.max(0, offset - PAGE))}>Previous<//>
      <${Button} disabled=${last >= total} onClick=${() => goTo(offset + PAGE)}>Next<//>
    </nav>`;
  }

  function Nothing({ isFiltered }) {
    if (isFiltered) return html`<${Empty} title="No flow matches">Change the search or the state.<//>`;
    return html`<${Empty} title="No flows yet">
      Put flow files and the loader that <code>airflow-allma init</code> writes into the dags folder.
    <//>`;
  }

  return function Flows() {
    const [query, put] = kit.useQuery();
    const state = STATES.includes(query.state) ? query.state : undefined;
    const offset = Math.max(0, Number.parseInt(query.offset ?? "0", 10) || 0);
    const address = api(["flows"], { q: query.q, state, limit: PAGE, offset: offset || undefined });
    const { data, error, isLoading, reload } = useJson(address, { live: isLive });
    const flows = data?.flows ?? [];
    return html`<${Page} title="Flows" note=${data && count(data.total, "flow")}>
      <div className="allma-tools">
        <${Search} value=${query.q ?? ""} onSearch=${(text) => put({ q: text, offset: null })} />
        <${Tabs} label="State" tabs=${tabsOf(data && (data.counts ?? {}))} selected=${state ?? ""}
          onSelect=${(key) => put({ state: key, offset: null })} />
      </div>
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${!data && isLoading && html`<${Loading} lines=${8} />`}
      ${data && !flows.length && html`<${Nothing} isFiltered=${query.q || state || offset} />`}
      ${flows.length > 0 && html`<${Table} label="Flows" columns=${columns} rows=${flows}
        keyOf=${(flow) => flow.dagId ?? flow.flowId} />`}
      ${data && data.total > PAGE && html`<${Pages} offset=${offset} shown=${flows.length} total=${data.total}
        put=${put} />`}
    <//>`;
  };
};
