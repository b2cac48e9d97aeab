// What the picture of a run says of each step and fork: its state in a word, and a line of numbers.

import { count, duration, number } from "./text.js";
import { paletteOf } from "./ui.js";

const WORDS = {
  success: "succeeded",
  failed: "failed",
  running: "running",
  queued: "queued",
  waiting: "waiting",
  skipped: "skipped",
  upstream_failed: "upstream failed",
  none: "not started",
};
const ORDER = ["failed", "running", "waiting", "queued", "upstream_failed", "success", "skipped", "none"];
const TIMELESS = ["skipped", "upstream_failed", "queued"]; // the times of these states mean nothing

function joined(parts) {
  return parts.filter(Boolean).map((part) => ` · ${part}`).join("");
}

/** Return how long something took, or has taken until now; null if it has not begun. */
export function secondsOf({ start, end, seconds }, isRunning) {
  if (seconds !== null && seconds !== undefined) return seconds;
  if (!start) return null;
  if (end) return end - start;
  return isRunning ? Date.now() / 1000 - start : null;
}

/** Return what a step's box shows. */
export function stepInfo(state, node) {
  if (!state || state.state === "none") return { line: node.detail };
  const { state: name, counts = {}, tries } = state;
  const shown = { state: name, palette: paletteOf(name) };
  const total = Object.values(counts).reduce((sum, one) => sum + one, 0);
  if (total > 1) {
    // Of a step that ran for many items, how it went is more than how long it took.
    const states = ORDER.filter((one) => counts[one]).map((one) => `${number(counts[one])} ${WORDS[one]}`);
    return { ...shown, word: states[0], line: joined(states.slice(1)) };
  }
  const seconds = TIMELESS.includes(name) ? "" : duration(secondsOf(state, name === "running"));
  const line = joined([seconds, tries > 1 && count(tries, "try", "tries")]);
  return { ...shown, word: WORDS[name] ?? name, line };
}

/** Return what the box of a step shows that has no task of its own: how many items failed there. */
export function itemsInfo(fork, node) {
  const kinds = (fork.kinds ?? []).filter((kind) => kind.step === node.step);
  const failed = kinds.reduce((sum, kind) => sum + kind.count, 0);
  if (!failed) return { line: node.detail };
  const word = `${number(failed)} failed`;
  return { state: "failed", palette: "failed", word, line: joined([node.detail]) };
}

function stateOfFork(fork, state) {
  if (fork.isRunning) return "running";
  if (state?.state && state.state !== "none") return state.state;
  if (fork.failed) return "failed";
  return fork.ended ? "success" : "none";
}

/** Return what a fork's box shows. */
export function forkInfo(fork, state) {
  const name = stateOfFork(fork, state);
  if (name === "none") return {};
  const ended = `${number(fork.ended)} of ${number(fork.items)} items`;
  const failed = `${number(fork.failed)} failed`;
  const times = fork.isRunning
    ? [
        fork.perSecond && `${Math.round(fork.perSecond)}/s`,
        fork.secondsLeft && `${duration(fork.secondsLeft)} left`,
      ]
    : [duration(secondsOf(fork))];
  const parts = [
    { state: "success", value: fork.succeeded },
    { state: "failed", value: fork.failed },
    { state: "skipped", value: fork.skipped },
    { state: "running", value: fork.running },
  ];
  return {
    state: name,
    palette: paletteOf(name),
    word: WORDS[name] ?? name,
    line: joined([ended, fork.failed && failed, ...times]),
    bar: { label: `${ended} have ended, ${failed}`, total: fork.items, parts },
  };
}

/** Return the fork of the main path in which each node of a picture is, by the node's id. */
function forksAround(picture, forkOf) {
  const around = new Map();
  for (const node of picture?.nodes ?? []) {
    const fork = node.kind === "branch" && forkOf.get(node.step);
    around.set(node.id, fork || around.get(node.parent));
  }
  return around;
}

/** Return functions of a run's nodes.
 *
 * `forkOf(node)`: the fork that it is; `around(node)`: the fork in which it is; `stateOf(node)`: its state,
 * if it has one of its own; `infoOf(node)`: what its box shows.
 */
export function describe({ picture, forks = [], steps = {} }) {
  const byStep = new Map(forks.map((fork) => [fork.fork, fork]));
  const inside = forksAround(picture, byStep);
  const uses = new Map(); // task -> number of steps that it runs
  for (const { tasks } of Object.values(steps)) {
    for (const { taskId } of tasks ?? []) uses.set(taskId, (uses.get(taskId) ?? 0) + 1);
  }
  const sharesTask = (node) => (steps[node.step]?.tasks ?? []).some((task) => uses.get(task.taskId) > 1);
  const forkOf = (node) => byStep.get(node.step);
  const around = (node) => inside.get(node.id);
  const isPartOfTask = (node) => {
    const fork = around(node);
    return Boolean(fork) && (fork.mode === "chunks" || sharesTask(node));
  };
  const stateOf = (node) => (isPartOfTask(node) ? undefined : steps[node.step]);
  const infoOf = (node) => {
    if (!node.step || node.kind === "branch") return undefined;
    if (isPartOfTask(node)) return itemsInfo(around(node), node);
    const fork = forkOf(node);
    return fork ? forkInfo(fork, steps[node.step]) : stepInfo(steps[node.step], node);
  };
  return { forkOf, around, stateOf, infoOf };
}
