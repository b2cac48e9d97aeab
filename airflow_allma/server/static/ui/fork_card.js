// What a fork did, in a frame: counts, progress, failures by kind.

export default ({ html }) => function ForkCard({ summary }) {
  return html`<section className="allma-card"><h2>${summary.name ?? summary.fork}</h2></section>`;
};
