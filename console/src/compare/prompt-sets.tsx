// Sets of prompts that have a name: chosen, saved, renamed, deleted. A tenant's keys share them.

import { request } from "../lib/api.ts";
import { may } from "../lib/caller.ts";
import { confirm, DialogForm, openDialog } from "../lib/dialog.tsx";
import { Field } from "../lib/form.tsx";
import { useAnswer } from "../lib/hooks.ts";
import { clearProblem, showProblem, showResult } from "../lib/notices.tsx";
import { Act } from "../lib/parts.tsx";
import { count } from "../lib/format.ts";

const PATH = "/api/v1/prompts/{name}";

interface Props {
  chosen: string;
  /** Those in the form now, which may differ from the chosen set's. */
  written: () => readonly string[];
  onChoose: (name: string, prompts: readonly string[]) => void;
}

export function PromptSets({ chosen, written, onChoose }: Props) {
  const [list, refresh] = useAnswer("Sets of prompts", (signal) => request("get", "/api/v1/prompts", { signal }));
  const sets = list?.items ?? [];
  const choose = async (name: string) => {
    try {
      onChoose(name, name ? await readPrompts(name) : []);
      clearProblem("Saved prompts");
    } catch (error) {
      showProblem(error, "Saved prompts");
      await refresh(); // it may have been deleted meanwhile
    }
  };
  const save = async () => {
    const prompts = written();
    if (!prompts.length) throw new Error("there are no prompts to save: write one a line");
    const name = await askName("Save the prompts", "Save", "A set of this name gets these prompts.", chosen, (name) => request("put", PATH, { path: { name }, body: { prompts: [...prompts] } }));
    if (name) onChoose(name, prompts);
    if (name) showResult(`${count(prompts.length, "prompt")} saved as ${name}`);
    await refresh();
  };
  const rename = async () => {
    const name = await askName(`Rename ${chosen}`, "Rename", "No other set may have it.", chosen, (name) => request("patch", PATH, { path: { name: chosen }, body: { name } }));
    if (name) onChoose(name, written());
    await refresh();
  };
  const remove = async () => {
    const action = () => request("delete", PATH, { path: { name: chosen } });
    const text = "Links that name it show no prompts any more.";
    if (await confirm({ title: `Delete ${chosen}`, verb: "Delete", text, danger: true, action })) onChoose("", written());
    await refresh();
  };
  const mayChange = may("publish", "operate");
  if (!sets.length && !mayChange) return null;
  return (
    <div class="row saved-prompts">
      <Field label="Saved prompts">
        <select value={chosen} onChange={(event) => void choose(event.currentTarget.value)}>
          <option value="">{sets.length ? "none of them" : "none yet"}</option>
          {chosen && !sets.some(({ name }) => name === chosen) && <option value={chosen}>{chosen}</option>}
          {sets.map(({ name, number }) => (
            <option key={name} value={name}>
              {name} ({number})
            </option>
          ))}
        </select>
      </Field>
      {mayChange && <Act label="Save …" name="Save the prompts …" action={save} />}
      {mayChange && chosen && <Act label="Rename …" name={`Rename ${chosen} …`} action={rename} />}
      {mayChange && chosen && <Act label="Delete …" name={`Delete ${chosen} …`} danger action={remove} />}
    </div>
  );
}

export async function readPrompts(name: string, signal?: AbortSignal): Promise<readonly string[]> {
  return (await request("get", PATH, { path: { name }, signal })).prompts;
}

/** The name under which it was done, or null. */
async function askName(title: string, verb: string, hint: string, name: string, action: (name: string) => Promise<unknown>): Promise<string | null> {
  let given = "";
  const done = await openDialog<true>(title, (close) => (
    <DialogForm verb={verb} close={close} action={(form) => action((given = String(form.get("name")).trim()))}>
      <Field label="Name" hint={`Letters, digits, dots, _ and -. ${hint}`}>
        <input name="name" required pattern="[A-Za-z0-9][A-Za-z0-9._\-]*" maxLength={64} spellcheck={false} defaultValue={name} />
      </Field>
    </DialogForm>
  ));
  return done ? given : null;
}
