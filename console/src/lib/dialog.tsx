// Modal dialogs with the browser's own element: Escape closes them, focus stays inside and is restored.

import { render, type ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Problem } from "./api.ts";
import { Field } from "./form.tsx";

let lastId = 0;

/** Resolves to what `close` was called with, or null. */
export function openDialog<T>(
  title: string,
  make: (close: (answer: T | null) => void) => ComponentChildren,
): Promise<T | null> {
  return new Promise((resolve) => {
    const id = `dialog-${(lastId += 1)}`;
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", id);
    // not left to the event, which comes later: what follows must be there once the dialog is gone
    const close = (answer: T | null) => {
      if (dialog.open) dialog.close();
      render(null, dialog);
      dialog.remove();
      resolve(answer);
    };
    dialog.addEventListener("close", () => close(null)); // Escape
    document.body.append(dialog);
    render(
      <>
        <h2 id={id}>{title}</h2>
        {make(close)}
      </>,
      dialog,
    );
    dialog.showModal();
  });
}

interface FormProps {
  verb: string;
  danger?: boolean;
  action: (form: FormData) => Promise<unknown>;
  close: (done: true | null) => void;
  children: ComponentChildren;
}

/** A dialog's form: it stays open with the refusal if the action is refused. */
export function DialogForm({ verb, danger = false, action, close, children }: FormProps) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    setProblem(null);
    setBusy(true);
    try {
      await action(new FormData(event.currentTarget as HTMLFormElement));
      close(true);
    } catch (error) {
      setProblem(error as Problem);
      setBusy(false);
    }
  };
  return (
    <form onSubmit={submit}>
      {children}
      <p class="problem-text" role="alert">
        {problem && (
          <>
            {problem.message} <code class="code">{problem.code ?? "error"}</code>
          </>
        )}
      </p>
      <div class="row end">
        <button type="button" onClick={() => close(null)}>
          Cancel
        </button>
        <button class={danger ? "danger" : "primary"} disabled={isBusy}>
          {isBusy ? `${verb} …` : verb}
        </button>
      </div>
    </form>
  );
}

interface Question {
  title: string;
  verb: string;
  text: ComponentChildren;
  /** Asks for a reason too; `required` where the API wants one. */
  reason?: "optional" | "required";
  danger?: boolean;
  /** To be typed before what can't be undone. */
  repeat?: string;
  action: (reason: string | null) => Promise<unknown>;
}

/** Asks before an action, and resolves to whether it was done. */
export async function confirm(question: Question): Promise<boolean> {
  const { title, verb, text, reason, repeat, danger = repeat !== undefined } = question;
  const done = await openDialog<true>(title, (close) => (
    <DialogForm
      verb={verb}
      danger={danger}
      close={close}
      action={(form) => question.action(String(form.get("reason") ?? "").trim() || null)}
    >
      <p>{text}</p>
      {reason && (
        <Field label="Reason" hint="Stored with the event.">
          <input name="reason" maxLength={1024} required={reason === "required"} />
        </Field>
      )}
      {repeat !== undefined && (
        <Field label={`Type ${repeat} to confirm`}>
          <input pattern={repeat.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")} required autoComplete="off" spellcheck={false} />
        </Field>
      )}
    </DialogForm>
  ));
  return done === true;
}
