// Address of a page: everything that it shows is in the part after #, so that a link shows the same.

export interface Address {
  path: string;
  query: URLSearchParams;
}

/** `#/adapters/upper?version=2` as its path and its query. */
export function address(): Address {
  const [path = "", query = ""] = location.hash.replace(/^#/, "").split("?", 2);
  return { path, query: new URLSearchParams(query) };
}

/** The same page with other values: no new step for Back. Empty values are left out. */
export function remember(path: string, values: Record<string, string | readonly string[]>): void {
  const now = address().path;
  if (now !== path && now !== "" && now !== "/") return; // a page that is being left must not call its user back
  history.replaceState(history.state, "", link(path, values));
}

export function link(path: string, values: Record<string, string | readonly string[]> = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of [value].flat()) if (each) query.append(name, each);
  }
  const text = query.toString();
  return `#${path}${text && "?"}${text}`;
}

export function adapterLink(name: string, values: Record<string, string> = {}): string {
  return link(`/adapters/${encodeURIComponent(name)}`, values);
}
