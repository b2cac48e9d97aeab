// The dialog that starts a run, through Airflow's own API with the user's own rights.

import { makePayloadField, parsePayload } from "./payload.js";

/** Return the component Trigger. */
export default (kit) => {
  const { html, useState, change, oneLine, Button, Dialog, Problem, RequestError } = kit;
  const PayloadField = makePayloadField(kit);

  async function trigger(dagId, text) {
    const conf = parsePayload(text);
    if (conf === null || typeof conf !== "object" || Array.isArray(conf)) {
      throw new RequestError(0, "The payload must be a JSON object: { ... }.");
    }
    return change(`dags/${encodeURIComponent(dagId)}/dagRuns`, "POST", { logical_date: null, conf });
  }

  return function Trigger({ dagId, flow, onClose }) {
    const [text, setText] = useState(() => JSON.stringify(flow.payload?.example ?? {}, null, 2));
    const [error, setError] = useState(null);
    const [isSent, setSent] = useState(false);
    const navigate = kit.useNavigate();
    const send = async () => {
      setError(null);
      setSent(true);
      try {
        const run = await trigger(dagId, text);
        onClose();
        navigate(kit.placeOf({ dagId, runId: run.dag_run_id }));
      } catch (problem) {
        setError(problem);
        setSent(false);
      }
    };
    const actions = html`
      <${Button} onClick=${onClose}>Cancel<//>
      <${Button} kind="primary" disabled=${isSent} onClick=${send}>${isSent ? "Triggering…" : "Trigger"}<//>`;
    const title = `Trigger ${oneLine(flow.name || flow.flowId)}`;
    return html`<${Dialog} title=${title} onClose=${onClose} actions=${actions}>
      ${flow.paused && html`<p className="allma-note">
        The Dag is paused: the run waits until it is unpaused.
      </p>`}
      <${PayloadField} text=${text} setText=${setText} rows="12" />
      ${error && html`<${Problem} error=${error} />`}
    <//>`;
  };
};
