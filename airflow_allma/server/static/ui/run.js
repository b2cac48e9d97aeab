// One run of a flow: its picture with states, the input and output of each step, its forks, and what waits.

import makeFork from "./fork_card.js";
import makePicture from "./picture.js";
import { describe, secondsOf } from "./run_states.js";
import makeTokens from "./tokens.js";
import makeTrace from "./trace.js";
import makeWaits from "./waits.js";

const AFTER_CHANGE_MILLISECONDS = 60_000;
const UNENDED = ["running", "queued", "waiting"];

/** Return the page. */
export default (kit) => {
  const { html, useRef, useState, api, count, duration, oneLine, visible } = kit;
  const { Badge, Button, Empty, Facts, Link, Loading, Page, Problem, Time, useJson } = kit;
  const ForkCard = makeFork(kit);
  const Picture = makePicture(kit);
  const Tokens = makeTokens(kit);
  const Trace = makeTrace(kit);
  const Waits = makeWaits(kit);

  function StepHead({ node, shown, put }) {
    return html`<div className="allma-head">
      <h2>${oneLine(node.title)}</h2>
      ${shown.state && html`<${Badge} color=${shown.palette}>${shown.word}<//>`}
      <div className="allma-actions">
        <${Button} className="allma-button ghost small" aria-label="Close the step"
          onClick=${() => put({ step: null })}>✕<//>
      </div>
    </div>`;
  }

  function StepFacts({ dagId, runId, node, state, fork, around, task }) {
    const itemsOf = (one) => ({ dagId, runId, query: { fork: one.fork } });
    return html`<${Facts} facts=${[
      ["What it does", oneLine(node.detail)],
      ["Type", html`<code>${oneLine(node.type)}</code>`],
      ["Start", state?.start && html`<${Time} value=${state.start} />`],
      ["Duration", state && duration(secondsOf(state, state.state === "running"))],
      ["Tries", state?.tries > 1 && state.tries],
      ["Log", task?.logUrl && html`<${Link} to=${task.logUrl}>Open the log<//>`],
      ["Items", fork && html`<${Link} to=${itemsOf(fork)}>${count(fork.items, "item")}<//>`],
      ["Items", around && html`<${Link} to=${itemsOf(around)}>Show the items<//>`],
      ["Flow", node.flow && html`<${Link} to=${{ dagId: node.flow }}>${oneLine(node.flow)}<//>`],
      ["Definition", html`<${Link} to=${{ dagId, query: { step: node.step } }}>Show its JSON<//>`],
    ]} />`;
  }

  function Recorded({ step, node, state, around }) {
    const { note, trace } = step;
    const hasRun = state && state.state !== "none";
    const nothing = hasRun ? "Nothing was recorded of this step." : "The step has not run.";
    return html`
      ${note && around?.mode !== "chunks" && html`<p className="allma-note">${oneLine(note)}</p>`}
      ${trace?.length > 0 && html`<${Trace} steps=${trace} label=${`Steps of ${oneLine(node.title)}`} />`}
      ${!around && !trace?.length && !note && html`<p className="muted">${nothing}</p>`}`;
  }

  function Step({ dagId, runId, node, described, isRunning, put }) {
    const [fork, around] = [described.forkOf(node), described.around(node)];
    const state = described.stateOf(node);
    const address = api(["dags", dagId, "runs", runId, "steps", node.step]);
    const { data, error, isLoading, reload } = useJson(address, {
      live: isRunning && state && UNENDED.includes(state.state),
    });
    const label = `Step ${oneLine(node.title)}`;
    return html`<aside className="allma-side" aria-label=${label} aria-busy=${isLoading}>
      <${StepHead} node=${node} shown=${described.infoOf(node) ?? {}} put=${put} />
      <${StepFacts} dagId=${dagId} runId=${runId} node=${node} state=${state} fork=${fork} around=${around}
        task=${data?.task} />
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${!data && isLoading && html`<${Loading} />`}
      ${data && html`<${Recorded} step=${data} node=${node} state=${state} around=${around} />`}
    </aside>`;
  }

  function RunPicture({ dagId, runId, run, query, put }) {
    if (!run.picture) {
      return html`<${Empty} title="No picture">
        ${"The flow of this run could not be read; it may be from an earlier version of airflow-allma."}
      <//>`;
    }
    const described = describe(run);
    const node = run.picture.nodes.find((one) => one.step === query.step && one.kind !== "branch");
    const select = ({ step }) => put({ step: step === query.step ? null : step });
    const onKeyDown = (event) => event.key === "Escape" && put({ step: null });
    return html`<div className=${`allma-beside ${node ? "open" : ""}`} onKeyDown=${onKeyDown}>
      <${Picture} picture=${run.picture} label="Picture of the run" infoOf=${described.infoOf}
        selected=${query.step} onSelect=${select} />
      ${node && html`<${Step} key=${node.step} dagId=${dagId} runId=${runId} node=${node}
        described=${described} isRunning=${run.isRunning} put=${put} />`}
    </div>`;
  }

  function Checkpoint({ checkpoint }) {
    return html`<span>
      ${oneLine(checkpoint.name)} <small className="muted"><${Time} value=${checkpoint.at} /></small>
    </span>`;
  }

  function RunFacts({ dagId, run }) {
    const seconds = secondsOf(run, run.isRunning);
    const waits = run.waits?.length ?? 0;
    // Airflow's own header, above this page, has the state and the times.
    const isAlone = !kit.inAirflow;
    return html`<${Facts} facts=${[
      ["State", isAlone && html`<${Badge} state=${run.state} />`],
      ["Flow", html`<${Link} to=${{ dagId }}>${oneLine(run.flowId)}<//>`],
      ["Version", run.version],
      ["Start", isAlone && run.start && html`<${Time} value=${run.start} />`],
      ["Duration", isAlone && seconds !== null && duration(seconds)],
      ["Checkpoint", run.checkpoint && html`<${Checkpoint} checkpoint=${run.checkpoint} />`],
      ["Waits", waits > 0 && count(waits, "event")],
    ]} />`;
  }

  function Failure({ error }) {
    return html`<div className="allma-problem" role="alert"><div>
      <strong>${oneLine(error.errorName ?? "The run failed")}</strong>
      <p>${visible(error.errorMessage ?? "")}</p>
    </div></div>`;
  }

  return function Run({ dagId, runId }) {
    const [query, put] = kit.useQuery();
    const [done, setDone] = useState(null);
    const watchUntil = useRef(0); // after a change, before Airflow has taken it up
    const { data, error, isLoading, reload } = useJson(api(["dags", dagId, "runs", runId]), {
      live: (run) => Boolean(run?.isRunning) || Date.now() < watchUntil.current,
    });
    const changed = (until) => {
      watchUntil.current = typeof until === "number" ? until : Date.now() + AFTER_CHANGE_MILLISECONDS;
      reload();
    };
    const resumed = (sentence) => {
      setDone(sentence);
      changed();
    };
    const problem = error && html`<${Problem} error=${error} onRetry=${reload} />`;
    if (!data) return html`<${Page}>${problem || (isLoading && html`<${Loading} lines=${8} />`)}<//>`;
    if (!data.isFlow) {
      return html`<${Page}><${Empty} title="Not an Allma flow">
        This page shows runs of Allma flows only.
      <//><//>`;
    }
    const cardOf = (fork) => html`<${ForkCard} key=${fork.fork} dagId=${dagId} runId=${runId} summary=${fork}
      onChanged=${changed} />`;
    return html`<${Page}>
      ${problem}
      ${done && html`<p className="allma-note done" role="status">${done}</p>`}
      <${RunFacts} dagId=${dagId} run=${data} />
      <${Tokens} models=${data.tokens} />
      ${data.error && html`<${Failure} error=${data.error} />`}
      <${RunPicture} dagId=${dagId} runId=${runId} run=${data} query=${query} put=${put} />
      ${data.waits?.length > 0 && html`<${Waits} waits=${data.waits} onChanged=${resumed} />`}
      ${data.forks?.map(cardOf)}
    <//>`;
  };
};
