// The steps of an item, or of a run, as a timeline: input, output and calls of each.

const CALLS_AT_ONCE = 3;

export default (kit) => {
  const { html, useState, bytes, count, duration, number, visible, oneLine, Badge, Button, Json } = kit;

  function Call({ call }) {
    const what = call.method ?? call.operation ?? "";
    const isBad = Boolean(call.error) || (typeof call.status === "number" && call.status >= 400);
    const size = [call.sent && `${bytes(call.sent)} sent`, call.received && `${bytes(call.received)} received`].filter(Boolean).join(", ");
    return html`<div className="allma-call">
      <${Badge} color=${isBad ? "failed" : "plain"}>${oneLine(call.status ?? (call.error ? "error" : call.service))}<//>
      <code>${oneLine(what)} ${oneLine(call.target)}</code>
      <span className="muted nowrap">${duration(call.milliseconds === null || call.milliseconds === undefined ? null : call.milliseconds / 1000)}${size && ` · ${size}`}${call.requestId && ` · request ${oneLine(call.requestId)}`}</span>
      ${call.error && html`<span className="error">${oneLine(typeof call.error === "string" ? call.error : call.error.errorMessage)}</span>`}
    </div>`;
  }

  function Calls({ calls, omitted }) {
    const [isWhole, setWhole] = useState(false);
    const shown = isWhole ? calls : calls.slice(0, CALLS_AT_ONCE);
    return html`<div className="allma-calls">
      ${omitted > 0 && html`<p className="muted">${count(omitted, "earlier call")} left out</p>`}
      ${shown.map((call, index) => html`<${Call} key=${index} call=${call} />`)}
      ${shown.length < calls.length && html`<${Button} kind="link" onClick=${() => setWhole(true)}>show all ${count(calls.length, "call")}<//>`}
    </div>`;
  }

  function Step({ step, start, span, isOpenAtFirst }) {
    const [isOpen, setOpen] = useState(isOpenAtFirst);
    const tail = [oneLine(step.type), step.tries > 1 && count(step.tries, "try", "tries"), duration(step.seconds)].filter(Boolean).join(" · ");
    const left = span > 0 && step.at ? (100 * (step.at - start)) / span : 0;
    const width = span > 0 ? (100 * (step.seconds ?? 0)) / span : 100;
    const parts = [["Input", step.input], ["Output", step.output], ["Error", step.error]].filter(([, value]) => value !== undefined && value !== null);
    return html`<li className=${`allma-step ${step.error ? "failed" : "success"}`}>
      <button type="button" className="allma-step-head" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>
        <span className="fold" aria-hidden="true">${isOpen ? "▾" : "▸"}</span>
        <strong>${oneLine(step.step)}</strong>${step.flow && html`<span className="muted">in flow ${oneLine(step.flow)}</span>`}${step.within?.map((one) => html`<span key=${one.fork} className="muted">in ${oneLine(one.fork)}, branch ${oneLine(one.branch)}, item ${number(one.item)}</span>`)}
        ${step.error && html`<${Badge} state="failed">failed<//>`}
        <span className="muted tail">${tail}</span>
      </button>
      <div className="allma-lane" aria-hidden="true"><span style=${{ marginLeft: `${Math.min(99, Math.max(0, left))}%`, width: `${Math.min(100, Math.max(0.5, width))}%` }}></span></div>
      ${step.error && html`<p className="error">${oneLine(step.error.errorName)}: ${visible(step.error.errorMessage)}</p>`}
      ${step.calls?.length > 0 && html`<${Calls} calls=${step.calls} omitted=${step.omittedCalls} />`}
      ${step.note && html`<p className="muted">${visible(step.note)}</p>`}
      ${isOpen && parts.map(([name, value]) => html`<div key=${name} className="allma-value"><h4>${name}</h4><${Json} label=${`${name} of ${step.step}`} value=${value} /></div>`)}
      ${isOpen && !parts.length && html`<p className="muted">Neither input nor output was stored.</p>`}
      ${isOpen && step.next && html`<p className="muted">Next step: ${oneLine(step.next)}</p>`}
    </li>`;
  }

  /** `steps`: StepTrace objects; `omitted`: how many are missing in the middle; `note`: what else is missing. */
  return function Trace({ steps, omitted = 0, note = null, label = "Steps" }) {
    const timed = steps.filter((step) => typeof step.at === "number");
    const start = timed.length ? Math.min(...timed.map((step) => step.at)) : 0;
    const end = timed.length ? Math.max(...timed.map((step) => step.at + (step.seconds ?? 0))) : 0;
    const gap = omitted ? Math.ceil(steps.length / 2) : -1;
    const rows = [];
    steps.forEach((step, index) => {
      if (index === gap) rows.push(html`<li key="gap" className="muted">${count(omitted, "step")} left out</li>`);
      rows.push(html`<${Step} key=${index} step=${step} start=${start} span=${end - start} isOpenAtFirst=${Boolean(step.error) || steps.length === 1} />`);
    });
    if (note) rows.push(html`<li key="note" className="muted">${visible(note)}</li>`);
    return html`<ol className="allma-trace" aria-label=${label}>${rows}</ol>`;
  };
};
