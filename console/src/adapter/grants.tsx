// Grants: which tenants may use an adapter besides its owner. Only where there are tenants.

import { request } from "../lib/api.ts";
import { isPlatform, may } from "../lib/caller.ts";
import { confirm, DialogForm, openDialog } from "../lib/dialog.tsx";
import { Field } from "../lib/form.tsx";
import { useAnswer } from "../lib/hooks.ts";
import { Act, Row, Table } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";

const COLUMNS = ["Tenant", "Granted", "By", "Actions"];

export function Grants({ name }: { name: string }) {
  const [answer, refresh] = useAnswer("Grants", (signal) => readGrants(name, signal), [name]);
  if (!answer) return null;
  const add = async () => {
    const action = (form: FormData) =>
      request("put", "/api/v1/adapters/{name}/grants/{tenant}", { path: { name, tenant: String(form.get("tenant")).trim() } });
    await openDialog<true>(`Grant ${name}`, (close) => (
      <DialogForm verb="Grant" action={action} close={close}>
        <Field label="Tenant" hint="It may use the adapter, but neither change it nor read its files.">
          <input name="tenant" required list="tenants" />
        </Field>
        <datalist id="tenants">
          {answer.tenants.map((tenant) => (
            <option key={tenant} value={tenant} />
          ))}
        </datalist>
      </DialogForm>
    ));
    await refresh();
  };
  const remove = async (tenant: string) => {
    const path = { name, tenant };
    const action = () => request("delete", "/api/v1/adapters/{name}/grants/{tenant}", { path });
    const text = `${tenant} can't use ${name} any more; requests that run end as they would.`;
    await confirm({ title: `Withdraw the grant of ${tenant}`, verb: "Withdraw", text, danger: true, action });
    await refresh();
  };
  if (!answer.tenants.length && !answer.grants.length) return null;
  return (
    <section>
      <h2>Grants</h2>
      {answer.grants.length > 0 && (
        <Table label="Grants" columns={COLUMNS}>
          {answer.grants.map((grant) => (
            <Row
              key={grant.tenant}
              columns={COLUMNS}
              cells={[
                grant.tenant,
                <Time at={grant.granted_at} />,
                grant.granted_by,
                <Act label="Withdraw …" name={`Withdraw the grant of ${grant.tenant}`} danger action={() => remove(grant.tenant)} />,
              ]}
            />
          ))}
        </Table>
      )}
      <p class="row">
        <Act label="Grant …" action={add} />
      </p>
    </section>
  );
}

/** Null for a key that may not read them. */
async function readGrants(name: string, signal: AbortSignal) {
  if (!may("admin") || !isPlatform()) return null;
  try {
    const [grants, tenants] = await Promise.all([
      request("get", "/api/v1/adapters/{name}/grants", { path: { name }, signal }),
      request("get", "/api/v1/tenants", { query: { limit: 500 }, signal }),
    ]);
    return { grants: grants.items, tenants: tenants.items.map((tenant) => tenant.name) };
  } catch (error) {
    if ([403, 404, 409].includes((error as { status?: number }).status ?? 0)) return null;
    throw error;
  }
}
