// Pins: what operators keep in memory.

import { link } from "../lib/address.ts";
import { request } from "../lib/api.ts";
import { DialogForm, openDialog } from "../lib/dialog.tsx";
import { Field } from "../lib/form.tsx";
import { useAnswer } from "../lib/hooks.ts";
import { Act, Row, Table } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";
import { pin, unpin, type Tier } from "../lib/cache-actions.ts";
import { ManagePage } from "./page.tsx";

const COLUMNS = ["Reference", "Tier", "Until", "Actions"];

export function PinsPage() {
  const [pins, refresh] = useAnswer("Pins", (signal) => request("get", "/api/v1/cache/pins", { signal }));
  const add = async () => {
    const action = (form: FormData) => {
      const minutes = Number(form.get("minutes"));
      return pin(String(form.get("reference")).trim(), String(form.get("tier")) as Tier, minutes ? minutes * 60 : null);
    };
    await openDialog<true>("Pin an adapter", (close) => (
      <DialogForm verb="Pin" action={action} close={close}>
        <Field label="Reference">
          <input name="reference" required placeholder="upper, upper@prod or upper:3" spellcheck={false} />
        </Field>
        <Field label="Tier">
          <select name="tier">
            <option value="gpu">GPU slot</option>
            <option value="host">host memory</option>
          </select>
        </Field>
        <Field label="For (minutes)" hint="Empty: until it is unpinned.">
          <input name="minutes" type="number" min={1} class="narrow" />
        </Field>
      </DialogForm>
    ));
    await refresh();
  };
  const remove = async (reference: string) => {
    await unpin(reference);
    await refresh();
  };
  return (
    <ManagePage title="Pins" actions={<Act label="Pin …" action={add} />}>
      {pins && !pins.items.length && <p class="faint">Nothing is pinned: the cache decides what stays in memory.</p>}
      {pins && pins.items.length > 0 && (
        <Table label="Pins" columns={COLUMNS}>
          {pins.items.map((each) => (
            <Row
              key={`${each.reference} ${each.tier}`}
              columns={COLUMNS}
              cells={[
                <a class="ref" href={link("/cache", { ref: each.reference })}>
                  {each.reference}
                </a>,
                each.tier === "gpu" ? "GPU slot" : "host memory",
                each.expires_at ? <Time at={each.expires_at} /> : "unpinned",
                <Act label="Unpin" name={`Unpin ${each.reference}`} action={() => remove(each.reference)} />,
              ]}
            />
          ))}
        </Table>
      )}
    </ManagePage>
  );
}
