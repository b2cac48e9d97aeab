// The application: which page is shown, over a host that gives React's functions, a router and the query string.

import htm from "./vendor/htm.js";
import * as data from "./data.js";
import * as text from "./text.js";
import { makeUi } from "./ui.js";

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

/** Return the component of all pages.
 *
 * `host` has createElement, Component, Fragment and the hooks of React, and:
 *   inAirflow     whether Airflow's own router is here
 *   prefix        of our names in the query string
 *   useNavigate   hook: a function that goes to a path below Airflow's root, or to a query of the page of its own
 *   useQuery      hook: [names without the prefix and their values, function (patch, {push})]
 */
export function make(host) {
  const { createElement, useEffect, useState } = host;
  const html = htm.bind(createElement);
  const kit = { ...host, ...data, ...text, html };

  /** Path and query of a page of ours: `{dagId, runId, taskId, mapIndex, query}`, each but `query` may be missing. */
  kit.placeOf = ({ dagId, runId, taskId, mapIndex, query = {} }) => {
    const named = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
    const own = named.map(([name, value]) => [host.prefix + name, String(value)]);
    if (!host.inAirflow) {
      const ids = { dag_id: dagId, run_id: runId, task_id: taskId, map_index: mapIndex };
      const chosen = Object.entries(ids).filter(([, value]) => value !== undefined && value !== null);
      return `${globalThis.location.pathname}?${new URLSearchParams([...chosen, ...own])}`;
    }
    const parts = dagId === undefined ? [] : ["dags", dagId];
    if (runId !== undefined) parts.push("runs", runId);
    if (taskId !== undefined) parts.push("tasks", taskId);
    if (taskId !== undefined && mapIndex !== undefined && Number(mapIndex) >= 0) parts.push("mapped", String(mapIndex));
    const page = taskId !== undefined ? "items" : runId !== undefined ? "run" : dagId !== undefined ? "flow" : "flows";
    const tail = own.length ? `?${new URLSearchParams(own)}` : "";
    return `/${[...parts, "plugin", ROUTES[page]].map(encodeURIComponent).join("/")}${tail}`;
  };
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
          if (isOn) show({ name, error: new data.RequestError(0, "This page could not be loaded. Reload it; if that does not help, the API server's log says why.") });
        },
      );
      return () => { isOn = false; };
    }, [name]);
    return shown.name === name ? shown : {};
  }

  function pageFor({ dagId, runId, taskId }, query) {
    if (!dagId) return "flows";
    if (!runId) return "flow";
    return taskId || query.fork ? "items" : "run";
  }

  class Boundary extends host.Component {
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
      const failure = new data.RequestError(0, `This page failed: ${error.message}`);
      return html`<${kit.Problem} error=${failure} onRetry=${() => this.setState({ error: null })} />`;
    }
  }

  return function AllmaApp({ dagId, runId, taskId, mapIndex }) {
    const [query] = host.useQuery();
    const name = pageFor({ dagId, runId, taskId }, query);
    const { Page, error } = usePage(name);
    const key = [name, dagId, runId, taskId, mapIndex].join("\n");
    return html`<div className="allma" data-page=${name}>
      ${error && html`<${kit.Problem} error=${error} />`}
      ${!Page && !error && html`<${kit.Loading} />`}
      ${Page && html`<${Boundary} key=${key}><${Page} dagId=${dagId} runId=${runId} taskId=${taskId} mapIndex=${mapIndex} /><//>`}
    </div>`;
  };
}

await Promise.all(["./allma.css", "./flows.css"].map(addStyles));
