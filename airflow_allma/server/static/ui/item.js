// One item: its input, its steps, and its output or error.

import makeRerun from "./rerun.js";
import makeTrace from "./trace.js";

const ENDED = ["ok", "failed", "skipped"];

/** Return the component Item. */
export default (kit) => {
  const { html, useState, api, number, oneLine, visible } = kit;
  const { Badge, Button, Copy, Facts, Json, Link, Loading, Problem, Tabs, useJson } = kit;
  const RerunDialog = makeRerun(kit);
  const Trace = makeTrace(kit);

  function Value({ title, value, isCut, address }) {
    if (value === undefined) return null;
    const name = title.toLowerCase();
    return html`<section className="allma-value">
      <div className="allma-value-head"><h3>${title}</h3>
        ${!isCut && html`<${Copy} className="allma-button ghost small" text=${JSON.stringify(value, null, 2)}
          label="Copy" aria-label=${`Copy the ${name}`} />`}
        <a className="allma-button ghost small" href=${address} download aria-label=${`Download the ${name}`}>
          Download
        </a>
      </div>
      ${isCut && html`<p className="muted">Only the beginning is shown: download the whole value.</p>`}
      <${Json} label=${title} value=${value} />
    </section>`;
  }

  function Line({ line }) {
    const units = [["line", line.number], ["row", line.row], ["byte", line.byte]];
    const known = units.filter(([, value]) => value !== null && value !== undefined);
    const place = known.map(([unit, value]) => `${unit} ${number(value)}`).join(", ");
    return html`<span><code>${oneLine(line.pointer)}</code> ${place}</span>`;
  }

  function TaskLink({ task, name }) {
    return task?.uiUrl ? html`<${Link} to=${task.uiUrl}>${name}<//>` : name;
  }

  function Links({ item }) {
    const { task, chunk, line } = item;
    const chunkName = chunk && oneLine(chunk.label ?? (task?.uiUrl ? `chunk ${chunk.number}` : chunk.number));
    const hasIndex = task?.uiUrl && task.mapIndex >= 0;
    const taskName = task && `${oneLine(task.taskId)}${hasIndex ? ` [${task.mapIndex}]` : ""}`;
    return html`<${Facts} facts=${[
      ["Label", oneLine(item.label ?? "")],
      ["Tries", item.tries],
      ["Chunk", chunk && html`<span><${TaskLink} task=${task} name=${chunkName} /></span>`],
      ["Task", !chunk && taskName && html`<${TaskLink} task=${task} name=${taskName} />`],
      ["Log", task?.logUrl && html`<${Link} to=${task.logUrl}>Open the log<//>`],
      ["Line", line && html`<${Line} line=${line} />`],
    ]} />`;
  }

  function Head({ item, index, onStep, onRerun, onClose }) {
    const isFirst = item ? item.previous === null : index <= 0;
    const isLast = item ? item.next === null : false;
    const small = "allma-button outline small";
    return html`<div className="allma-head">
      <h2>Item ${number(index)}</h2>${item && html`<${Badge} state=${item.status} />`}
      <div className="allma-actions">
        <${Button} className=${small} aria-label="Previous item" disabled=${isFirst}
          onClick=${() => onStep(-1, item)}>‹<//>
        <${Button} className=${small} aria-label="Next item" disabled=${isLast}
          onClick=${() => onStep(1, item)}>›<//>
        <${Button} className=${small} disabled=${!item} onClick=${onRerun}>Rerun<//>
        <${Button} className="allma-button ghost small" aria-label="Close the item" onClick=${onClose}>✕<//>
      </div>
    </div>`;
  }

  function Branches({ item, put }) {
    const tabs = item.branches.map(({ branch, status }) => ({
      key: branch,
      title: html`<span>${oneLine(branch)} <${Badge} state=${status} /></span>`,
    }));
    const select = (name) => put({ branch: name });
    return html`<${Tabs} label="Branch" selected=${item.branch} onSelect=${select} tabs=${tabs} />`;
  }

  function Steps({ item, index }) {
    const { trace, omittedSteps, traceNote } = item;
    const note = visible(traceNote ?? "The steps of this item were not stored.");
    return html`<section className="allma-value"><h3>Steps</h3>
      ${trace?.length
        ? html`<${Trace} steps=${trace} omitted=${omittedSteps ?? 0} label=${`Steps of item ${index}`}
            note=${traceNote} />`
        : html`<p className="muted">${note}</p>`}
    </section>`;
  }

  function Failure({ error }) {
    return html`<div className="allma-problem"><div>
      <strong>${oneLine(error.errorName)}</strong><p>${visible(error.errorMessage)}</p>
    </div></div>`;
  }

  function Body({ item, index, parts, put }) {
    const address = (part) => api([...parts, "value"], { part, branch: item.branch });
    return html`<div>
      ${item.branches?.length > 1 && html`<${Branches} item=${item} put=${put} />`}
      ${item.error && html`<${Failure} error=${item.error} />`}
      ${item.note && html`<p className="allma-note">${visible(item.note)}</p>`}
      <${Links} item=${item} />
      <${Steps} item=${item} index=${index} />
      <${Value} title="Input" value=${item.input} isCut=${item.inputCut} address=${address("input")} />
      <${Value} title="Output" value=${item.output} isCut=${item.outputCut} address=${address("output")} />
      <${Value} title="Error" value=${item.error} isCut=${item.errorCut} address=${address("error")} />
    </div>`;
  }

  /** `index`: of the item; `put`: changes the query; `onStep(-1 or 1)` goes to a neighbor. */
  return function Item({ dagId, runId, fork, index, branch, isRunning, put, onClose, onStep, onChanged }) {
    const parts = ["dags", dagId, "runs", runId, "forks", fork, "items", String(index)];
    const { data, error, isLoading, reload } = useJson(api(parts, { branch }), {
      live: (item) => Boolean(isRunning && item && !ENDED.includes(item.status)),
    });
    const [isRerun, setRerun] = useState(false);
    const [done, setDone] = useState(null);
    const item = data?.index === Number(index) ? data : undefined;
    const accepted = (sentence) => {
      setRerun(false);
      setDone(sentence);
      onChanged();
    };
    return html`<aside className="allma-item" aria-label=${`Item ${index}`} aria-busy=${isLoading}>
      <${Head} item=${item} index=${Number(index)} onStep=${onStep} onRerun=${() => setRerun(true)}
        onClose=${onClose} />
      ${done && html`<p className="allma-note done" role="status">${done}</p>`}
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${!item && !error && html`<${Loading} lines=${8} />`}
      ${item && html`<${Body} item=${item} index=${index} parts=${parts} put=${put} />`}
      ${isRerun && html`<${RerunDialog} dagId=${dagId} runId=${runId} fork=${fork} what="item" index=${index}
        onClose=${() => setRerun(false)} onDone=${accepted} />`}
    </aside>`;
  };
};
