// What the model calls of a run took: a line for the whole run, which opens to a table by model.

const MAX_ROWS = 50;
const MAX_NAME = 200;
const OTHERS = "other models"; // the name that the server gives to models beyond its limit

function add(total, one) {
  for (const name of ["calls", "inputTokens", "outputTokens", "cachedAnswers"]) {
    total[name] = (total[name] ?? 0) + (one[name] ?? 0);
  }
  for (const [currency, sum] of Object.entries(one.costs ?? {})) {
    total.costs[currency] = (total.costs[currency] ?? 0) + sum;
  }
  return total;
}

const tokensOf = ({ inputTokens = 0, outputTokens = 0 }) => inputTokens + outputTokens;

/** Return the account. */
export default (kit) => {
  const { html, amount, count, number, oneLine, Table } = kit;

  function costsOf({ costs }) {
    const sorted = Object.entries(costs ?? {}).sort(([, one], [, other]) => other - one);
    return sorted.map(([currency, sum]) => `${amount(sum)} ${oneLine(currency)}`).join(", ");
  }

  function Model({ name }) {
    const shown = oneLine(name);
    const isLong = shown.length > MAX_NAME;
    return html`<span title=${isLong ? shown : undefined}>${shown.slice(0, MAX_NAME)}${isLong && "…"}</span>`;
  }

  function titleOf(models) {
    if (models.length === 1) return html`<${Model} name=${models[0].model} />`;
    const hasOthers = models.some(({ model }) => model === OTHERS);
    return hasOthers ? `${number(models.length - 1)} models and others` : count(models.length, "model");
  }

  function columnsFor(total) {
    const className = "number";
    const numberOf = (key, title) => ({ key, title, className, cell: (row) => number(row[key] ?? 0) });
    const nameOf = (row) => html`<${Model} name=${row.model} />`;
    return [
      { key: "model", title: "Model", className: "model", cell: nameOf },
      numberOf("calls", "Answers"),
      total.cachedAnswers > 0 && numberOf("cachedAnswers", "From the cache"),
      numberOf("inputTokens", "Tokens in"),
      numberOf("outputTokens", "Tokens out"),
      costsOf(total) && { key: "costs", title: "Cost", className, cell: costsOf },
    ].filter(Boolean);
  }

  return function Tokens({ models }) {
    if (!models?.length) return null;
    const total = models.reduce(add, { costs: {} });
    const rows = [...models].sort((one, other) => tokensOf(other) - tokensOf(one)).slice(0, MAX_ROWS);
    const parts = [
      count(total.calls, "answer"),
      `${number(total.inputTokens)} tokens in, ${number(total.outputTokens)} out`,
      total.cachedAnswers > 0 && `${count(total.cachedAnswers, "answer")} from the cache`,
      costsOf(total),
    ];
    const more = models.length - rows.length;
    return html`<details className="allma-tokens">
      <summary><strong>${titleOf(models)}</strong> ${parts.filter(Boolean).join(" · ")}</summary>
      <${Table} label="Tokens by model" columns=${columnsFor(total)} rows=${rows}
        keyOf=${(row) => row.model} />
      ${more > 0 && html`<p className="muted">${number(more)} more with fewer tokens</p>`}
    </details>`;
  };
};
