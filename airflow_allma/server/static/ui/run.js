// One run of a flow: its picture with states, the input and output of each step, its forks, and what waits.

import makeFork from "./fork_card.js";
import makePicture from "./picture.js";
import makeTrace from "./trace.js";
import makeWaits from "./waits.js";

const AFTER_CHANGE_MILLISECONDS = 60_000;

export default (kit) => {
  const { html, useRef, useState, api, count, duration, number, oneLine, visible, paletteOf, Badge, Button, Empty, Facts, Link, Loading, Page, Problem, Time, useJson } = kit;
  const ForkCard = makeFork(kit);
  const Picture = makePicture(kit);
  const Trace = makeTrace(kit);
  const Waits = makeWaits(kit);

  const WORDS = { none: "" };
  const NAMES = { success: "succeeded", failed: "failed", running: "running", queued: "queued", waiting: "waiting", skipped: "skipped", upstream_failed: "upstream failed", none: "not started" };

  const ORDER = ["failed", "running", "waiting", "queued", "upstream_failed", "success", "skipped", "none"];

  const IDLE = ["skipped", "upstream_failed", "queued"]; // their times mean nothing

  function secondsOf({ start, end, seconds }, isRunning) {
    if (seconds !== null && seconds !== undefined) return seconds;
    if (!start) return null;
    return end ? end - start : isRunning ? Date.now() / 1000 - start : null;
  }

  function stepInfo(state, node) {
    if (!state || state.state === "none") return { line: node.detail };
    const total = Object.values(state.counts ?? {}).reduce((sum, one) => sum + one, 0);
    const parts = IDLE.includes(state.state) ? [] : [duration(secondsOf(state, state.state === "running"))];
    if (state.tries > 1) parts.push(count(state.tries, "try", "tries"));
    if (total > 1) {
      // Of a step that ran for many items, how it went is more than how long it took.
      const [first, ...others] = ORDER.filter((name) => state.counts[name]).map((name) => `${number(state.counts[name])} ${NAMES[name]}`);
      return { state: state.state, palette: paletteOf(state.state), word: first, line: others.map((part) => ` · ${part}`).join("") };
    }
    return { state: state.state, palette: paletteOf(state.state), word: WORDS[state.state] ?? NAMES[state.state] ?? state.state, line: parts.filter(Boolean).map((part) => ` · ${part}`).join("") };
  }

  function itemsInfo(fork, node) {
    // Where one task runs all steps of a branch, its state says nothing of a step; the failures of items do.
    const failed = (fork.kinds ?? []).filter((kind) => kind.step === node.step).reduce((sum, kind) => sum + kind.count, 0);
    return failed ? { state: "failed", palette: "failed", word: `${number(failed)} failed`, line: node.detail && ` · ${node.detail}` } : { line: node.detail };
  }

  /** Return the fork of the main path in which each node is, by the node's id. */
  function forksAround(picture, forkOf) {
    const around = new Map();
    for (const node of picture?.nodes ?? []) {
      const fork = node.kind === "branch" && forkOf.get(node.step);
      around.set(node.id, fork || around.get(node.parent));
    }
    return around;
  }

  function forkInfo(fork, state) {
    const name = fork.isRunning ? "running" : state?.state && state.state !== "none" ? state.state : fork.failed ? "failed" : fork.ended ? "success" : "none";
    if (name === "none") return {};
    const parts = [`${number(fork.ended)} of ${number(fork.items)} items`];
    if (fork.failed) parts.push(`${number(fork.failed)} failed`);
    if (fork.perSecond && fork.isRunning) parts.push(`${Math.round(fork.perSecond)}/s`);
    if (fork.secondsLeft && fork.isRunning) parts.push(`${duration(fork.secondsLeft)} left`);
    if (!fork.isRunning) parts.push(duration(secondsOf(fork)));
    return {
      state: name, palette: paletteOf(name), word: NAMES[name] ?? name, line: parts.filter(Boolean).map((part) => ` · ${part}`).join(""),
      bar: { label: `${number(fork.ended)} of ${number(fork.items)} items have ended, ${number(fork.failed)} failed`, total: fork.items, parts: [{ state: "success", value: fork.succeeded }, { state: "failed", value: fork.failed }, { state: "skipped", value: fork.skipped }, { state: "running", value: fork.running }] },
    };
  }

  function Step({ dagId, runId, node, shown, state, fork, around, isRunning, put }) {
    const { data, error, isLoading, reload } = useJson(api(["dags", dagId, "runs", runId, "steps", node.step]), { live: isRunning && state && ["running", "queued", "waiting"].includes(state.state) });
    const task = data?.task;
    return html`<aside className="allma-side" aria-label=${`Step ${oneLine(node.title)}`} aria-busy=${isLoading}>
      <div className="allma-head">
        <h2>${oneLine(node.title)}</h2>${shown.state && html`<${Badge} color=${shown.palette}>${shown.word}<//>`}
        <div className="allma-actions"><${Button} className="allma-button ghost small" aria-label="Close the step" onClick=${() => put({ step: null })}>✕<//></div>
      </div>
      <${Facts} facts=${[
        ["What it does", oneLine(node.detail)],
        ["Type", html`<code>${oneLine(node.type)}</code>`],
        ["Start", state?.start && html`<${Time} value=${state.start} />`],
        ["Duration", state && duration(secondsOf(state, state.state === "running"))],
        ["Tries", state?.tries > 1 && state.tries],
        ["Log", task?.logUrl && html`<${Link} to=${task.logUrl}>Open the log<//>`],
        ["Items", fork && html`<${Link} to=${{ dagId, runId, query: { fork: fork.fork } }}>${count(fork.items, "item")}<//>`],
        ["Items", around && html`<${Link} to=${{ dagId, runId, query: { fork: around.fork } }}>Show the items<//>`],
        ["Flow", node.flow && html`<${Link} to=${{ dagId: node.flow }}>${oneLine(node.flow)}<//>`],
        ["Definition", html`<${Link} to=${{ dagId, query: { step: node.step } }}>Show its JSON<//>`],
      ]} />
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${!data && isLoading && html`<${Loading} />`}
      ${data?.note && around?.mode !== "chunks" && html`<p className="allma-note">${oneLine(data.note)}</p>`}
      ${data?.trace?.length > 0 && html`<${Trace} steps=${data.trace} label=${`Steps of ${oneLine(node.title)}`} />`}
      ${data && !around && !data.trace?.length && !data.note && html`<p className="muted">${!state || state.state === "none" ? "The step has not run." : "Nothing was recorded of this step."}</p>`}
    </aside>`;
  }

  return function Run({ dagId, runId }) {
    const [query, put] = kit.useQuery();
    const [done, setDone] = useState(null);
    const watchUntil = useRef(0); // after a change, before Airflow has taken it up
    const { data, error, isLoading, reload } = useJson(api(["dags", dagId, "runs", runId]), { live: (run) => Boolean(run?.isRunning) || Date.now() < watchUntil.current });
    const changed = (until) => {
      watchUntil.current = typeof until === "number" ? until : Date.now() + AFTER_CHANGE_MILLISECONDS;
      reload();
    };
    if (!data) return html`<${Page}>${error ? html`<${Problem} error=${error} onRetry=${reload} />` : isLoading && html`<${Loading} lines=${8} />`}<//>`;
    if (!data.isFlow) return html`<${Page}><${Empty} title="Not an Allma flow">This page shows runs of Allma flows only.<//><//>`;
    const forks = data.forks ?? [];
    const forkOf = new Map(forks.map((fork) => [fork.fork, fork]));
    const inside = forksAround(data.picture, forkOf);
    const steps = data.steps ?? {};
    const uses = new Map(); // task -> number of steps that it runs
    for (const { tasks } of Object.values(steps)) for (const { taskId } of tasks ?? []) uses.set(taskId, (uses.get(taskId) ?? 0) + 1);
    const runsWhole = (fork, node) => fork.mode === "chunks" || (steps[node.step]?.tasks ?? []).some((task) => uses.get(task.taskId) > 1);
    const infoOf = (node) => {
      if (!node.step || node.kind === "branch") return undefined;
      const around = inside.get(node.id);
      if (around && runsWhole(around, node)) return itemsInfo(around, node);
      const fork = forkOf.get(node.step);
      return fork ? forkInfo(fork, steps[node.step]) : stepInfo(steps[node.step], node);
    };
    const node = data.picture?.nodes.find((one) => one.step === query.step && one.kind !== "branch");
    const seconds = secondsOf(data, data.isRunning);
    const waits = data.waits ?? [];
    return html`<${Page}>
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${done && html`<p className="allma-note done" role="status">${done}</p>`}
      <${Facts} facts=${[
        ["State", !kit.inAirflow && html`<${Badge} state=${data.state} />`],
        ["Flow", html`<${Link} to=${{ dagId }}>${oneLine(data.flowId)}<//>`],
        ["Version", data.version],
        ["Start", !kit.inAirflow && data.start && html`<${Time} value=${data.start} />`],
        ["Duration", !kit.inAirflow && seconds !== null && duration(seconds)],
        ["Checkpoint", data.checkpoint && html`<span>${oneLine(data.checkpoint.name)} <small className="muted"><${Time} value=${data.checkpoint.at} /></small></span>`],
        ["Waits", waits.length > 0 && count(waits.length, "event")],
      ]} />
      ${data.error && html`<div className="allma-problem" role="alert"><div><strong>${oneLine(data.error.errorName ?? "The run failed")}</strong><p>${visible(data.error.errorMessage ?? "")}</p></div></div>`}
      ${data.picture
        ? html`<div className=${`allma-beside ${node ? "open" : ""}`} onKeyDown=${(event) => event.key === "Escape" && put({ step: null })}>
            <${Picture} picture=${data.picture} label="Picture of the run" infoOf=${infoOf} selected=${query.step} onSelect=${(one) => put({ step: one.step === query.step ? null : one.step })} />
            ${node && html`<${Step} key=${node.step} dagId=${dagId} runId=${runId} node=${node} shown=${infoOf(node) ?? {}} state=${inside.get(node.id) && runsWhole(inside.get(node.id), node) ? undefined : steps[node.step]} fork=${forkOf.get(node.step)} around=${inside.get(node.id)} isRunning=${data.isRunning} put=${put} />`}
          </div>`
        : html`<${Empty} title="No picture">The flow of this run could not be read; it may be from an earlier version of airflow-allma.<//>`}
      ${waits.length > 0 && html`<${Waits} waits=${waits} onChanged=${(sentence) => { setDone(sentence); changed(); }} />`}
      ${forks.map((fork) => html`<${ForkCard} key=${fork.fork} dagId=${dagId} runId=${runId} summary=${fork} onChanged=${changed} />`)}
    <//>`;
  };
};
