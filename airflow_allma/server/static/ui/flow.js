// One flow: its picture, its JSON, its versions, and its payload.

import makePicture from "./picture.js";
import makeSource from "./source.js";
import { linesOf, pathIn, valueAt } from "./source_lines.js";
import makeTrigger from "./trigger.js";

export default (kit) => {
  const { html, useMemo, useState, api, count, oneLine, Badge, Button, Copy, Empty, Facts, Json, Link, Loading, Page, Problem, Table, Tabs, Time, useJson } = kit;
  const Picture = makePicture(kit);
  const Source = makeSource(kit);
  const Trigger = makeTrigger(kit);

  function Step({ node, document, lines, put }) {
    const value = valueAt(document, node.path);
    const own = pathIn(document, node.path);
    const place = own && lines.get(JSON.stringify(own));
    return html`<aside className="allma-side" aria-label=${`Step ${oneLine(node.title)}`}>
      <div className="allma-head">
        <h2>${oneLine(node.title)}</h2>
        <div className="allma-actions"><${Button} className="allma-button ghost small" aria-label="Close the step" onClick=${() => put({ step: null })}>✕<//></div>
      </div>
      <${Facts} facts=${[
        ["Step", oneLine(node.step)],
        ["Type", html`<code>${oneLine(node.type)}</code>`],
        ["What it does", oneLine(node.detail)],
        ["Source", place && html`<${Button} kind="link" onClick=${() => put({ tab: "json" })}>${place.first === place.last ? `line ${place.first}` : `lines ${place.first} to ${place.last}`}<//>`],
        ["Flow", node.flow && html`<${Link} to=${{ dagId: node.flow }}>${oneLine(node.flow)}<//>`],
      ]} />
      ${value !== undefined && html`<${Json} label=${`JSON of step ${node.step}`} value=${value} />`}
    </aside>`;
  }

  function Versions({ flow }) {
    const columns = [
      { key: "version", title: "Version of the flow", cell: (row) => row.version ?? html`<span className="muted">not a flow</span>` },
      { key: "dag", title: "Version of the Dag", cell: (row) => `v${row.dagVersion}` },
      { key: "created", title: "Since", cell: (row) => html`<${Time} value=${row.createdAt} />` },
      { key: "now", title: html`<span className="hidden">State</span>`, cell: (row) => (row === flow.versions[0] ? html`<${Badge} color="info">runs now<//>` : "") },
    ];
    return html`<${Table} label="Versions" columns=${columns} rows=${flow.versions} keyOf=${(row) => row.dagVersion} empty=${html`<${Empty} title="No versions yet" />`} />`;
  }

  function Payload({ flow, onTrigger }) {
    const { schema, example } = flow.payload;
    const text = JSON.stringify(example ?? {}, null, 2);
    return html`<div className="allma-columns">
      <section><div className="allma-head"><h2>Example</h2><div className="allma-actions">
        <${Copy} className="allma-button outline small" text=${text} label="Copy" /><${Button} className="allma-button primary small" onClick=${onTrigger}>Trigger<//></div></div>
        <${Json} label="Example of a payload" value=${example ?? {}} />
        ${!schema && html`<p className="muted">The flow has no <code>inputSchema</code>: these are the names that its steps read from <code>$.initialContextData</code>.</p>`}
      </section>
      ${schema && html`<section><div className="allma-head"><h2>Schema</h2></div><${Json} label="JSON Schema of the payload" value=${schema} /></section>`}
    </div>`;
  }

  return function Flow({ dagId }) {
    const [query, put] = kit.useQuery();
    const [isTrigger, setTrigger] = useState(false);
    const { data, error, isLoading, reload } = useJson(api(["dags", dagId, "flow"]));
    const source = data?.source ?? "";
    const document = useMemo(() => {
      try {
        return JSON.parse(source);
      } catch {
        return null;
      }
    }, [source]);
    const lines = useMemo(() => linesOf(source), [source]);
    if (!data) return html`<${Page}>${error ? html`<${Problem} error=${error} onRetry=${reload} />` : isLoading && html`<${Loading} lines=${8} />`}<//>`;
    if (!data.isFlow) return html`<${Page}><${Empty} title="Not an Allma flow">This page shows Dags that are made from Allma flows only.<//><//>`;
    const problems = data.problems ?? [];
    const node = data.picture?.nodes.find((one) => one.step === query.step && one.kind !== "branch");
    const own = node && pathIn(document, node.path);
    const chosen = own ? lines.get(JSON.stringify(own)) : undefined;
    const steps = data.picture?.nodes.filter((one) => one.type).length ?? 0;
    const tab = ["json", "versions", "payload"].includes(query.tab) ? query.tab : "picture";
    const tabs = [
      { key: "picture", title: "Picture" },
      { key: "json", title: "JSON", count: problems.length || undefined },
      { key: "versions", title: "Versions" },
      { key: "payload", title: "Payload" },
    ];
    // Airflow's own header, above this page, has the name and a form to trigger.
    const head = kit.inAirflow ? {} : { title: oneLine(data.name || data.flowId), actions: html`<${Button} kind="primary" onClick=${() => setTrigger(true)}>Trigger<//>` };
    return html`<${Page} ...${head}>
      ${error && html`<${Problem} error=${error} onRetry=${reload} />`}
      ${data.description && html`<p className="allma-about">${oneLine(data.description)}</p>`}
      <${Facts} facts=${[
        ["Flow", oneLine(data.flowId)],
        ["Version", data.version],
        ["Schedule", data.schedule ? oneLine(data.schedule) : "none"],
        ["State", data.paused && html`<${Badge} state="paused" />`],
        ["Steps", steps || null],
        ["Warnings", problems.length > 0 && html`<${Button} kind="link" onClick=${() => put({ tab: "json" })}>${count(problems.length, "problem")}<//>`],
      ]} />
      <div className="allma-tools"><${Tabs} label="What is shown" tabs=${tabs} selected=${tab} onSelect=${(key) => put({ tab: key === "picture" ? null : key })} /></div>
      ${tab === "picture" && (data.picture
        ? html`<div className=${`allma-beside ${node ? "open" : ""}`} onKeyDown=${(event) => event.key === "Escape" && put({ step: null })}>
            <${Picture} picture=${data.picture} selected=${query.step} onSelect=${(one) => put({ step: one.step === query.step ? null : one.step })} />
            ${node && html`<${Step} key=${node.id} node=${node} document=${document} lines=${lines} put=${put} />`}
          </div>`
        : html`<${Empty} title="No picture">The flow's JSON could not be read; the Dag may be from an earlier version of airflow-allma.<//>`)}
      ${tab === "json" && html`<${Source} source=${source} problems=${problems} chosen=${chosen} />`}
      ${tab === "versions" && html`<${Versions} flow=${data} />`}
      ${tab === "payload" && html`<${Payload} flow=${data} onTrigger=${() => setTrigger(true)} />`}
      ${isTrigger && html`<${Trigger} dagId=${dagId} flow=${data} onClose=${() => setTrigger(false)} />`}
    <//>`;
  };
};
