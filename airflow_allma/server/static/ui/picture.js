// The picture of a flow.

export default () => function Picture() {
  return null;
};
