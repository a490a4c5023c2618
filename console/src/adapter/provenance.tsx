// Configuration and provenance of a version, as pairs that can be compared.

import type { Schema } from "../lib/api.ts";
import type { Pair } from "../lib/parts.tsx";

type Version = Schema["VersionRead"];

export function provenance(version: Version): Pair[] {
  return [
    ["Base model", version.base],
    ["Trained on", version.base_model],
    ["Kind", version.kind === "activated" ? "activated LoRA" : "LoRA"],
    ["Chat template", version.has_chat_template ? "its own" : "the base model's"],
    ["Sampling defaults", samplingDefaults(version)],
    ["Alpha", version.alpha],
    ["Type", version.dtype],
    ["Parent", version.parent],
    ["Training run", version.training_run],
    ["Dataset", version.dataset],
  ];
}

function samplingDefaults({ sampling_defaults: defaults }: Version): string {
  if (!defaults) return "the base model's";
  return Object.entries(defaults)
    .map(([name, value]) => `${name} ${JSON.stringify(value)}`)
    .join(", ");
}
