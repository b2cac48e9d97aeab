// What a fork did or does: counts, progress, failures by kind, and what can be done about them.

import makeRerun from "./rerun.js";

const AFTER_RERUN_MILLISECONDS = 60_000;

export default (kit) => {
  const { html, useState, api, count, duration, number, oneLine, rough, Badge, Bar, Button, Facts, Link, Problem, Table, Time } = kit;
  const RerunDialog = makeRerun(kit);

  function stateOf(summary) {
    if (summary.isRunning) return "running";
    if (summary.failed > 0) return "failed";
    return summary.ended > 0 || summary.items === 0 ? "success" : "none";
  }

  function chunksText(chunks) {
    const names = [["success", "succeeded"], ["failed", "failed"], ["running", "running"], ["queued", "queued"], ["waiting", "waiting"]];
    const parts = names.filter(([state]) => chunks[state] > 0).map(([state, name]) => `${number(chunks[state])} ${name}`);
    return `${number(chunks.total)}${parts.length ? ` (${parts.join(", ")})` : ""}`;
  }

  function secondsOf({ start, end, isRunning }) {
    if (!start) return null;
    return isRunning ? Date.now() / 1000 - start : end ? end - start : null;
  }

  function Counts({ summary }) {
    const left = summary.isRunning && summary.secondsLeft !== null && summary.secondsLeft !== undefined && summary.ended < summary.items;
    const parts = [
      { state: "success", value: summary.succeeded },
      { state: "failed", value: summary.failed },
      { state: "skipped", value: summary.skipped },
      { state: "running", value: summary.running },
      { state: "deferred", value: summary.waiting },
    ];
    const share = summary.items ? Math.floor((100 * summary.ended) / summary.items) : null;
    const label = `${number(summary.ended)} of ${number(summary.items)} items have ended, ${number(summary.failed)} failed`;
    return html`<div className="allma-progress">
      <${Facts} facts=${[
        ["Items", summary.items === null ? "not known yet" : number(summary.items)],
        ["Succeeded", number(summary.succeeded)],
        ["Failed", html`<span className=${summary.failed ? "red" : ""}>${number(summary.failed)}</span>`],
        ["Skipped", summary.skipped > 0 && number(summary.skipped)],
        ["Running", summary.running > 0 && number(summary.running)],
        ["Waiting", summary.waiting > 0 && number(summary.waiting)],
        ["Progress", summary.isRunning && share !== null && `${share} %`],
        ["Items per second", summary.perSecond ? rough(summary.perSecond) : null],
        ["Time left", left && `about ${duration(summary.secondsLeft)}`],
        ["Start", summary.start && html`<${Time} value=${summary.start} />`],
        ["Duration", duration(secondsOf(summary))],
        ["Chunks", summary.chunks && chunksText(summary.chunks)],
      ]} />
      <${Bar} label=${label} parts=${parts} total=${summary.items} />
    </div>`;
  }

  function Kinds({ summary, chosen, onKind, onRerun, goTo, address }) {
    const columns = [
      { key: "count", title: "Items", className: "index", cell: (kind) => number(kind.count) },
      { key: "error", title: "Failure", className: "nowrap", cell: (kind) => html`<button type="button" className="allma-button link" aria-pressed=${chosen === kind.kind} onClick=${(event) => { event.stopPropagation(); onKind(kind.kind); }}>${oneLine(kind.errorName ?? "Other failures")}</button>` },
      { key: "step", title: "Step", className: "nowrap", cell: (kind) => oneLine(kind.step ?? "") },
      { key: "status", title: "HTTP", className: "index", cell: (kind) => kind.status ?? "" },
      { key: "message", title: "Message", className: "text", cell: (kind) => html`<span title=${oneLine(kind.message ?? "")}>${oneLine(kind.message ?? "")}</span>` },
      { key: "first", title: "First item", className: "number", cell: (kind) => (kind.first === null || kind.first === undefined ? "" : html`<${Link} to=${goTo({ item: kind.first })}>${number(kind.first)}<//>`) },
      { key: "rerun", title: html`<span className="hidden">Rerun</span>`, className: "number", cell: (kind) => html`<${Button} className="allma-button outline small" aria-label=${`Rerun ${count(kind.count, "failure")} of ${kind.errorName}`} onClick=${(event) => { event.stopPropagation(); onRerun(kind.kind); }}>Rerun<//>` },
    ];
    return html`<section className="allma-kinds" aria-label="Failures by kind">
      <div className="allma-value-head"><h3>Failures by kind</h3>
        <a className="allma-button ghost small" href=${address("failed")} download>Download failures</a></div>
      <${Table} label="Failures by kind" columns=${columns} rows=${summary.kinds} keyOf=${(kind) => kind.kind} selected=${chosen} onRow=${(kind) => onKind(kind.kind)} />
    </section>`;
  }

  function Downloads({ summary, address }) {
    const shows = [["failed", "Failed items", summary.failed], ["succeeded", "Succeeded items", summary.succeeded], ["all", "All items", summary.ended]];
    return html`<details className="allma-menu"><summary className="allma-button outline">Download</summary>
      <div className="allma-menu-list">${shows.map(([show, name, items]) => html`<a key=${show} href=${address(show)} download onClick=${(event) => event.currentTarget.closest("details").removeAttribute("open")}>${name} <span className="muted">${count(items, "line")}</span></a>`)}
      <small className="muted">JSON Lines</small></div>
    </details>`;
  }

  function GoTo({ goTo, put }) {
    const navigate = kit.useNavigate();
    const go = (event) => {
      event.preventDefault();
      const item = event.currentTarget.elements.index.value.replace(/[^0-9]/g, "");
      if (!item) return;
      if (put) put({ item }, { push: true });
      else navigate(kit.placeOf(goTo({ item })));
    };
    return html`<form className="allma-goto" onSubmit=${go}><input name="index" inputMode="numeric" placeholder="Go to item" aria-label="Go to the item with this index" autoComplete="off" /></form>`;
  }

  /** One fork. `summary`: a ForkSummary. On the page of its items `put` and `kind` are given, and `onKind`. */
  return function ForkCard({ dagId, runId, summary, onChanged, put, kind, level = "h2" }) {
    const [rerun, setRerun] = useState(null);
    const [done, setDone] = useState(null);
    const navigate = kit.useNavigate();
    const parts = ["dags", dagId, "runs", runId, "forks", summary.fork];
    const address = (show) => api([...parts, "download"], { show });
    const goTo = (query) => ({ dagId, runId, query: { fork: summary.fork, ...query } });
    const onKind = (chosen) => {
      const patch = { show: "failed", kind: chosen === kind ? null : chosen, start: null, item: null, label: null, text: null };
      if (put) put(patch, { push: true });
      else navigate(kit.placeOf(goTo({ show: "failed", kind: chosen })));
    };
    const taken = (sentence) => {
      setRerun(null);
      setDone(sentence);
      onChanged?.(Date.now() + AFTER_RERUN_MILLISECONDS);
    };
    const name = oneLine(summary.name ?? summary.fork);
    const where = [summary.name && summary.name !== summary.fork && `fork ${oneLine(summary.fork)}`, summary.mode === "memory" ? "one task instance per item" : summary.chunks && `in ${count(summary.chunks.total, "chunk")}`].filter(Boolean).join(", ");
    return html`<section className="allma-card" aria-label=${name}>
      <div className="allma-head">
        <${level}>${put ? name : html`<${Link} to=${goTo({})}>${name}<//>`}<//>
        <${Badge} state=${stateOf(summary)} /><span className="muted">${where}</span>
        <div className="allma-actions">
          <${GoTo} goTo=${goTo} put=${put} />
          <${Downloads} summary=${summary} address=${address} />
          <${Button} kind="primary" disabled=${!summary.failed && !summary.chunks?.failed} onClick=${() => setRerun({ what: "failed" })}>${summary.failed ? `Rerun ${number(summary.failed)} failed` : "Rerun failed"}<//>
        </div>
      </div>
      ${done && html`<p className="allma-note done" role="status">${done}</p>`}
      ${summary.problem && html`<${Problem} error=${new kit.RequestError(0, summary.problem)} />`}
      <${Counts} summary=${summary} />
      ${summary.kinds?.length > 0 && html`<${Kinds} summary=${summary} chosen=${kind} onKind=${onKind} goTo=${goTo} address=${address} onRerun=${(chosen) => setRerun({ what: "kind", kind: chosen })} />`}
      ${rerun && html`<${RerunDialog} dagId=${dagId} runId=${runId} fork=${summary.fork} ...${rerun} onClose=${() => setRerun(null)} onDone=${taken} />`}
    </section>`;
  };
};
