// What a run waits for, and the dialog that resumes it.

export default (kit) => {
  const { html, useState, oneLine, visible, request, airflow, Button, Dialog, Problem, Table, Time } = kit;

  function Resume({ wait, onClose, onDone }) {
    const [text, setText] = useState("{}");
    const [error, setError] = useState(null);
    const [isSent, setSent] = useState(false);
    const send = async () => {
      setError(null);
      let payload;
      try {
        payload = JSON.parse(text || "{}");
      } catch (problem) {
        setError(new kit.RequestError(0, `The payload is not JSON: ${problem.message}`));
        return;
      }
      setSent(true);
      try {
        // The one route of ours that changes something; it insists on JSON and on the rights of the Dag that waits.
        await request(airflow("allma/resume"), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ correlationValue: wait.key, payload }) });
        onDone(`${oneLine(wait.key)} was resumed.`);
      } catch (problem) {
        setError(problem);
        setSent(false);
      }
    };
    return html`<${Dialog} title="Resume" onClose=${onClose} actions=${html`
        <${Button} onClick=${onClose}>Cancel<//>
        <${Button} kind="primary" disabled=${isSent} onClick=${send}>Resume<//>`}>
      <p>Step <strong>${oneLine(wait.step)}</strong> waits for <code>${oneLine(wait.key)}</code>. What you send becomes its output.</p>
      ${wait.message && html`<p className="allma-note">${visible(wait.message)}</p>`}
      <label className="allma-field">Payload, a JSON object
        <textarea rows="8" spellCheck=${false} value=${text} onInput=${(event) => setText(event.currentTarget.value)} onChange=${(event) => setText(event.currentTarget.value)}></textarea>
      </label>
      ${error && html`<${Problem} error=${error} />`}
    <//>`;
  }

  /** `waits`: of a run; `onChanged(sentence)` after one was resumed. */
  return function Waits({ waits, onChanged }) {
    const [chosen, setChosen] = useState(null);
    const late = (wait) => wait.until * 1000 < Date.now();
    const columns = [
      { key: "step", title: "Step", className: "nowrap", cell: (wait) => oneLine(wait.step) },
      { key: "key", title: "Waits for", cell: (wait) => html`<code className="allma-key">${oneLine(wait.key)}</code>` },
      { key: "message", title: "Message", className: "text", cell: (wait) => html`<span title=${oneLine(wait.message ?? "")}>${oneLine(wait.message ?? "")}</span>` },
      { key: "since", title: "Since", className: "nowrap", cell: (wait) => html`<${Time} value=${wait.since} />` },
      { key: "until", title: "Until", className: "nowrap", cell: (wait) => html`<span className=${late(wait) ? "error" : ""}><${Time} value=${wait.until} />${late(wait) ? " (expired)" : ""}</span>` },
      { key: "resume", title: html`<span className="hidden">Resume</span>`, className: "number", cell: (wait) => html`<${Button} className="allma-button primary small" disabled=${!wait.mayResume} title=${wait.mayResume ? undefined : "You may not resume tasks of this Dag."} aria-label=${`Resume ${oneLine(wait.key)}`} onClick=${() => setChosen(wait)}>Resume<//>` },
    ];
    return html`<section aria-label="What waits">
      <h2>What waits</h2>
      <${Table} label="What waits" columns=${columns} rows=${waits} keyOf=${(wait) => `${wait.step} ${wait.key}`} />
      ${chosen && html`<${Resume} wait=${chosen} onClose=${() => setChosen(null)} onDone=${(sentence) => { setChosen(null); onChanged(sentence); }} />`}
    </section>`;
  };
};
