// Webhooks: where events are sent, and each delivery.

import { useState } from "preact/hooks";
import { request, type Schema } from "../lib/api.ts";
import { confirm, DialogForm, openDialog } from "../lib/dialog.tsx";
import { Field } from "../lib/form.tsx";
import { useAnswer, useInterval } from "../lib/hooks.ts";
import { showResult } from "../lib/notices.tsx";
import { Act, Row, State, Table } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";
import { count } from "../lib/format.ts";
import { ManagePage } from "./page.tsx";
import { showSecret } from "./secret.tsx";

type Webhook = Schema["WebhookRead"];

const COLUMNS = ["URL", "Events", "Adapters", "State", "Waiting", "Actions"];
const DELIVERIES = ["Event", "State", "Attempts", "Answer", "Created", "Actions"];
const POLL_MS = 3000;

export function WebhooksPage() {
  const [page, refresh] = useAnswer("Webhooks", (signal) => request("get", "/api/v1/webhooks", { query: { limit: 500 }, signal }));
  const [open, setOpen] = useState<number | null>(null);
  const add = async () => {
    const action = async (form: FormData) => {
      const words = (field: string) => String(form.get(field)).split(/[\s,]+/).filter(Boolean);
      const made = await request("post", "/api/v1/webhooks", {
        body: {
          url: String(form.get("url")).trim(),
          description: String(form.get("description")).trim() || null,
          kinds: words("kinds"),
          adapters: words("adapters"),
        } as Schema["WebhookCreate"],
      });
      void showSecret(`The secret of ${made.url}`, made.secret);
    };
    await openDialog<true>("New webhook", (close) => (
      <DialogForm verb="Create" action={action} close={close}>
        <Field label="URL">
          <input name="url" type="url" required />
        </Field>
        <Field label="Events" hint="Such as alias.moved; empty: all.">
          <input name="kinds" spellcheck={false} />
        </Field>
        <Field label="Adapters" hint="Empty: all.">
          <input name="adapters" spellcheck={false} />
        </Field>
        <Field label="Description">
          <input name="description" maxLength={1024} />
        </Field>
      </DialogForm>
    ));
    await refresh();
  };
  return (
    <ManagePage title="Webhooks" actions={<Act label="New webhook …" action={add} />}>
      {page && !page.items.length && <p class="faint">No webhooks. Events can be sent to an address of yours, signed.</p>}
      {page && page.items.length > 0 && (
        <Table label="Webhooks" columns={COLUMNS}>
          {page.items.map((webhook) => (
            <WebhookRows
              key={webhook.id}
              webhook={webhook}
              isOpen={open === webhook.id}
              toggle={() => setOpen(open === webhook.id ? null : webhook.id)}
              refresh={refresh}
            />
          ))}
        </Table>
      )}
    </ManagePage>
  );
}

interface RowsProps {
  webhook: Webhook;
  isOpen: boolean;
  toggle: () => void;
  refresh: () => Promise<void>;
}

function WebhookRows({ webhook, isOpen, toggle, refresh }: RowsProps) {
  const path = { webhook: webhook.id };
  const test = async () => {
    await request("post", "/api/v1/webhooks/{webhook}/test", { path });
    showResult(`a test message is sent to ${webhook.url}`);
    await refresh();
  };
  const enable = async () => {
    await request("patch", "/api/v1/webhooks/{webhook}", { path, body: { enabled: !webhook.enabled } as Schema["WebhookChange"] });
    await refresh();
  };
  const remove = async () => {
    const action = () => request("delete", "/api/v1/webhooks/{webhook}", { path });
    const text = "Its deliveries are deleted with it, also those that wait. That can't be undone.";
    if (await confirm({ title: "Delete the webhook", verb: "Delete", text: `${webhook.url}: ${text}`, danger: true, action })) await refresh();
  };
  const cells = [
    <span class="wrap">{webhook.url}</span>,
    webhook.kinds.join(", ") || "all",
    webhook.adapters.join(", ") || "all",
    <>
      <State of={webhook.enabled ? "enabled" : "disabled"} /> {webhook.disabled_reason}
      {webhook.failures > 0 && ` ${count(webhook.failures, "failure")} in a row`}
    </>,
    webhook.pending,
    <div class="row">
      <Act label="Deliveries" name={`Deliveries to ${webhook.url}`} expanded={isOpen} action={toggle} />
      <Act label="Test" name={`Test ${webhook.url}`} action={test} />
      <Act label={webhook.enabled ? "Disable" : "Enable"} action={enable} />
      <Act label="Delete …" name={`Delete ${webhook.url}`} danger action={remove} />
    </div>,
  ];
  return (
    <>
      <Row columns={COLUMNS} cells={cells} />
      {isOpen && (
        <tr role="row" class="open">
          <td role="cell" colSpan={COLUMNS.length}>
            <Deliveries webhook={webhook.id} />
          </td>
        </tr>
      )}
    </>
  );
}

function Deliveries({ webhook }: { webhook: number }) {
  const load = (signal: AbortSignal) =>
    request("get", "/api/v1/webhooks/{webhook}/deliveries", { path: { webhook }, query: { limit: 50 }, signal });
  const [page, refresh] = useAnswer("Deliveries", load, [webhook]);
  useInterval(POLL_MS, refresh);
  const retry = async (delivery: number) => {
    await request("post", "/api/v1/webhooks/{webhook}/deliveries/{delivery}/retry", { path: { webhook, delivery } });
    await refresh();
  };
  if (!page?.items.length) return <p class="faint">{page ? "No deliveries yet." : "Loading …"}</p>;
  return (
    <Table label="Deliveries, newest first" columns={DELIVERIES}>
      {page.items.map((each) => (
        <Row
          key={each.id}
          columns={DELIVERIES}
          cells={[
            each.kind,
            <State of={each.state} />,
            each.attempts,
            [each.status_code, each.error].filter(Boolean).join(" "),
            <Time at={each.created_at} />,
            each.state === "failed" && <Act label="Retry" name={`Retry ${each.message_id}`} action={() => retry(each.id)} />,
          ]}
        />
      ))}
    </Table>
  );
}
