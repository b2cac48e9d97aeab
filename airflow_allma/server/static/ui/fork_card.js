// What a fork did or does: counts, progress, failures by kind, and what can be done about them.

import makeRerun from "./rerun.js";

const AFTER_RERUN_MILLISECONDS = 60_000;
const CHUNK_STATES = [
  ["success", "succeeded"],
  ["failed", "failed"],
  ["running", "running"],
  ["queued", "queued"],
  ["waiting", "waiting"],
];

function stateOf(summary) {
  if (summary.noItems) return summary.noItems.state;
  if (summary.isRunning) return "running";
  if (summary.failed > 0) return "failed";
  return summary.ended > 0 || summary.items === 0 ? "success" : "none";
}

function secondsOf({ start, end, isRunning }) {
  if (!start) return null;
  if (isRunning) return Date.now() / 1000 - start;
  return end ? end - start : null;
}

/** Return a handler of clicks in a row that opens something itself. */
function only(action) {
  return (event) => {
    event.stopPropagation();
    action();
  };
}

/** Return the component ForkCard. */
export default (kit) => {
  const { html, useState, api, count, duration, number, oneLine, rough } = kit;
  const { Badge, Bar, Button, Facts, Link, Problem, RequestError, Table, Time } = kit;
  const RerunDialog = makeRerun(kit);

  function chunksText(chunks) {
    const known = CHUNK_STATES.filter(([state]) => chunks[state] > 0);
    const parts = known.map(([state, name]) => `${number(chunks[state])} ${name}`);
    return `${number(chunks.total)}${parts.length ? ` (${parts.join(", ")})` : ""}`;
  }

  function CountFacts({ summary }) {
    const { items, ended, failed, skipped, running, waiting, secondsLeft, isRunning, perSecond } = summary;
    const isTimed = secondsLeft !== null && secondsLeft !== undefined;
    const share = items ? Math.floor((100 * ended) / items) : null;
    return html`<${Facts} facts=${[
      ["Items", items === null ? "not known yet" : number(items)],
      ["Succeeded", number(summary.succeeded)],
      ["Failed", html`<span className=${failed ? "red" : ""}>${number(failed)}</span>`],
      ["Skipped", skipped > 0 && number(skipped)],
      ["Running", running > 0 && number(running)],
      ["Waiting", waiting > 0 && number(waiting)],
      ["Progress", isRunning && share !== null && `${share} %`],
      ["Items per second", perSecond ? rough(perSecond) : null],
      ["Time left", isRunning && isTimed && ended < items && `about ${duration(secondsLeft)}`],
      ["Start", summary.start && html`<${Time} value=${summary.start} />`],
      ["Duration", duration(secondsOf(summary))],
      ["Chunks", summary.chunks && chunksText(summary.chunks)],
    ]} />`;
  }

  function Counts({ summary }) {
    const parts = [
      { state: "success", value: summary.succeeded },
      { state: "failed", value: summary.failed },
      { state: "skipped", value: summary.skipped },
      { state: "running", value: summary.running },
      { state: "deferred", value: summary.waiting },
    ];
    const ended = `${number(summary.ended)} of ${number(summary.items)} items have ended`;
    return html`<div className="allma-progress">
      <${CountFacts} summary=${summary} />
      <${Bar} label=${`${ended}, ${number(summary.failed)} failed`} parts=${parts} total=${summary.items} />
    </div>`;
  }

  function KindName({ kind, isChosen, onKind }) {
    return html`<button type="button" className="allma-button link" aria-pressed=${isChosen}
      onClick=${only(() => onKind(kind.kind))}>${oneLine(kind.errorName ?? "Other failures")}</button>`;
  }

  function FirstItem({ kind, goTo }) {
    if (kind.first === null || kind.first === undefined) return "";
    return html`<${Link} to=${goTo({ item: kind.first })}>${number(kind.first)}<//>`;
  }

  function RerunKind({ kind, onRerun }) {
    const label = `Rerun ${count(kind.count, "failure")} of ${kind.errorName}`;
    return html`<${Button} className="allma-button outline small" aria-label=${label}
      onClick=${only(() => onRerun(kind.kind))}>Rerun<//>`;
  }

  function kindColumns({ chosen, onKind, onRerun, goTo }) {
    const message = (kind) => oneLine(kind.message ?? "");
    return [
      { key: "count", title: "Items", className: "index", cell: (kind) => number(kind.count) },
      {
        key: "error",
        title: "Failure",
        className: "nowrap",
        cell: (kind) => html`<${KindName} kind=${kind} isChosen=${chosen === kind.kind} onKind=${onKind} />`,
      },
      { key: "step", title: "Step", className: "nowrap", cell: (kind) => oneLine(kind.step ?? "") },
      { key: "status", title: "HTTP", className: "index", cell: (kind) => kind.status ?? "" },
      {
        key: "message",
        title: "Message",
        className: "text",
        cell: (kind) => html`<span title=${message(kind)}>${message(kind)}</span>`,
      },
      {
        key: "first",
        title: "First item",
        className: "number",
        cell: (kind) => html`<${FirstItem} kind=${kind} goTo=${goTo} />`,
      },
      {
        key: "rerun",
        title: html`<span className="hidden">Rerun</span>`,
        className: "number",
        cell: (kind) => html`<${RerunKind} kind=${kind} onRerun=${onRerun} />`,
      },
    ];
  }

  function Kinds({ summary, chosen, onKind, onRerun, goTo, address }) {
    return html`<section className="allma-kinds" aria-label="Failures by kind">
      <div className="allma-value-head"><h3>Failures by kind</h3>
        <a className="allma-button ghost small" href=${address("failed")} download>Download failures</a>
      </div>
      <${Table} label="Failures by kind" columns=${kindColumns({ chosen, onKind, onRerun, goTo })}
        rows=${summary.kinds} keyOf=${(kind) => kind.kind} selected=${chosen}
        onRow=${(kind) => onKind(kind.kind)} />
    </section>`;
  }

  function Downloads({ summary, address }) {
    const shows = [
      ["failed", "Failed items", summary.failed],
      ["succeeded", "Succeeded items", summary.succeeded],
      ["all", "All items", summary.ended],
    ];
    const close = (event) => event.currentTarget.closest("details").removeAttribute("open");
    const linkOf = ([show, name, items]) => html`<a key=${show} href=${address(show)} download
      onClick=${close}>${name} <span className="muted">${count(items, "line")}</span></a>`;
    return html`<details className="allma-menu"><summary className="allma-button outline">Download</summary>
      <div className="allma-menu-list">
        ${shows.map(linkOf)}
        <small className="muted">JSON Lines</small>
      </div>
    </details>`;
  }

  function GoTo({ goTo, put }) {
    const navigate = kit.useNavigate();
    const [problem, setProblem] = useState(null);
    const go = (event) => {
      event.preventDefault();
      const item = event.currentTarget.elements.index.value.replace(/[\s,._']/g, "");
      const isNumber = /^[0-9]+$/.test(item);
      setProblem(isNumber ? null : "Enter a number");
      if (!isNumber) return;
      if (put) put({ item }, { push: true });
      else navigate(kit.placeOf(goTo({ item })));
    };
    return html`<form className="allma-goto" onSubmit=${go}>
      <input name="index" inputMode="numeric" placeholder="Go to item"
        aria-label="Go to the item with this index" autoComplete="off" aria-invalid=${Boolean(problem)} />
      ${problem && html`<small className="error" role="alert">${problem}</small>`}
    </form>`;
  }

  function whereOf({ name, fork, mode, chunks }) {
    const id = name && name !== fork && `fork ${oneLine(fork)}`;
    const inChunks = chunks && `in ${count(chunks.total, "chunk")}`;
    return [id, mode === "memory" ? "one task instance per item" : inChunks].filter(Boolean).join(", ");
  }

  function Head({ summary, name, level, goTo, put, address, onRerun }) {
    const { failed, chunks } = summary;
    const rerun = failed ? `Rerun ${number(failed)} failed` : "Rerun failed";
    return html`<div className="allma-head">
      <${level}>${put ? name : html`<${Link} to=${goTo({})}>${name}<//>`}<//>
      <${Badge} state=${stateOf(summary)} /><span className="muted">${whereOf(summary)}</span>
      <div className="allma-actions">
        <${GoTo} goTo=${goTo} put=${put} />
        <${Downloads} summary=${summary} address=${address} />
        <${Button} kind="primary" disabled=${!failed && !chunks?.failed} onClick=${onRerun}>${rerun}<//>
      </div>
    </div>`;
  }

  /** One fork. `summary`: a ForkSummary. On the page of its items `put` and `kind` are given. */
  return function ForkCard({ dagId, runId, summary, onChanged, put, kind, level = "h2" }) {
    const [rerun, setRerun] = useState(null);
    const [done, setDone] = useState(null);
    const navigate = kit.useNavigate();
    const { fork, noItems, problem } = summary;
    const address = (show) => api(["dags", dagId, "runs", runId, "forks", fork, "download"], { show });
    const goTo = (query) => ({ dagId, runId, query: { fork, ...query } });
    const onKind = (chosen) => {
      const next = chosen === kind ? null : chosen;
      const patch = { show: "failed", kind: next, start: null, item: null, label: null, text: null };
      if (put) put(patch, { push: true });
      else navigate(kit.placeOf(goTo({ show: "failed", kind: chosen })));
    };
    const accepted = (sentence) => {
      setRerun(null);
      setDone(sentence);
      onChanged?.(Date.now() + AFTER_RERUN_MILLISECONDS);
    };
    const name = oneLine(summary.name ?? fork);
    return html`<section className="allma-card" aria-label=${name}>
      <${Head} summary=${summary} name=${name} level=${level} goTo=${goTo} put=${put} address=${address}
        onRerun=${() => setRerun({ what: "failed" })} />
      ${done && html`<p className="allma-note done" role="status">${done}</p>`}
      ${problem && html`<${Problem} error=${new RequestError(0, problem)} />`}
      ${noItems
        ? html`<p className="allma-note">${oneLine(noItems.reason)}</p>`
        : html`<${Counts} summary=${summary} />`}
      ${summary.kinds?.length > 0 && html`<${Kinds} summary=${summary} chosen=${kind} onKind=${onKind}
        goTo=${goTo} address=${address} onRerun=${(chosen) => setRerun({ what: "kind", kind: chosen })} />`}
      ${rerun && html`<${RerunDialog} dagId=${dagId} runId=${runId} fork=${fork} ...${rerun}
        onClose=${() => setRerun(null)} onDone=${accepted} />`}
    </section>`;
  };
};
