// JSON text by lines: where each value is in it, for "show the step in the source".

const TOKEN = /"(?:[^"\\\n]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+|\n/g;

/** Return a map from paths (as JSON arrays of keys and indexes) to {first, last}: lines, from 1.
 *
 * Of text that is not JSON it has what comes before the error.
 */
export function linesOf(text) {
  const found = new Map();
  const stack = []; // {path, index, key, isList}
  let line = 1;
  let isKey = false;
  const path = () => {
    const top = stack.at(-1);
    return top ? [...top.path, top.isList ? top.index : top.key] : [];
  };
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === "\n") {
      line += 1;
    } else if (token === "{" || token === "[") {
      const own = path();
      found.set(JSON.stringify(own), { first: line, last: line });
      stack.push({ path: own, index: 0, key: null, isList: token === "[" });
      isKey = token === "{";
    } else if (token === "}" || token === "]") {
      const closed = stack.pop();
      if (!closed) return found;
      found.get(JSON.stringify(closed.path)).last = line;
      isKey = false;
    } else if (token === ",") {
      const top = stack.at(-1);
      if (top?.isList) top.index += 1;
      isKey = Boolean(top && !top.isList);
    } else if (token === ":") {
      isKey = false;
    } else if (isKey) {
      try {
        stack.at(-1).key = JSON.parse(token);
      } catch {
        return found;
      }
    } else {
      found.set(JSON.stringify(path()), { first: line, last: line });
    }
  }
  return found;
}

function nameIn(container, key) {
  // Steps can be a list; each then says its id.
  if (!Array.isArray(container) || typeof key !== "string") return key;
  return container.findIndex((one) => one?.stepInstanceId === key);
}

/** Return the value at a path of parsed JSON; undefined if there is none. */
export function valueAt(value, path) {
  let found = value;
  for (const key of path) {
    if (found === null || typeof found !== "object") return undefined;
    found = found[nameIn(found, key)];
  }
  return found;
}

/** Return the path as it is in this JSON, where steps may be a list: keys become indexes. */
export function pathIn(value, path) {
  const own = [];
  let found = value;
  for (const key of path) {
    if (found === null || typeof found !== "object") return null;
    const name = nameIn(found, key);
    if (!Object.hasOwn(found, name)) return null;
    own.push(name);
    found = found[name];
  }
  return own;
}
