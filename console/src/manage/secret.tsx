// A secret that is shown once: a key's text, a webhook's secret.

import { Field } from "../lib/form.tsx";
import { openDialog } from "../lib/dialog.tsx";

export function showSecret(title: string, secret: string): Promise<true | null> {
  return openDialog<true>(title, (close) => (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        close(true);
      }}
    >
      <Field label="Secret" hint="Copy it now: it is not shown again.">
        <input readOnly value={secret} class="ref" onFocus={(event) => event.currentTarget.select()} />
      </Field>
      <div class="row end">
        <button type="button" onClick={() => void navigator.clipboard?.writeText(secret)}>
          Copy
        </button>
        <button class="primary">Done</button>
      </div>
    </form>
  ));
}
