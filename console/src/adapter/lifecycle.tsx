// Changes of a version's state: which ones its state allows, and the question before each.

import { request, type Schema } from "../lib/api.ts";
import { confirm } from "../lib/dialog.tsx";
import { may, owns } from "../lib/caller.ts";
import { showResult } from "../lib/notices.tsx";
import { Act } from "../lib/parts.tsx";
import { freed } from "../lib/format.ts";

type Version = Schema["VersionRead"];
type Step = "deprecate" | "quarantine" | "restore" | "retire" | "purge";

const ALLOWED: Record<string, readonly Step[]> = {
  ready: ["deprecate", "quarantine", "retire"],
  deprecated: ["restore", "quarantine", "retire"],
  quarantined: ["restore", "retire"],
  retired: ["restore", "purge"],
  rejected: ["purge"],
};
const VERBS: Record<Step, string> = {
  deprecate: "Deprecate",
  quarantine: "Quarantine",
  restore: "Restore",
  retire: "Retire",
  purge: "Purge",
};
const TEXTS: Record<Step, string> = {
  deprecate: "It is served as before, and each answer says that it is deprecated.",
  quarantine: "Requests for it are refused until it is restored. Its files stay.",
  restore: "It is served again.",
  retire: "It is not served any more. It can be restored until it is purged. An alias that points at it keeps it from being retired.",
  purge: "Its files are deleted. That can't be undone.",
};

export function Lifecycle({ version, refresh }: { version: Version; refresh: () => Promise<void> }) {
  return (
    <>
      {(ALLOWED[version.state] ?? []).filter((step) => isAllowed(version, step)).map((step) => (
        <Act key={step} label={`${VERBS[step]} …`} danger={step === "purge"} action={() => change(version, step, refresh)} />
      ))}
    </>
  );
}

function isAllowed({ adapter }: Version, step: Step): boolean {
  return owns(adapter) && may(step === "quarantine" || step === "purge" ? "operate" : "publish");
}

async function change(version: Version, step: Step, refresh: () => Promise<void>): Promise<void> {
  const path = { name: version.adapter, number: version.number };
  const action = async (reason: string | null) => {
    if (step === "quarantine") {
      await request("post", "/api/v1/adapters/{name}/versions/{number}/quarantine", { path, body: { reason: reason ?? "", code: "operator" } });
    } else if (step === "purge") {
      const purged = await request("post", "/api/v1/adapters/{name}/versions/{number}/purge", { path, body: { reason } });
      showResult(`${version.reference} is purged: ${freed(purged)}`);
    } else if (step === "retire") {
      await request("post", "/api/v1/adapters/{name}/versions/{number}/retire", { path, body: { reason, force: false } });
    } else {
      await request("post", `/api/v1/adapters/{name}/versions/{number}/${step}`, { path, body: { reason } });
    }
  };
  const done = await confirm({
    title: `${VERBS[step]} ${version.reference}`,
    verb: VERBS[step],
    text: TEXTS[step],
    reason: step === "quarantine" ? "required" : "optional",
    danger: step === "quarantine" || step === "purge",
    repeat: step === "purge" ? version.reference : undefined,
    action,
  });
  if (!done) return;
  if (step !== "purge") showResult(`${version.reference}: ${step} done`);
  await refresh();
}
