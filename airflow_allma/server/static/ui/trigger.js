// The dialog that starts a run, through Airflow's own API with the user's own rights.

export default (kit) => {
  const { html, useState, change, oneLine, Button, Dialog, Problem } = kit;

  return function Trigger({ dagId, flow, onClose }) {
    const [text, setText] = useState(() => JSON.stringify(flow.payload?.example ?? {}, null, 2));
    const [error, setError] = useState(null);
    const [isSent, setSent] = useState(false);
    const navigate = kit.useNavigate();
    const send = async () => {
      setError(null);
      let conf;
      try {
        conf = JSON.parse(text || "{}");
      } catch (problem) {
        setError(new kit.RequestError(0, `The payload is not JSON: ${problem.message}`));
        return;
      }
      if (conf === null || typeof conf !== "object" || Array.isArray(conf)) {
        setError(new kit.RequestError(0, "The payload must be a JSON object: { ... }."));
        return;
      }
      setSent(true);
      try {
        const run = await change(`dags/${encodeURIComponent(dagId)}/dagRuns`, "POST", { logical_date: null, conf });
        onClose();
        navigate(kit.placeOf({ dagId, runId: run.dag_run_id }));
      } catch (problem) {
        setError(problem);
        setSent(false);
      }
    };
    return html`<${Dialog} title=${`Trigger ${oneLine(flow.name || flow.flowId)}`} onClose=${onClose} actions=${html`
        <${Button} onClick=${onClose}>Cancel<//>
        <${Button} kind="primary" disabled=${isSent} onClick=${send}>${isSent ? "Triggering…" : "Trigger"}<//>`}>
      ${flow.paused && html`<p className="allma-note">The Dag is paused: the run waits until it is unpaused.</p>`}
      <label className="allma-field">Payload, a JSON object
        <textarea rows="12" spellCheck=${false} value=${text} onInput=${(event) => setText(event.currentTarget.value)} onChange=${(event) => setText(event.currentTarget.value)}></textarea>
      </label>
      ${error && html`<${Problem} error=${error} />`}
    <//>`;
  };
};
