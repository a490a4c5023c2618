// What was dropped or chosen, as the files to send: an adapter's files, or one tar.

import { unzip } from "./unzip.ts";

// as registry/sources takes them: all else in a folder, such as an optimizer's state, is not sent
const NEEDED = ["adapter_config.json", "adapter_model.safetensors"];
const TAKEN = new Set([...NEEDED, "chat_template.jinja", "tokenizer_config.json", "generation_config.json"]);
const TARS = /\.(tar|tar\.gz|tgz)$/i;

export interface Chosen {
  files: File[];
  /** A name to begin with, from the folder or the archive. */
  name: string;
}

/** Throws an Error with a sentence for the user if there is no adapter in it. */
export async function choose(given: readonly File[], folder = ""): Promise<Chosen> {
  const [first] = given;
  if (first && given.length === 1 && TARS.test(first.name)) {
    return { files: [first], name: nameOf(first.name.replace(TARS, "")) };
  }
  if (first && given.length === 1 && /\.zip$/i.test(first.name)) {
    const files = await unzip(first, (path) => TAKEN.has(base(path)));
    return checked(files, first.name.replace(/\.zip$/i, ""));
  }
  const files = given.filter((file) => TAKEN.has(file.name));
  return checked(files, folder || first?.webkitRelativePath.split("/")[0] || "");
}

function checked(files: File[], name: string): Chosen {
  const names = files.map((file) => base(file.name));
  const missing = NEEDED.filter((needed) => !names.includes(needed));
  if (missing.length) {
    const pickle = "PEFT writes both with save_pretrained().";
    throw new Error(`There is no ${missing.join(" and no ")} in it. ${pickle}`);
  }
  const twice = names.find((each, n) => names.indexOf(each) !== n);
  if (twice) throw new Error(`${twice} is in it more than once: choose the folder of one adapter.`);
  return { files, name: nameOf(name) };
}

export function base(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function nameOf(text: string): string {
  return text.toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "").slice(0, 64);
}

/** The files of a drop, with those of folders in it. */
export async function dropped(items: DataTransferItemList): Promise<{ files: File[]; folder: string }> {
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const files = (await Promise.all(entries.map(filesIn))).flat();
  const folder = entries.length === 1 && entries[0]!.isDirectory ? entries[0]!.name : "";
  return { files, folder };
}

async function filesIn(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) return [await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail))];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.filter((each) => each.isFile).map(filesIn))).flat();
}
