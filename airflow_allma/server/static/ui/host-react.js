// Inside Airflow's UI: its React and its router. Airflow imports this module once and then looks for a
// global name.

import { make } from "./core.js";

const { React, ReactRouterDOM } = globalThis;
const PREFIX = "allma_"; // Airflow's own pages use the same query string
const NAMES = ["Allma flows", "Allma flow", "Allma run", "Allma items"];

function useQuery() {
  const [parameters, setParameters] = ReactRouterDOM.useSearchParams();
  const query = {};
  for (const [name, value] of parameters) {
    if (name.startsWith(PREFIX)) query[name.slice(PREFIX.length)] = value;
  }
  const put = (patch, { push = false } = {}) => {
    setParameters((old) => {
      const next = new URLSearchParams(old);
      for (const [name, value] of Object.entries(patch)) {
        if (value === null || value === undefined || value === "") next.delete(PREFIX + name);
        else next.set(PREFIX + name, value);
      }
      return next;
    }, { replace: !push });
  };
  return [query, put];
}

const App = make({
  ...React,
  inAirflow: true,
  prefix: PREFIX,
  useNavigate: ReactRouterDOM.useNavigate,
  useQuery,
});

// Every name: the module is evaluated once, and the next tab asks for another one.
for (const name of NAMES) globalThis[name] = App;
globalThis.AirflowPlugin = App;
