// The field in which users write a payload: of a run that they start, or of an event that they send.

import { RequestError } from "./data.js";

/** Return the value that a user wrote as JSON; a `RequestError` with a sentence if it is not JSON. */
export function parsePayload(text) {
  try {
    return JSON.parse(text || "{}");
  } catch (problem) {
    throw new RequestError(0, `The payload is not JSON: ${problem.message}`);
  }
}

/** Return the component PayloadField. */
export function makePayloadField({ html }) {
  return function PayloadField({ text, setText, rows }) {
    const change = (event) => setText(event.currentTarget.value);
    return html`<label className="allma-field">Payload, a JSON object
      <textarea rows=${rows} spellCheck=${false} value=${text} onInput=${change}
        onChange=${change}></textarea>
    </label>`;
  };
}
