// One flow: its picture, its JSON, its versions, and its payload.

import makePicture from "./picture.js";
import makeSource from "./source.js";
import { linesOf, pathIn, valueAt } from "./source_lines.js";
import makeTrigger from "./trigger.js";

const TABS = ["json", "versions", "payload"]; // besides the picture

function parsed(source) {
  try {
    return JSON.parse(source);
  } catch {
    return null;
  }
}

/** Return the page. */
export default (kit) => {
  const { html, useMemo, useState, api, count, oneLine } = kit;
  const { Badge, Button, Copy, Empty, Facts, Json, Link, Loading } = kit;
  const { Page, Problem, Table, Tabs, Time, useJson } = kit;
  const Picture = makePicture(kit);
  const Source = makeSource(kit);
  const Trigger = makeTrigger(kit);

  function Lines({ lines, put }) {
    const { first, last } = lines;
    const text = first === last ? `line ${first}` : `lines ${first} to ${last}`;
    return html`<${Button} kind="link" onClick=${() => put({ tab: "json" })}>${text}<//>`;
  }

  function Step({ node, document, lines, put }) {
    const value = valueAt(document, node.path);
    return html`<aside className="allma-side" aria-label=${`Step ${oneLine(node.title)}`}>
      <div className="allma-head">
        <h2>${oneLine(node.title)}</h2>
        <div className="allma-actions">
          <${Button} className="allma-button ghost small" aria-label="Close the step"
            onClick=${() => put({ step: null })}>✕<//>
        </div>
      </div>
      <${Facts} facts=${[
        ["Step", oneLine(node.step)],
        ["Type", html`<code>${oneLine(node.type)}</code>`],
        ["What it does", oneLine(node.detail)],
        ["Source", lines && html`<${Lines} lines=${lines} put=${put} />`],
        ["Flow", node.flow && html`<${Link} to=${{ dagId: node.flow }}>${oneLine(node.flow)}<//>`],
      ]} />
      ${value !== undefined && html`<${Json} label=${`JSON of step ${node.step}`} value=${value} />`}
    </aside>`;
  }

  function Versions({ flow }) {
    const columns = [
      {
        key: "version",
        title: "Version of the flow",
        cell: (row) => row.version ?? html`<span className="muted">not a flow</span>`,
      },
      { key: "dag", title: "Version of the Dag", cell: (row) => `v${row.dagVersion}` },
      { key: "created", title: "Since", cell: (row) => html`<${Time} value=${row.createdAt} />` },
      {
        key: "now",
        title: html`<span className="hidden">State</span>`,
        cell: (row) => (row === flow.versions[0] ? html`<${Badge} color="info">runs now<//>` : ""),
      },
    ];
    return html`<${Table} label="Versions" columns=${columns} rows=${flow.versions}
      keyOf=${(row) => row.dagVersion} empty=${html`<${Empty} title="No versions yet" />`} />`;
  }

  function Example({ example, hasSchema, onTrigger }) {
    const text = JSON.stringify(example, null, 2);
    return html`<section>
      <div className="allma-head">
        <h2>Example</h2>
        <div className="allma-actions">
          <${Copy} className="allma-button outline small" text=${text} label="Copy" />
          <${Button} className="allma-button primary small" onClick=${onTrigger}>Trigger<//>
        </div>
      </div>
      <${Json} label="Example of a payload" value=${example} />
      ${!hasSchema && html`<p className="muted">
        The flow has no <code>inputSchema</code>: these are the names that its steps read from
        ${" "}<code>$.initialContextData</code>.
      </p>`}
    </section>`;
  }

  function Payload({ flow, onTrigger }) {
    const { schema, example } = flow.payload;
    return html`<div className="allma-columns">
      <${Example} example=${example ?? {}} hasSchema=${Boolean(schema)} onTrigger=${onTrigger} />
      ${schema && html`<section>
        <div className="allma-head"><h2>Schema</h2></div>
        <${Json} label="JSON Schema of the payload" value=${schema} />
      </section>`}
    </div>`;
  }

  function FlowFacts({ flow, put }) {
    const steps = flow.picture?.nodes.filter((one) => one.type).length ?? 0;
    const problems = flow.problems?.length ?? 0;
    const text = count(problems, "problem");
    const link = html`<${Button} kind="link" onClick=${() => put({ tab: "json" })}>${text}<//>`;
    return html`<${Facts} facts=${[
      ["Flow", oneLine(flow.flowId)],
      ["Version", flow.version],
      ["Schedule", flow.schedule ? oneLine(flow.schedule) : "none"],
      ["State", flow.paused && html`<${Badge} state="paused" />`],
      ["Steps", steps || null],
      ["Warnings", problems > 0 && link],
    ]} />`;
  }

  function PictureTab({ flow, node, document, lines, query, put }) {
    if (!flow.picture) {
      return html`<${Empty} title="No picture">
        ${"The flow's JSON could not be read; the Dag may be from an earlier version of airflow-allma."}
      <//>`;
    }
    const select = ({ step }) => put({ step: step === query.step ? null : step });
    const onKeyDown = (event) => event.key === "Escape" && put({ step: null });
    return html`<div className=${`allma-beside ${node ? "open" : ""}`} onKeyDown=${onKeyDown}>
      <${Picture} picture=${flow.picture} selected=${query.step} onSelect=${select} />
      ${node && html`<${Step} key=${node.id} node=${node} document=${document} lines=${lines} put=${put} />`}
    </div>`;
  }

  function Shown({ flow, query, put, onTrigger }) {
    const source = flow.source ?? "";
    const document = useMemo(() => parsed(source), [source]);
    const lines = useMemo(() => linesOf(source), [source]);
    const node = flow.picture?.nodes.find((one) => one.step === query.step && one.kind !== "branch");
    const path = node && pathIn(document, node.path);
    const chosen = path ? lines.get(JSON.stringify(path)) : undefined;
    const problems = flow.problems ?? [];
    const tab = TABS.includes(query.tab) ? query.tab : "picture";
    const tabs = [
      { key: "picture", title: "Picture" },
      { key: "json", title: "JSON", count: problems.length || undefined },
      { key: "versions", title: "Versions" },
      { key: "payload", title: "Payload" },
    ];
    const select = (key) => put({ tab: key === "picture" ? null : key });
    return html`
      <div className="allma-tools">
        <${Tabs} label="What is shown" tabs=${tabs} selected=${tab} onSelect=${select} />
      </div>
      ${tab === "picture" && html`<${PictureTab} flow=${flow} node=${node} document=${document}
        lines=${chosen} query=${query} put=${put} />`}
      ${tab === "json" && html`<${Source} source=${source} problems=${problems} chosen=${chosen} />`}
      ${tab === "versions" && html`<${Versions} flow=${flow} />`}
      ${tab === "payload" && html`<${Payload} flow=${flow} onTrigger=${onTrigger} />`}`;
  }

  return function Flow({ dagId }) {
    const [query, put] = kit.useQuery();
    const [isTrigger, setTrigger] = useState(false);
    const { data, error, isLoading, reload } = useJson(api(["dags", dagId, "flow"]));
    const problem = error && html`<${Problem} error=${error} onRetry=${reload} />`;
    if (!data) return html`<${Page}>${problem || (isLoading && html`<${Loading} lines=${8} />`)}<//>`;
    if (!data.isFlow) {
      return html`<${Page}><${Empty} title="Not an Allma flow">
        This page shows Dags that are made from Allma flows only.
      <//><//>`;
    }
    const trigger = () => setTrigger(true);
    // Airflow's own header, above this page, has the name and a form to trigger.
    const head = kit.inAirflow ? {} : {
      title: oneLine(data.name || data.flowId),
      actions: html`<${Button} kind="primary" onClick=${trigger}>Trigger<//>`,
    };
    return html`<${Page} ...${head}>
      ${problem}
      ${data.description && html`<p className="allma-about">${oneLine(data.description)}</p>`}
      <${FlowFacts} flow=${data} put=${put} />
      <${Shown} flow=${data} query=${query} put=${put} onTrigger=${trigger} />
      ${isTrigger && html`<${Trigger} dagId=${dagId} flow=${data} onClose=${() => setTrigger(false)} />`}
    <//>`;
  };
};
