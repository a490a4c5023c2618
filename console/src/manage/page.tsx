// Pages of the registry's own matters, with the links between them.

import { mayOpen } from "../lib/caller.ts";
import type { ComponentChildren } from "preact";

export const MANAGED = [
  ["jobs", "Jobs"],
  ["pins", "Pins"],
  ["keys", "Keys"],
  ["tenants", "Tenants"],
  ["webhooks", "Webhooks"],
  ["server", "Server"],
] as const;

interface Props {
  title: string;
  actions?: ComponentChildren;
  children: ComponentChildren;
}

export function ManagePage({ title, actions, children }: Props) {
  return (
    <>
      <div class="page-head">
        <h1>{title}</h1>
        <nav class="row" aria-label="Manage">
          {MANAGED.filter(([path]) => mayOpen(path)).map(([path, name]) => (
            <a key={path} href={`#/${path}`} aria-current={name === title ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <p class="row end-of-line">{actions}</p>
      </div>
      {children}
    </>
  );
}
