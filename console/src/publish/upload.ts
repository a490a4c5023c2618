// Upload with progress, which fetch can't report: by XMLHttpRequest.

import { address, errorIn, key, part, Problem, type Schema } from "../lib/api.ts";
import { base } from "./files.ts";

export type Registered = Schema["VersionRead"] | Schema["JobRead"];

interface Options {
  fields: Record<string, string>;
  signal: AbortSignal;
  onProgress: (sent: number, total: number) => void;
}

/** The version, or the job that registers it. Throws Problem. */
export function upload(name: string, files: readonly File[], options: Options): Promise<Registered> {
  const form = new FormData();
  for (const [field, value] of Object.entries(options.fields)) if (value) form.append(field, value);
  for (const file of files) form.append("files", file, base(file.name));
  const sending = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    sending.open("POST", address(`api/v1/adapters/${part(name)}/versions`, { wait: 0 }));
    if (key.get()) sending.setRequestHeader("Authorization", `Bearer ${key.get()}`);
    sending.responseType = "json";
    sending.upload.addEventListener("progress", ({ loaded, total }) => options.onProgress(loaded, total));
    sending.addEventListener("load", () => {
      const { status, response, statusText } = sending;
      if (status < 300) return resolve(response as Registered);
      const { code, detail } = errorIn(response, status, statusText);
      reject(new Problem(status, code, detail, null, response));
    });
    const lost = () => reject(new Problem(0, "unreachable", "the upload was interrupted"));
    sending.addEventListener("error", lost);
    sending.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    options.signal.addEventListener("abort", () => sending.abort());
    sending.send(form);
  });
}
