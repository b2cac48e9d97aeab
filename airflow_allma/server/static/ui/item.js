// One item: its input, its steps, and its output or error.

import makeRerun from "./rerun.js";
import makeTrace from "./trace.js";

export default (kit) => {
  const { html, useState, api, count, number, oneLine, visible, Badge, Button, Copy, Facts, Json, Link, Loading, Problem, Tabs, useJson } = kit;
  const RerunDialog = makeRerun(kit);
  const Trace = makeTrace(kit);

  function Value({ title, value, isCut, address }) {
    if (value === undefined) return null;
    return html`<section className="allma-value">
      <div className="allma-value-head"><h3>${title}</h3>
        ${!isCut && html`<${Copy} className="allma-button ghost small" text=${JSON.stringify(value, null, 2)} label="Copy" aria-label=${`Copy the ${title.toLowerCase()}`} />`}
        <a className="allma-button ghost small" href=${address} download aria-label=${`Download the ${title.toLowerCase()}`}>Download</a>
      </div>
      ${isCut && html`<p className="muted">Only the beginning is shown: download the whole value.</p>`}
      <${Json} label=${title} value=${value} />
    </section>`;
  }

  function Line({ line }) {
    if (!line) return null;
    const place = [line.number !== null && line.number !== undefined && `line ${number(line.number)}`, `byte ${number(line.byte)}`].filter(Boolean).join(", ");
    return html`<span><code>${oneLine(line.pointer)}</code> ${place}</span>`;
  }

  function Links({ item }) {
    const { task, chunk } = item;
    return html`<${Facts} facts=${[
      ["Label", oneLine(item.label ?? "")],
      ["Tries", item.tries],
      ["Chunk", chunk && html`<span>${task?.uiUrl ? html`<${Link} to=${task.uiUrl}>${oneLine(chunk.label ?? `chunk ${chunk.number}`)}<//>` : oneLine(chunk.label ?? chunk.number)}</span>`],
      ["Task", task && !chunk && (task.uiUrl ? html`<${Link} to=${task.uiUrl}>${oneLine(task.taskId)}${task.mapIndex >= 0 ? ` [${task.mapIndex}]` : ""}<//>` : oneLine(task.taskId))],
      ["Log", task?.logUrl && html`<${Link} to=${task.logUrl}>Open the log<//>`],
      ["Line", item.line && html`<${Line} line=${item.line} />`],
    ]} />`;
  }

  /** `index`: of the item; `put`: changes the query; `onStep(-1 or 1)` goes to a neighbor. */
  return function Item({ dagId, runId, fork, index, branch, isRunning, put, onClose, onStep, onChanged }) {
    const parts = ["dags", dagId, "runs", runId, "forks", fork, "items", String(index)];
    const { data, error, isLoading, reload } = useJson(api(parts, { branch }), { live: (item) => Boolean(isRunning && item && !["ok", "failed", "skipped"].includes(item.status)) });
    const [isRerun, setRerun] = useState(false);
    const [done, setDone] = useState(null);
    const item = data?.index === Number(index) ? data : undefined;
    const head = html`<div className="allma-head">
      <h2>Item ${number(Number(index))}</h2>${item && html`<${Badge} state=${item.status} />`}
      <div className="allma-actions">
        <${Button} className="allma-button outline small" aria-label="Previous item" disabled=${item ? item.previous === null : Number(index) <= 0} onClick=${() => onStep(-1, item)}>‹<//>
        <${Button} className="allma-button outline small" aria-label="Next item" disabled=${item ? item.next === null : false} onClick=${() => onStep(1, item)}>›<//>
        <${Button} className="allma-button outline small" disabled=${!item} onClick=${() => setRerun(true)}>Rerun<//>
        <${Button} className="allma-button ghost small" aria-label="Close the item" onClick=${onClose}>✕<//>
      </div>
    </div>`;
    const value = (part) => api([...parts, "value"], { part, branch: item.branch });
    return html`<aside className="allma-item" aria-label=${`Item ${index}`} aria-busy=${isLoading}>
      ${head}
      ${done && html`<p className="allma-note done" role="status">${done}</p>`}
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${!item && !error && html`<${Loading} lines=${8} />`}
      ${item && html`<div>
        ${item.branches?.length > 1 && html`<${Tabs} label="Branch" selected=${item.branch} onSelect=${(name) => put({ branch: name })} tabs=${item.branches.map((one) => ({ key: one.branch, title: html`<span>${oneLine(one.branch)} <${Badge} state=${one.status} /></span>` }))} />`}
        ${item.error && html`<div className="allma-problem"><div><strong>${oneLine(item.error.errorName)}</strong><p>${visible(item.error.errorMessage)}</p></div></div>`}
        ${item.note && html`<p className="allma-note">${visible(item.note)}</p>`}
        <${Links} item=${item} />
        <section className="allma-value"><h3>Steps</h3>
          ${item.trace?.length ? html`<${Trace} steps=${item.trace} omitted=${item.omittedSteps ?? 0} label=${`Steps of item ${index}`} note=${item.traceNote} />` : html`<p className="muted">${visible(item.traceNote ?? "The steps of this item were not stored.")}</p>`}
        </section>
        <${Value} title="Input" value=${item.input} isCut=${item.inputCut} address=${value("input")} />
        <${Value} title="Output" value=${item.output} isCut=${item.outputCut} address=${value("output")} />
        <${Value} title="Error" value=${item.error} isCut=${item.errorCut} address=${value("error")} />
      </div>`}
      ${isRerun && html`<${RerunDialog} dagId=${dagId} runId=${runId} fork=${fork} what="item" index=${index} onClose=${() => setRerun(false)} onDone=${(sentence) => { setRerun(false); setDone(sentence); onChanged(); }} />`}
    </aside>`;
  };
};
