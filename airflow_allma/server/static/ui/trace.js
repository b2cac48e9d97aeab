// The steps of an item, or of a run, as a timeline: input, output and calls of each.

const CALLS_AT_ONCE = 3;
const LEAST_WIDTH = 0.5; // percent of the lane: a step that took no time is seen too
const LAST_START = 99; // percent

function percent(value, least, most) {
  return `${Math.min(most, Math.max(least, value))}%`;
}

function beginningOf(cut) {
  // The beginning of the JSON of a text: without an escape that is not whole
  const json = cut.replace(/\\(u[0-9a-f]{0,3})?$/i, "");
  try {
    return `${JSON.parse(`${json}"`)}…`;
  } catch {
    return "";
  }
}

/** Return the name and the message of an error of which parts may be cut, as a text. */
export function textOfError(error) {
  // An error that was cut as a whole: traces of earlier releases
  const field = (name) => {
    if (typeof error.$cut !== "string") return error[name];
    return error.$cut.match(new RegExp(`"${name}":("(?:[^"\\\\]|\\\\.)*"?)`))?.[1];
  };
  const text = (name) => {
    const value = field(name);
    if (typeof value?.$cut === "string") return beginningOf(value.$cut);
    if (typeof error.$cut !== "string" || value === undefined) return value;
    try {
      return JSON.parse(value);
    } catch {
      return beginningOf(value);
    }
  };
  const parts = ["errorName", "errorMessage"].map(text).filter(Boolean);
  return parts.join(": ") || "The step failed. Its error is too large to be shown whole.";
}

/** Return the component Trace. */
export default (kit) => {
  const { html, useState, bytes, count, duration, number, visible, oneLine, Badge, Button, Json } = kit;

  function Call({ call }) {
    const what = call.method ?? call.operation ?? "";
    const isBad = Boolean(call.error) || (typeof call.status === "number" && call.status >= 400);
    const received = call.received && `${bytes(call.received)} received`;
    const seconds = (call.milliseconds ?? null) === null ? null : call.milliseconds / 1000;
    const [tokensIn, tokensOut] = [call.inputTokens, call.outputTokens].map(number);
    const tokens = call.inputTokens > 0 && `${tokensIn} tokens in, ${tokensOut} out`;
    const size = [call.sent && `${bytes(call.sent)} sent`, received, tokens].filter(Boolean).join(", ");
    const id = call.requestId && ` · request ${oneLine(call.requestId)}`;
    const error = typeof call.error === "string" ? call.error : call.error?.errorMessage;
    return html`<div className="allma-call">
      <${Badge} color=${isBad ? "failed" : "plain"}>
        ${oneLine(call.status ?? (call.error ? "error" : call.service))}
      <//>
      <code>${oneLine(what)} ${oneLine(call.target)}</code>
      <span className="muted nowrap">${duration(seconds)}${size && ` · ${size}`}${id}</span>
      ${call.error && html`<span className="error">${oneLine(error)}</span>`}
    </div>`;
  }

  function Calls({ calls, omitted }) {
    const [isWhole, setWhole] = useState(false);
    const shown = isWhole ? calls : calls.slice(0, CALLS_AT_ONCE);
    return html`<div className="allma-calls">
      ${omitted > 0 && html`<p className="muted">${count(omitted, "earlier call")} left out</p>`}
      ${shown.map((call, index) => html`<${Call} key=${index} call=${call} />`)}
      ${shown.length < calls.length && html`<${Button} kind="link" onClick=${() => setWhole(true)}>
        show all ${count(calls.length, "call")}
      <//>`}
    </div>`;
  }

  function StepHead({ step, isOpen, setOpen }) {
    const tries = step.tries > 1 && count(step.tries, "try", "tries");
    const tail = [oneLine(step.type), tries, duration(step.seconds)].filter(Boolean).join(" · ");
    const placeIn = ({ fork, branch, item }) => html`<span key=${fork} className="muted">
      in ${oneLine(fork)}, branch ${oneLine(branch)}, item ${number(item)}
    </span>`;
    return html`<button type="button" className="allma-step-head" aria-expanded=${isOpen}
      onClick=${() => setOpen(!isOpen)}>
      <span className="fold" aria-hidden="true">${isOpen ? "▾" : "▸"}</span>
      <strong>${oneLine(step.step)}</strong>
      ${step.flow && html`<span className="muted">in flow ${oneLine(step.flow)}</span>`}
      ${step.within?.map(placeIn)}
      ${step.error && html`<${Badge} state="failed">failed<//>`}
      <span className="muted tail">${tail}</span>
    </button>`;
  }

  function Lane({ step, start, span }) {
    const left = span > 0 && step.at ? (100 * (step.at - start)) / span : 0;
    const width = span > 0 ? (100 * (step.seconds ?? 0)) / span : 100;
    const style = { marginLeft: percent(left, 0, LAST_START), width: percent(width, LEAST_WIDTH, 100) };
    return html`<div className="allma-lane" aria-hidden="true"><span style=${style}></span></div>`;
  }

  function Values({ step }) {
    const values = [["Input", step.input], ["Output", step.output], ["Error", step.error]];
    const stored = values.filter(([, value]) => value !== undefined && value !== null);
    return html`
      ${stored.map(([name, value]) => html`<div key=${name} className="allma-value">
        <h4>${name}</h4><${Json} label=${`${name} of ${step.step}`} value=${value} />
      </div>`)}
      ${!stored.length && html`<p className="muted">Neither input nor output was stored.</p>`}
      ${step.next && html`<p className="muted">Next step: ${oneLine(step.next)}</p>`}`;
  }

  function Step({ step, start, span, isOpenAtFirst }) {
    const [isOpen, setOpen] = useState(isOpenAtFirst);
    const { error, calls, note } = step;
    return html`<li className=${`allma-step ${error ? "failed" : "success"}`}>
      <${StepHead} step=${step} isOpen=${isOpen} setOpen=${setOpen} />
      <${Lane} step=${step} start=${start} span=${span} />
      ${error && html`<p className="error">${visible(textOfError(error))}</p>`}
      ${calls?.length > 0 && html`<${Calls} calls=${calls} omitted=${step.omittedCalls} />`}
      ${note && html`<p className="muted">${visible(note)}</p>`}
      ${isOpen && html`<${Values} step=${step} />`}
    </li>`;
  }

  /** `steps`: StepTrace objects; `omitted`: how many are missing in the middle; `note`: what else is. */
  return function Trace({ steps, omitted = 0, note = null, label = "Steps" }) {
    const timed = steps.filter((step) => typeof step.at === "number");
    const start = timed.length ? Math.min(...timed.map((step) => step.at)) : 0;
    const end = timed.length ? Math.max(...timed.map((step) => step.at + (step.seconds ?? 0))) : 0;
    const gap = omitted ? Math.ceil(steps.length / 2) : -1;
    const left = count(omitted, "step");
    const rows = [];
    steps.forEach((step, index) => {
      if (index === gap) rows.push(html`<li key="gap" className="muted">${left} left out</li>`);
      const isOpenAtFirst = Boolean(step.error) || steps.length === 1;
      rows.push(html`<${Step} key=${index} step=${step} start=${start} span=${end - start}
        isOpenAtFirst=${isOpenAtFirst} />`);
    });
    if (note) rows.push(html`<li key="note" className="muted">${visible(note)}</li>`);
    return html`<ol className="allma-trace" aria-label=${label}>${rows}</ol>`;
  };
};
