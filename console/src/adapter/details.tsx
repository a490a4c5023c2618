// What is known of a version: where it is from, what it was trained with, what its inspection found.

import type { Schema } from "../lib/api.ts";
import { Code, Facts, metadataPairs, Tags } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";
import { bytes, count } from "../lib/format.ts";
import { provenance } from "./provenance.tsx";

type Version = Schema["VersionRead"];

export function Details({ version }: { version: Version }) {
  return (
    <div class="columns">
      <Facts
        of={[
          ["Digest", <Code of={version.digest} wrap />],
          ["Source", <span class="wrap">{version.source}</span>],
          ["Revision", version.revision],
          ...provenance(version),
          ["Target modules", version.target_modules.join(", ")],
          ["Tags", version.tags.length ? <Tags of={version.tags} /> : null],
          ["Registered by", version.created_by],
          ["Changed", version.state_changed_at && <Time at={version.state_changed_at} />],
          ...metadataPairs(version.metadata),
        ]}
      />
      <Inspection of={version.inspection} />
    </div>
  );
}

export function Inspection({ of: report }: { of: Schema["InspectionRead"] | null }) {
  if (report === null) return <p class="faint">Not inspected.</p>;
  const files = Object.entries(report.files).map(([name, size]) => `${name} ${bytes(size)}`);
  const ranks = Object.entries(report.ranks).map(([rank, n]) => `${rank} (${count(n, "module")})`);
  return (
    <div>
      <h3>Inspection</h3>
      <Facts
        of={[
          ["Modules", report.modules],
          ["Ranks", ranks.join(", ")],
          ["Tensors", report.tensors],
          ["Parameters", report.parameters.toLocaleString("en")],
          ["Shapes", report.shapes_checked ? "compared with the base model's" : "not compared"],
          ["Inspected for", report.engine],
          ["Files", files.join(", ")],
        ]}
      />
      {report.remarks.length ? (
        <ul>
          {report.remarks.map(({ code, detail }) => (
            <li key={code}>
              <Code of={code} /> {detail}
            </li>
          ))}
        </ul>
      ) : (
        <p class="faint">No remarks.</p>
      )}
    </div>
  );
}
