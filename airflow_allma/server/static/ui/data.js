// How the pages talk to the server: JSON from the plugin's routes, changes through Airflow's own API.

const POLL_MILLISECONDS = 3000;
const SIGN_IN_AGAIN_MILLISECONDS = 15_000;
const ASK_ADMINISTRATOR = "Ask an Airflow administrator for the permission.";
const NOT_JSON =
  "The server's answer is not JSON. Something between it and the browser may have replaced it.";

// Below <root>/allma/static/<version>/, wherever in it: Airflow may be below a path of its host.
const HERE = new URL(".", import.meta.url).href;
const ALLMA = HERE.slice(0, HERE.indexOf("/allma/static/") + "/allma/".length);

/** Return an address below the plugin's API, from parts of a path: `api(["dags", dagId], {show: "all"})`. */
export function api(parts, query = {}) {
  const url = new URL(`api/${parts.map(encodeURIComponent).join("/")}`, ALLMA);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url.href;
}

/** Return the address of a page of Airflow, or of a route of it, from a path such as "/dags/orders". */
export function airflow(path) {
  // "./" keeps whatever comes inside the root: neither another host nor another scheme.
  return new URL(`../${`./${path}`.replace(/^\.\/[/\\]+/, "./")}`, ALLMA).href;
}

/** Return the address of a page of the plugin that needs no tab of Airflow. */
export function ownPage(query = "") {
  return `${ALLMA}ui${query}`;
}

/** A request that failed: `status` (0 if there was no answer), and a sentence as the message. */
export class RequestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function detailOf(body) {
  const detail = body?.detail;
  if (typeof detail === "string") return detail;
  // FastAPI lists what is wrong with a request.
  return Array.isArray(detail) ? detail.map((one) => one?.msg).filter(Boolean).join("; ") : "";
}

function sentence(status, body) {
  const detail = detailOf(body);
  if (status === 401) {
    return "You are not signed in to Airflow, or your session has expired. Sign in, then reload this page.";
  }
  if (status === 403) {
    const reason = `403${detail ? `: ${detail}` : ""}`;
    return `Airflow does not allow you to do this (${reason}). ${ASK_ADMINISTRATOR}`;
  }
  return detail || `The server answered ${status} and gave no reason. Its log may say more.`;
}

/** Send a request and return its JSON; a `RequestError` with a sentence otherwise. */
export async function request(url, options = {}) {
  let response;
  try {
    const headers = { Accept: "application/json", ...options.headers };
    response = await fetch(url, { credentials: "same-origin", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError(0, "Airflow's server does not answer. Check the connection, then try again.");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  if (!response.ok) throw new RequestError(response.status, sentence(response.status, body));
  throw new RequestError(response.status, NOT_JSON);
}

/** Send JSON to an address, and return the JSON that it answers. */
export function send(url, method, body) {
  const headers = { "Content-Type": "application/json" };
  return request(url, { method, headers, body: JSON.stringify(body) });
}

/** Send JSON to a route of Airflow's own API, with the user's own rights; return its answer. */
export function change(path, method, body) {
  return send(airflow(`api/v2/${path}`), method, body);
}

/** Return the address of Airflow's sign-in, which comes back to this page. */
export function signInPage() {
  return airflow(`api/v2/auth/login?${new URLSearchParams({ next: globalThis.location.href })}`);
}

function signIn() {
  // As Airflow's own pages do; not twice in a row, if the sign-in sends back at once.
  const last = Number(globalThis.sessionStorage.getItem("allma_sign_in") ?? 0);
  if (Date.now() - last < SIGN_IN_AGAIN_MILLISECONDS) return;
  globalThis.sessionStorage.setItem("allma_sign_in", String(Date.now()));
  globalThis.location.replace(signInPage());
}

/** Return the hook `useJson(url, {live})` of a host.
 *
 * It returns `{data, error, isLoading, reload}`. `data` stays while the same or another address is loaded.
 * The address is loaded every 3 s as long as `live` is true, or `live(data)` is; not in a hidden window. An
 * address of null loads nothing.
 */
export function makeUseJson({ useEffect, useRef, useState }) {
  return function useJson(url, { live = (data) => Boolean(data?.isRunning) } = {}) {
    const [state, setState] = useState({ url: null });
    const [turn, setTurn] = useState(0);
    const isLive = useRef(live);
    isLive.current = live;
    useEffect(() => {
      if (url === null) return undefined;
      const abort = new AbortController();
      let timer;
      const load = async () => {
        let next;
        try {
          next = { url, data: await request(url, { signal: abort.signal }) };
        } catch (error) {
          if (abort.signal.aborted) return;
          if (error.status === 401) signIn();
          next = { url, error };
        }
        if (abort.signal.aborted) return;
        // A failed poll keeps what is shown, below the error.
        setState((old) => (next.error && old.url === url ? { ...next, data: old.data } : next));
        wait(next);
      };
      const wait = (seen) => {
        const more = typeof isLive.current === "function" ? isLive.current(seen.data) : isLive.current;
        const again = seen.error ? [0, 503].includes(seen.error.status) : more;
        const poll = () => (globalThis.document.hidden ? wait(seen) : load());
        if (again) timer = setTimeout(poll, POLL_MILLISECONDS);
      };
      load();
      return () => {
        abort.abort();
        clearTimeout(timer);
      };
    }, [url, turn]);
    const isCurrent = state.url === url;
    return {
      data: url === null ? undefined : state.data,
      error: isCurrent ? state.error : undefined,
      isLoading: url !== null && !isCurrent,
      reload: () => setTurn((old) => old + 1),
    };
  };
}
