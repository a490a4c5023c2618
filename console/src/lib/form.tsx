// Fields of forms: a label, its control and a hint that belong together for screen readers.

import { cloneElement, type ComponentChildren, type VNode } from "preact";
import { useState } from "preact/hooks";

let lastId = 0;

/** An id that no other part of the page has, whichever root it is rendered into. */
export function useOwnId(): string {
  return useState(() => `field-${(lastId += 1)}`)[0];
}

interface FieldProps {
  label: string;
  hint?: ComponentChildren;
  children: VNode<any>;
}

export function Field({ label, hint = null, children }: FieldProps) {
  const made = useOwnId();
  const id = (children.props as { id?: string }).id ?? made;
  const described = hint === null ? undefined : `${id}-hint`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {cloneElement(children, { id, "aria-describedby": described })}
      {described && <small id={described}>{hint}</small>}
    </div>
  );
}

export function Check({ label, ...control }: { label: ComponentChildren } & Record<string, unknown>) {
  return (
    <label class="check">
      <input type="checkbox" {...control} />
      <span>{label}</span>
    </label>
  );
}
