// The dialog that says what a rerun will do, and then does it through Airflow's own API.

// What somebody has read before they press the button.
const SENTENCES = ["sentence", "others", "replaced", "blocked"];
const STAYS =
  "If the chunks are cleared later, only the selected items run. To prevent that, delete the XCom " +
  "allma_rerun of the fork's chunks task.";

function title(what, indexText) {
  if (what === "item") return `Rerun item ${indexText}`;
  return what === "kind" ? "Rerun failures of this kind" : "Rerun failed items";
}

/** Return the component RerunDialog. */
export default (kit) => {
  const { html, useState, api, change, count, number, request, visible } = kit;
  const { Button, Copy, Dialog, Loading, Problem, RequestError, useJson } = kit;

  function nameOf(plan) {
    // Of a chunk whose process was lost nobody knows how many items have no result.
    return plan.items ? count(plan.items, "item") : "Items without a result";
  }

  async function run(plan, dagId) {
    if (plan.selection) {
      const { path, method, body } = plan.selection;
      await change(path, method, body);
    }
    try {
      const answer = await change(`dags/${encodeURIComponent(dagId)}/clearTaskInstances`, "POST", plan.clear);
      return answer.total_entries;
    } catch (problem) {
      if (plan.undo) await undo(plan.undo, problem);
      throw problem;
    }
  }

  /** Make the selection void, or say that it stays: the fork's next clear would run only these items. */
  async function undo({ path, method, body }, problem) {
    // Without an answer of Airflow itself the tasks may have been cleared, and need the selection.
    const isRefused = problem.status >= 400 && problem.status <= 500;
    try {
      if (isRefused && (await change(path, method, body))) return;
    } catch (error) {
      problem.message += ` The selection of items could not be removed: ${error.message}`;
    }
    problem.message += ` ${STAYS}`;
  }

  /** Return the plan as it is now; an error if it says something else than what was shown. */
  async function confirmed(shown, address) {
    const plan = await request(address);
    if (SENTENCES.every((name) => plan[name] === shown[name])) return plan;
    throw new RequestError(0, "The run has changed since this dialog was opened. Read again what will run.");
  }

  function Plan({ plan }) {
    return html`
      ${plan.sentence && html`<p>${visible(plan.sentence)}</p>`}
      ${plan.others && html`<p className="muted">${visible(plan.others)}</p>`}
      ${plan.replaced && html`<p className="allma-note">${visible(plan.replaced)}</p>`}
      ${plan.blocked && html`<p className="allma-note">${visible(plan.blocked)}</p>`}
      ${plan.command && html`<pre className="allma-command" tabIndex="0">${visible(plan.command)}</pre>`}`;
  }

  /** `what`: failed, kind or item; `onDone(sentence)` is called when Airflow has accepted the rerun. */
  return function RerunDialog({ dagId, runId, fork, what, kind, index, onClose, onDone }) {
    const address = api(["dags", dagId, "runs", runId, "forks", fork, "rerun"], { what, kind, index });
    const { data: plan, error, reload } = useJson(address);
    const [isBusy, setBusy] = useState(false);
    const [failure, setFailure] = useState(null);
    const fail = (heading, problem) => {
      setFailure({ heading, problem });
      setBusy(false);
      reload(); // the run may have started, and the selection may exist now
    };
    const start = async () => {
      setBusy(true);
      setFailure(null);
      let current;
      try {
        current = await confirmed(plan, address);
      } catch (problem) {
        fail("Nothing was sent", problem);
        return;
      }
      try {
        const cleared = await run(current, dagId);
        onDone(`${nameOf(current)} will run again: Airflow cleared ${count(cleared, "task instance")}.`);
      } catch (problem) {
        fail("Airflow refused the rerun", problem);
      }
    };
    const isPossible = plan && !plan.blocked;
    const actions = html`
      ${plan?.command && html`<${Copy} text=${plan.command} label="Copy as command" />`}
      <${Button} onClick=${onClose}>Cancel<//>
      <${Button} kind="primary" disabled=${!isPossible || isBusy} onClick=${start}>
        ${plan?.items ? `Rerun ${count(plan.items, "item")}` : "Rerun"}
      <//>`;
    return html`<${Dialog} title=${title(what, number(index))} onClose=${onClose} actions=${actions}>
      ${!plan && !error && html`<${Loading} lines=${3} />`}
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${plan && html`<${Plan} plan=${plan} />`}
      ${failure && html`<${Problem} error=${failure.problem} title=${failure.heading} />`}
    <//>`;
  };
};
