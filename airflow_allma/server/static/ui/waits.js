// What a run waits for, and the dialog that resumes it.

import { makePayloadField, parsePayload } from "./payload.js";

/** Return the component Waits. */
export default (kit) => {
  const { html, useState, oneLine, visible, send, airflow, Button, Dialog, Problem, Table, Time } = kit;
  const PayloadField = makePayloadField(kit);

  function Resume({ wait, onClose, onDone }) {
    const [text, setText] = useState("{}");
    const [error, setError] = useState(null);
    const [isSent, setSent] = useState(false);
    const resume = async () => {
      setError(null);
      setSent(true);
      try {
        const body = { correlationValue: wait.key, payload: parsePayload(text) };
        // The one route of ours that changes something; it insists on JSON and on the waiting Dag's rights.
        await send(airflow("allma/resume"), "POST", body);
        onDone(`${oneLine(wait.key)} was resumed.`);
      } catch (problem) {
        setError(problem);
        setSent(false);
      }
    };
    const actions = html`
      <${Button} onClick=${onClose}>Cancel<//>
      <${Button} kind="primary" disabled=${isSent} onClick=${resume}>Resume<//>`;
    return html`<${Dialog} title="Resume" onClose=${onClose} actions=${actions}>
      <p>
        Step <strong>${oneLine(wait.step)}</strong> waits for <code>${oneLine(wait.key)}</code>.
        ${" What you send becomes its output."}
      </p>
      ${wait.message && html`<p className="allma-note">${visible(wait.message)}</p>`}
      <${PayloadField} text=${text} setText=${setText} rows="8" />
      ${error && html`<${Problem} error=${error} />`}
    <//>`;
  }

  function Message({ text }) {
    return html`<span title=${oneLine(text ?? "")}>${oneLine(text ?? "")}</span>`;
  }

  function Until({ time }) {
    const isLate = time * 1000 < Date.now();
    return html`<span className=${isLate ? "error" : ""}>
      <${Time} value=${time} />${isLate ? " (expired)" : ""}
    </span>`;
  }

  function ResumeButton({ wait, onResume }) {
    const reason = wait.mayResume ? undefined : "You may not resume tasks of this Dag.";
    return html`<${Button} className="allma-button primary small" disabled=${!wait.mayResume} title=${reason}
      aria-label=${`Resume ${oneLine(wait.key)}`} onClick=${() => onResume(wait)}>Resume<//>`;
  }

  function columnsOf(onResume) {
    return [
      { key: "step", title: "Step", className: "nowrap", cell: (wait) => oneLine(wait.step) },
      {
        key: "key",
        title: "Waits for",
        cell: (wait) => html`<code className="allma-key">${oneLine(wait.key)}</code>`,
      },
      {
        key: "message",
        title: "Message",
        className: "text",
        cell: (wait) => html`<${Message} text=${wait.message} />`,
      },
      {
        key: "since",
        title: "Since",
        className: "nowrap",
        cell: (wait) => html`<${Time} value=${wait.since} />`,
      },
      {
        key: "until",
        title: "Until",
        className: "nowrap",
        cell: (wait) => html`<${Until} time=${wait.until} />`,
      },
      {
        key: "resume",
        title: html`<span className="hidden">Resume</span>`,
        className: "number",
        cell: (wait) => html`<${ResumeButton} wait=${wait} onResume=${onResume} />`,
      },
    ];
  }

  /** `waits`: of a run; `onChanged(sentence)` after one was resumed. */
  return function Waits({ waits, onChanged }) {
    const [chosen, setChosen] = useState(null);
    const resumed = (sentence) => {
      setChosen(null);
      onChanged(sentence);
    };
    return html`<section aria-label="What waits">
      <h2>What waits</h2>
      <${Table} label="What waits" columns=${columnsOf(setChosen)} rows=${waits}
        keyOf=${(wait) => `${wait.step} ${wait.key}`} />
      ${chosen && html`<${Resume} wait=${chosen} onClose=${() => setChosen(null)} onDone=${resumed} />`}
    </section>`;
  };
};
