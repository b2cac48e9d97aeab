// A page to come.

export default ({ html, Empty }) => function Page() {
  return html`<${Empty} title="Nothing here yet" />`;
};
