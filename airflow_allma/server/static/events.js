// The list of what waits, and the dialog that resumes. Everything shown is put in as text, never as HTML.

const PAGE = 50;
const POLL_MILLISECONDS = 10_000;
const SIGN_IN =
  "You are not signed in to Airflow, or your session has expired. Sign in, then reload this page.";
const $ = (selector) => document.querySelector(selector);
const status = $("#status");
const table = $("table");
const dialog = $("dialog");
let offset = 0;
let chosen = null;

async function call(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  const response = await fetch(path, { credentials: "same-origin", ...options, headers });
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) throw new Error(SIGN_IN);
  if (response.ok) return body;
  throw new Error(typeof body.detail === "string" ? body.detail : `The server answered ${response.status}.`);
}

function element(name, text, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  return made;
}

function cell(text, note, properties) {
  const made = element("td", text, properties);
  if (note) made.append(element("small", note));
  return made;
}

// Below Airflow's root, from <root>/allma/events.
const root = new URL("..", document.baseURI);

function runLink(wait) {
  const path = `dags/${encodeURIComponent(wait.dagId)}/runs/${encodeURIComponent(wait.runId)}`;
  const link = element("a", wait.runId, { href: new URL(path, root).href });
  link.addEventListener("click", (event) => {
    // In Airflow's page this is a frame, which may not leave it; Airflow's own router can.
    if (window.parent === window || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    window.parent.history.pushState({}, "", link.href);
    window.parent.dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  });
  return link;
}

function when(seconds) {
  return new Date(seconds * 1000).toLocaleString();
}

function row(wait) {
  const made = element("tr");
  const key = element("td");
  key.append(element("code", wait.key));
  const run = element("td");
  run.append(runLink(wait), element("small", wait.dagId));
  const item = wait.item !== null && `item ${wait.item}`;
  const place = [wait.branch && `branch ${wait.branch}`, item].filter(Boolean);
  const late = wait.until * 1000 < Date.now();
  const actions = element("td");
  const reason = wait.mayResume ? "" : "You may not resume tasks of this Dag.";
  const button = element("button", "Resume", { disabled: !wait.mayResume, title: reason });
  button.addEventListener("click", () => open(wait));
  actions.append(button);
  made.append(
    key, run, cell(wait.step, place.join(", ")), cell(when(wait.since)),
    cell(when(wait.until), late ? "over" : "", { className: late ? "late" : "" }),
    cell(wait.message ?? "", "", { className: "message" }), actions,
  );
  return made;
}

async function show() {
  const filter = new FormData($("#filter"));
  const query = new URLSearchParams({ limit: PAGE, offset });
  for (const [name, value] of filter) if (value) query.set(name, value);
  try {
    const page = await call(`waits?${query}`);
    table.tBodies[0].replaceChildren(...page.waits.map(row));
    const last = offset + page.waits.length;
    status.textContent = page.total ? `${offset + 1} to ${last} of ${page.total}` : "Nothing waits.";
    table.hidden = !page.total;
    $("#pages").hidden = page.total <= PAGE;
    $("#previous").disabled = offset === 0;
    $("#next").disabled = last >= page.total;
  } catch (error) {
    status.textContent = error.message;
  }
}

function open(wait) {
  chosen = wait;
  $("#what").textContent = `${wait.key}: step ${wait.step} of ${wait.runId}`;
  $("#answer").textContent = "";
  $("#resume").payload.value = "{}";
  dialog.showModal();
}

async function resume(event) {
  event.preventDefault();
  const answer = $("#answer");
  let payload;
  try {
    payload = JSON.parse($("#resume").payload.value || "{}");
  } catch (error) {
    answer.textContent = `The payload is not JSON: ${error.message}`;
    return;
  }
  try {
    await call("resume", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ correlationValue: chosen.key, payload }),
    });
    dialog.close();
    await show();
  } catch (error) {
    answer.textContent = error.message;
  }
}

function turn(by) {
  offset = Math.max(0, offset + by);
  show();
}

for (const [name, value] of new URLSearchParams(location.search)) {
  const input = $("#filter").elements.namedItem(name);
  if (input instanceof HTMLInputElement) input.value = value;
}
$("#filter").addEventListener("submit", (event) => { event.preventDefault(); offset = 0; show(); });
$("#previous").addEventListener("click", () => turn(-PAGE));
$("#next").addEventListener("click", () => turn(PAGE));
$("#cancel").addEventListener("click", () => dialog.close());
$("#resume").addEventListener("submit", resume);
setInterval(() => { if (!document.hidden && !dialog.open) show(); }, POLL_MILLISECONDS);
show();
