// What is shown of numbers, times and texts. Nothing here knows a framework.

const CONTROL = "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f";
const INVISIBLE = "\\u061c\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u2069\\ufeff"; // or change the direction
const HIDDEN = new RegExp(`[${CONTROL}${INVISIBLE}]`, "g");

function escaped(sign) {
  const code = sign.codePointAt(0);
  return `\\${code < 0x100 ? "x" : "u"}${code.toString(16).padStart(code < 0x100 ? 2 : 4, "0")}`;
}

/** Return a text with every control character and every invisible or direction-changing one as an escape. */
export function visible(text) {
  return String(text ?? "").replace(HIDDEN, escaped);
}

/** Return a text as one line: line breaks and tabs are escapes too. */
export function oneLine(text) {
  return visible(text).replaceAll("\n", "\\n").replaceAll("\t", "\\t");
}

const NUMBERS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

/** Return a whole number with separators, or "?" if it is not known. */
export function number(value) {
  return value === null || value === undefined ? "?" : NUMBERS.format(value);
}

/** Return a sum of money with two decimals; one below 1 with two significant digits. */
export function amount(value) {
  if (typeof value !== "number") return "?";
  if (value > 0 && value < 1) return value.toLocaleString("en-US", { maximumSignificantDigits: 2 });
  return value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

/** Return a number with three significant digits, such as a rate. */
export function rough(value) {
  return value >= 1000 ? NUMBERS.format(value) : SHORT.format(value);
}

/** Return "1 item" or "37 items". */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** Return seconds as "< 1 ms", "85 ms", "3.2 s", "4 min 05 s" or "2 h 10 min". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  if (seconds < 0.0005) return seconds > 0 ? "< 1 ms" : "0 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const pad = (value) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${NUMBERS.format(Math.floor(whole / 3600))} h ${pad(Math.floor((whole % 3600) / 60))} min`;
}

/** Return bytes as "512 B", "3.4 KiB" or "1.2 MiB". */
export function bytes(value) {
  if (value === null || value === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let left = value;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit && left < 10 ? left.toFixed(1) : Math.round(left)} ${units[unit]}`;
}

function timeZone() {
  try {
    // Where Airflow keeps the user's choice
    const zone = JSON.parse(globalThis.localStorage.getItem("timezone") ?? '"UTC"');
    return zone === "local" ? undefined : zone;
  } catch {
    return "UTC";
  }
}

/** Return a moment as Airflow shows it, in the time zone that the user chose there: "2026-11-25 16:31:14". */
export function moment(value) {
  if (value === null || value === undefined || value === "") return "";
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  if (Number.isNaN(date.getTime())) return visible(value);
  const options = { dateStyle: "short", timeStyle: "medium", timeZone: timeZone() };
  try {
    return new Intl.DateTimeFormat("sv-SE", options).format(date);
  } catch {
    return new Intl.DateTimeFormat("sv-SE", { ...options, timeZone: "UTC" }).format(date);
  }
}
