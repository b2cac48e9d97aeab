// A page to come.

export default ({ html, Empty }) => function Items() {
  return html`<${Empty} title="Nothing here yet" />`;
};
