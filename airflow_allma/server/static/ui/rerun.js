// The dialog that says what a rerun will do, and then does it through Airflow's own API.

export default (kit) => {
  const { html, useState, api, change, count, Button, Copy, Dialog, Loading, Problem, useJson } = kit;

  function title(what, kind, index) {
    if (what === "item") return `Rerun item ${kit.number(index)}`;
    return what === "kind" ? "Rerun failures of this kind" : "Rerun failed items";
  }

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
    problem.message += " If the chunks are cleared later, only the selected items run. To prevent that, delete the XCom allma_rerun of the fork's chunks task.";
  }

  /** `what`: failed, kind or item; `onDone(sentence)` is called when Airflow has accepted the rerun. */
  return function RerunDialog({ dagId, runId, fork, what, kind, index, onClose, onDone }) {
    const { data: plan, error, reload } = useJson(
      api(["dags", dagId, "runs", runId, "forks", fork, "rerun"], { what, kind, index }),
    );
    const [isBusy, setBusy] = useState(false);
    const [failure, setFailure] = useState(null);
    const start = async () => {
      setBusy(true);
      setFailure(null);
      try {
        const cleared = await run(plan, dagId);
        onDone(`${nameOf(plan)} will run again: Airflow cleared ${count(cleared, "task instance")}.`);
      } catch (problem) {
        setFailure(problem);
        setBusy(false);
        // The run may have started, and the selection now exists.
        reload();
      }
    };
    const isPossible = plan && !plan.blocked;
    const actions = html`
      ${plan?.command && html`<${Copy} text=${plan.command} label="Copy as command" />`}
      <${Button} onClick=${onClose}>Cancel<//>
      <${Button} kind="primary" disabled=${!isPossible || isBusy} onClick=${start}>${plan?.items ? `Rerun ${count(plan.items, "item")}` : "Rerun"}<//>`;
    return html`<${Dialog} title=${title(what, kind, index)} onClose=${onClose} actions=${actions}>
      ${!plan && !error && html`<${Loading} lines=${3} />`}
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${plan && html`<p>${kit.visible(plan.sentence)}</p>`}
      ${plan?.others && html`<p className="muted">${kit.visible(plan.others)}</p>`}
      ${plan?.blocked && html`<p className="allma-note">${kit.visible(plan.blocked)}</p>`}
      ${plan?.command && html`<pre className="allma-command" tabIndex="0">${kit.visible(plan.command)}</pre>`}
      ${failure && html`<${Problem} error=${failure} title="Airflow refused the rerun" />`}
    <//>`;
  };
};
