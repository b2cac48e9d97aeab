// A page of its own, for users whose rights show them no tabs of plugins: Preact, and the address of this
// page.

import { make } from "./core.js";
import { Component, Fragment, createElement, render } from "./vendor/preact.js";
import * as hooks from "./vendor/preact-hooks.js";
import { airflow } from "./data.js";

const PREFIX = "allma_";
const CHANGED = "allma-address";
const SVG_NAME = /^(?:clip|dominant|fill|font|marker(?=[ESM])|paint|shape|stop|stroke|text(?!L)|vector)[A-Z]/;

function attributes(props) {
  const made = {};
  for (const [name, value] of Object.entries(props)) {
    const dashed = name.replace(/[A-Z]/g, (sign) => `-${sign.toLowerCase()}`);
    if (name === "className") made.class = value;
    else made[SVG_NAME.test(name) ? dashed : name] = value;
  }
  return made;
}

function element(type, props, ...children) {
  return createElement(type, props && typeof type === "string" ? attributes(props) : props, ...children);
}

function go(url, push) {
  globalThis.history[push ? "pushState" : "replaceState"]({}, "", url);
  globalThis.dispatchEvent(new Event(CHANGED));
}

function useAddress() {
  const [address, setAddress] = hooks.useState(globalThis.location.search);
  hooks.useEffect(() => {
    const changed = () => setAddress(globalThis.location.search);
    for (const name of [CHANGED, "popstate"]) globalThis.addEventListener(name, changed);
    return () => {
      for (const name of [CHANGED, "popstate"]) globalThis.removeEventListener(name, changed);
    };
  }, []);
  return address;
}

function useQuery() {
  const query = {};
  for (const [name, value] of new URLSearchParams(useAddress())) {
    if (name.startsWith(PREFIX)) query[name.slice(PREFIX.length)] = value;
  }
  const put = (patch, { push = false } = {}) => {
    const next = new URL(globalThis.location.href);
    for (const [name, value] of Object.entries(patch)) {
      if (value === null || value === undefined || value === "") next.searchParams.delete(PREFIX + name);
      else next.searchParams.set(PREFIX + name, value);
    }
    go(next, push);
  };
  return [query, put];
}

// Airflow's pages are other documents from here.
const useNavigate = () => (to) => {
  const url = new URL(to, globalThis.location.href);
  if (url.pathname === globalThis.location.pathname) go(url, true);
  else globalThis.location.assign(url);
};

function followTheme() {
  const dark = globalThis.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    const chosen = globalThis.localStorage.getItem("theme"); // where Airflow keeps it
    const isDark = chosen === "dark" || (chosen !== "light" && dark.matches);
    globalThis.document.documentElement.classList.toggle("dark", isDark);
  };
  follow();
  dark.addEventListener("change", follow);
  globalThis.addEventListener("storage", follow);
}

const App = make({
  ...hooks,
  Component,
  Fragment,
  createElement: element,
  inAirflow: false,
  prefix: PREFIX,
  useNavigate,
  useQuery,
});

function Root() {
  const query = new URLSearchParams(useAddress());
  const value = (name) => query.get(name) || undefined;
  const [dagId, runId] = [value("dag_id"), value("run_id")];
  const link = (ids, name) => element("a", { href: `?${new URLSearchParams(ids)}` }, name);
  const top = element("header", { className: "allma-top" },
    element("a", { href: airflow("/") }, "Airflow"),
    link({}, "Flows"),
    dagId && link({ dag_id: dagId }, dagId),
    runId && link({ dag_id: dagId, run_id: runId }, runId));
  const app = element(App, { dagId, runId, taskId: value("task_id"), mapIndex: value("map_index") });
  return element(Fragment, null, top, app);
}

followTheme();
render(element(Root), globalThis.document.querySelector("#root"));
