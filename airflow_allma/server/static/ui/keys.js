// The keys of the page of items, and the dialog that lists them.

const HELP = [
  ["j, ↓", "next item"],
  ["k, ↑", "previous item"],
  ["Enter", "open the item"],
  ["Esc", "close the item"],
  ["/", "search labels"],
  ["g", "go to an item by its index"],
  ["?", "this help"],
];
const FIELDS = "input, textarea, select, [contenteditable=true]";

/** Return whether a pressed key is for the page, not for what has the focus. */
function isForPage(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  if (globalThis.document.querySelector("dialog[open]")) return false;
  const isInside = (selector) => Boolean(event.target.closest?.(selector));
  if (isInside(FIELDS)) {
    if (event.key === "Escape") event.target.blur();
    return false;
  }
  if (event.target !== globalThis.document.body && !isInside(".allma")) return false;
  if (event.key.startsWith("Arrow") && isInside(".allma-item")) return false; // they scroll there
  return event.key !== "Enter" || !isInside("button, a, summary");
}

/** Return the hook `useKeys(actions)`, with a function for each key, and the component Help. */
export function makeKeys({ html, useEffect, useRef, Button, Dialog }) {
  function useKeys(actions) {
    const current = useRef(actions);
    current.current = actions;
    useEffect(() => {
      const pressed = (event) => {
        if (!Object.hasOwn(current.current, event.key) || !isForPage(event)) return;
        current.current[event.key]();
        event.preventDefault();
        event.stopPropagation();
      };
      globalThis.addEventListener("keydown", pressed, true);
      return () => globalThis.removeEventListener("keydown", pressed, true);
    }, []);
  }

  function Help({ onClose }) {
    const close = html`<${Button} kind="primary" onClick=${onClose}>Close<//>`;
    return html`<${Dialog} title="Keys" onClose=${onClose} actions=${close}>
      <dl className="allma-keys">
        ${HELP.map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}
      </dl>
    <//>`;
  }

  return { useKeys, Help };
}
