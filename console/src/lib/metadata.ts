// Metadata as lines of text, and back: what is not edited stays what it was.

export function linesOf(metadata: Record<string, unknown>): string {
  return Object.entries(metadata)
    .map(([name, value]) => `${written(name, "=")} = ${written(value)}`)
    .join("\n");
}

export function metadataIn(text: string): Record<string, unknown> {
  const pairs = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(pairs.map(pairIn));
}

/** A text as it is, unless it would be read as another value, such as `8` or two lines. */
function written(value: unknown, end = "\n"): string {
  const isPlain = typeof value === "string" && valueOf(value.trim()) === value && !value.includes(end);
  return isPlain && !/[\r\n]/.test(value) ? value : JSON.stringify(value);
}

function pairIn(line: string): [string, unknown] {
  const [, quoted, rest] = /^\s*("(?:[^"\\]|\\.)*")\s*=(.*)$/.exec(line) ?? [];
  if (quoted) return [String(valueOf(quoted)), valueOf(rest!.trim())];
  const [name, ...more] = line.split("=");
  return [name!.trim(), valueOf(more.join("=").trim())];
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
