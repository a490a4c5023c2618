// Tenants: their limits, and what they use of them.

import { link } from "../lib/address.ts";
import { request, type Schema } from "../lib/api.ts";
import { confirm, DialogForm, openDialog } from "../lib/dialog.tsx";
import { Field } from "../lib/form.tsx";
import { useAnswer } from "../lib/hooks.ts";
import { showResult } from "../lib/notices.tsx";
import { Act, Row, Table } from "../lib/parts.tsx";
import { bytes, count } from "../lib/format.ts";
import { ManagePage } from "./page.tsx";

type Tenant = Schema["TenantRead"];
type Limit = Exclude<keyof Schema["TenantChange"], undefined>;

const LIMITS: readonly (readonly [Limit, string, ((value: number) => string)?])[] = [
  ["max_requests_in_flight", "Requests in flight"],
  ["max_slots", "Slots"],
  ["max_host_bytes", "Host memory", bytes],
  ["max_pins", "Pins"],
  ["max_storage_bytes", "Stored", bytes],
  ["max_registrations_per_hour", "Registrations an hour"],
  ["max_requests_per_minute", "Requests a minute"],
  ["max_tokens_per_minute", "Tokens a minute"],
  ["max_bytes_per_minute", "Bytes a minute", bytes],
];
const USED: Partial<Record<Limit, keyof Schema["TenantUsage"]>> = {
  max_requests_in_flight: "requests_in_flight",
  max_slots: "slots",
  max_host_bytes: "host_bytes",
  max_pins: "pins",
  max_storage_bytes: "storage_bytes",
  max_registrations_per_hour: "registrations_in_last_hour",
};
const USES = LIMITS.filter(([limit]) => USED[limit]);
/** Limits per minute, of which nothing is stored: one column has them all. */
const RATES: readonly (readonly [Limit, (value: number) => string])[] = [
  ["max_requests_per_minute", (value) => count(value, "request")],
  ["max_tokens_per_minute", (value) => count(value, "token")],
  ["max_bytes_per_minute", bytes],
];
const MOST = 100;

export function TenantsPage() {
  const [page, refresh] = useAnswer("Tenants", readTenants);
  const tenants = page?.items;
  const columns = ["Tenant", ...USES.map(([, title]) => title), "Most a minute", "Actions"];
  const create = async () => {
    const action = (form: FormData) =>
      request("post", "/api/v1/tenants", { body: { name: String(form.get("name")).trim(), ...limitsIn(form) } as Schema["TenantCreate"] });
    await openDialog<true>("New tenant", (close) => (
      <DialogForm verb="Create" action={action} close={close}>
        <Field label="Name" hint="Its adapters and keys are named name~….">
          <input name="name" required spellcheck={false} />
        </Field>
        <Limits of={null} />
      </DialogForm>
    ));
    await refresh();
  };
  return (
    <ManagePage title="Tenants" actions={<Act label="New tenant …" action={create} />}>
      {tenants && !tenants.length && <p class="faint">There are no tenants: all adapters and keys are the platform's.</p>}
      {tenants && tenants.length > 0 && (
        <Table label="Tenants: use of limits" columns={columns}>
          {tenants.map((tenant) => (
            <Row key={tenant.name} columns={columns} cells={cellsOf(tenant, refresh)} />
          ))}
        </Table>
      )}
      {page?.isCut && <p class="faint">These are the first {MOST}: <code>adaptry tenant list</code> has the others.</p>}
    </ManagePage>
  );
}

async function readTenants(signal: AbortSignal) {
  const { items, next_page_token } = await request("get", "/api/v1/usage/tenants", { query: { limit: MOST }, signal });
  return { items, isCut: next_page_token !== null };
}

function cellsOf(tenant: Schema["TenantUsageRead"], refresh: () => Promise<void>) {
  const change = async () => {
    const action = (form: FormData) =>
      request("patch", "/api/v1/tenants/{tenant}", { path: { tenant: tenant.name }, body: limitsIn(form) as Schema["TenantChange"] });
    await openDialog<true>(`Limits of ${tenant.name}`, (close) => (
      <DialogForm verb="Save" action={action} close={close}>
        <Limits of={tenant} />
      </DialogForm>
    ));
    await refresh();
  };
  const remove = async () => {
    const action = () => request("delete", "/api/v1/tenants/{tenant}", { path: { tenant: tenant.name } });
    const text = "Only a tenant without adapters and keys can be deleted.";
    if (await confirm({ title: `Delete ${tenant.name}`, verb: "Delete", text, repeat: tenant.name, action })) {
      showResult(`${tenant.name} is deleted`);
      await refresh();
    }
  };
  return [
    <a class="ref" href={link("/adapters", { tenant: tenant.name })}>
      {tenant.name}
    </a>,
    ...USES.map(([limit, , format = String]) => {
      const most = tenant[limit];
      const used = format(tenant.usage[USED[limit]!] as number);
      return (
        <span class="whole">
          {used} of {most === null ? "any" : format(most)}
        </span>
      );
    }),
    ratesOf(tenant),
    <div class="row whole">
      <Act label="Limits …" name={`Limits of ${tenant.name}`} action={change} />
      <Act label="Delete …" name={`Delete ${tenant.name}`} danger action={remove} />
    </div>,
  ];
}

function ratesOf(tenant: Tenant): string {
  const given = RATES.filter(([limit]) => tenant[limit] !== null);
  return given.map(([limit, format]) => format(tenant[limit] as number)).join(", ") || "any";
}

function Limits({ of: tenant }: { of: Tenant | null }) {
  return (
    <div class="columns">
      {LIMITS.map(([limit, title]) => (
        <Field key={limit} label={title} hint={limit.includes("bytes") ? "Bytes; empty: no limit." : "Empty: no limit."}>
          <input name={limit} type="number" min={0} defaultValue={String(tenant?.[limit] ?? "")} />
        </Field>
      ))}
    </div>
  );
}

function limitsIn(form: FormData): Record<string, number | null> {
  return Object.fromEntries(
    LIMITS.map(([limit]) => {
      const text = String(form.get(limit) ?? "");
      return [limit, text === "" ? null : Number(text)];
    }),
  );
}
