// The application: which page is shown, over a host that gives React's functions, a router and the query
// string.

import htm from "./vendor/htm.js";
import * as data from "./data.js";
import * as text from "./text.js";
import { makeUi } from "./ui.js";

const NOT_LOADED =
  "This page could not be loaded. Reload it; if that does not help, the API server's log says why.";
const ROUTES = { flows: "allma-flows", flow: "allma-flow", run: "allma-run", items: "allma-items" };

async function addStyles(name) {
  const href = new URL(name, import.meta.url).href;
  if ([...globalThis.document.styleSheets].some((sheet) => sheet.href === href)) return;
  const link = Object.assign(globalThis.document.createElement("link"), { rel: "stylesheet", href });
  const done = new Promise((resolve) => {
    link.onload = resolve;
    link.onerror = resolve; // the page can be read without its styles
  });
  globalThis.document.head.append(link);
  await done;
}

function segmentOf(text) {
  // Airflow's router compares paths as texts, and its own links have ":" and "+" of run ids as they are.
  return encodeURIComponent(text).replaceAll("%3A", ":").replaceAll("%2B", "+");
}

/** Return the path of our page below Airflow's root: `{dagId, runId, taskId, mapIndex}`, all optional. */
export function pathInAirflow({ dagId, runId, taskId, mapIndex }) {
  const parts = [];
  let page = "flows";
  if (dagId !== undefined) {
    parts.push("dags", dagId);
    page = "flow";
  }
  if (runId !== undefined) {
    parts.push("runs", runId);
    page = "run";
  }
  if (taskId !== undefined) {
    parts.push("tasks", taskId);
    page = "items";
    if (mapIndex !== undefined && Number(mapIndex) >= 0) parts.push("mapped", String(mapIndex));
  }
  return `/${[...parts, "plugin", ROUTES[page]].map(segmentOf).join("/")}`;
}

function makePlaceOf({ prefix, inAirflow }) {
  const isSet = ([, value]) => value !== undefined && value !== null;

  /** Return path and query of a page of ours: `{dagId, runId, taskId, mapIndex, query}`, all optional. */
  return function placeOf({ query = {}, ...place }) {
    const named = Object.entries(query).filter(isSet).filter(([, value]) => value !== "");
    const own = named.map(([name, value]) => [prefix + name, String(value)]);
    if (inAirflow) return pathInAirflow(place) + (own.length ? `?${new URLSearchParams(own)}` : "");
    const { dagId, runId, taskId, mapIndex } = place;
    const ids = { dag_id: dagId, run_id: runId, task_id: taskId, map_index: mapIndex };
    const chosen = Object.entries(ids).filter(isSet);
    return `${globalThis.location.pathname}?${new URLSearchParams([...chosen, ...own])}`;
  };
}

function pageFor({ dagId, runId, taskId }, query) {
  if (!dagId) return "flows";
  if (!runId) return "flow";
  return taskId || query.fork ? "items" : "run";
}

/** Return the component that shows the error of a page that failed to draw. */
function makeBoundary({ html, Component, Problem, RequestError }) {
  return class Boundary extends Component {
    constructor(props) {
      super(props);
      this.state = { error: null };
    }

    static getDerivedStateFromError(error) {
      return { error };
    }

    render() {
      const { error } = this.state;
      if (!error) return this.props.children;
      const failure = new RequestError(0, `This page failed: ${error.message}`);
      return html`<${Problem} error=${failure} onRetry=${() => this.setState({ error: null })} />`;
    }
  };
}

/** Return the component of all pages.
 *
 * `host` has createElement, Component, Fragment and the hooks of React, and:
 *   inAirflow     whether Airflow's own router is here
 *   prefix        of our names in the query string
 *   useNavigate   hook: a function that goes to a path below Airflow's root, or to a query of its own page
 *   useQuery      hook: [names without the prefix and their values, function (patch, {push})]
 */
export function make(host) {
  const { createElement, useEffect, useState } = host;
  const html = htm.bind(createElement);
  const kit = { ...host, ...data, ...text, html, placeOf: makePlaceOf(host) };
  Object.assign(kit, makeUi(kit));

  const pages = new Map(); // one component for each page, or React would make it anew

  function usePage(name) {
    const [shown, show] = useState({});
    useEffect(() => {
      let isOn = true;
      if (!pages.has(name)) pages.set(name, import(`./${name}.js`).then((module) => module.default(kit)));
      pages.get(name).then(
        (Page) => isOn && show({ name, Page }),
        (error) => {
          pages.delete(name);
          console.warn(error);
          if (isOn) show({ name, error: new data.RequestError(0, NOT_LOADED) });
        },
      );
      return () => { isOn = false; };
    }, [name]);
    return shown.name === name ? shown : {};
  }

  const Boundary = makeBoundary(kit);

  return function AllmaApp({ dagId, runId, taskId, mapIndex }) {
    const [query] = host.useQuery();
    const name = pageFor({ dagId, runId, taskId }, query);
    const { Page, error } = usePage(name);
    const key = [name, dagId, runId, taskId, mapIndex].join("\n");
    return html`<div className="allma" data-page=${name}>
      ${error && html`<${kit.Problem} error=${error} />`}
      ${!Page && !error && html`<${kit.Loading} />`}
      ${Page && html`<${Boundary} key=${key}>
        <${Page} dagId=${dagId} runId=${runId} taskId=${taskId} mapIndex=${mapIndex} />
      <//>`}
    </div>`;
  };
}

await Promise.all(["./allma.css", "./flows.css"].map(addStyles));
